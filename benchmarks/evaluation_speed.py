"""Time of an evaluation against plain batched loops: likelihood of answers, and generation.

    python -m benchmarks.evaluation_speed    # five minutes of one core

Same rows, tokens, batches and padding by the longest of a batch; the plain loops sort by length as
well, and do what a user writes with Transformers alone: a forward pass with log-probabilities of
the answers' tokens, and ``generate``. Ours is the function of the step ``evaluate``, with
tokenising, the harness, matching and items, which the loops have not. It does likelihood and
generation in one call, so what is compared is both together; the loops are timed one by one, and
their sum is taken. Medians of CPU seconds on one thread, taken in turns.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import inputs
from flows.calibration.shapes import tokenizer_of, words_of

ROUNDS, ROWS, BATCH = 3, 64, 16
CASES = ((2048, 128, 16), (32_768, 128, 16), (2048, 128, 1))
"""Vocabulary, tokens of a row, tokens generated; with one, nearly all of the time is likelihood."""


def rows_of(vocabulary: int, tokens: int) -> list[tuple[str, str]]:
    """Prompts and answers; a quarter of a row is the answer, and lengths vary by half."""
    import random

    draw, words = random.Random(0), words_of(vocabulary)
    rows = []
    for _ in range(ROWS):
        length = draw.randint(tokens // 2, tokens)
        text = draw.choices(words, k=length)
        cut = length - length // 4
        rows.append((" ".join(text[:cut]) + " ", " ".join(text[cut:])))
    return rows


def likelihood(model: Any, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
    """Log-likelihood of each answer, by a plain batched forward pass."""
    import torch

    found = [0.0] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda n: -sum(map(len, pairs[n])))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        rows = [[*pairs[n][0], *pairs[n][1]] for n in batch]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits
            for place, n in enumerate(batch):
                prompt, answer = pairs[n]
                end = len(prompt) + len(answer)
                scores = logits[place, len(prompt) - 1 : end - 1].float().log_softmax(-1)
                taken = scores.gather(-1, torch.tensor(answer)[:, None])
                found[n] = float(taken.sum())
    return found


def generation(model: Any, pairs: list[tuple[list[int], list[int]]], tokens: int) -> None:
    """Greedy answers, by ``generate`` on batches of like length."""
    import torch

    prompts = sorted((prompt for prompt, _ in pairs), key=len, reverse=True)
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        with torch.inference_mode():
            model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )


def compare(vocabulary: int, tokens: int, answer: int, size: inputs.Size) -> dict[str, float]:
    """Return median seconds of ours and of the two loops; checks that the likelihoods agree."""
    from paraknow_core.data.examples import Example
    from paraknow_core.evaluation.evaluate import evaluate

    model = inputs.model(size, vocabulary=vocabulary)
    model.config.use_cache = True
    model.generation_config.eos_token_id = None  # answers of random models have no end anyway
    tokenizer = tokenizer_of(vocabulary)
    rows = rows_of(vocabulary, tokens)
    examples = [Example(id=str(n), prompt=p, answer=a) for n, (p, a) in enumerate(rows)]
    pairs = [(tokenizer(p)["input_ids"], tokenizer(a)["input_ids"]) for p, a in rows]
    taken: dict[str, list[float]] = {"ours": [], "likelihood": [], "generation": []}
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: evaluate(
            model, tokenizer, examples, max_new_tokens=answer, batch_size=BATCH
        ),
        "likelihood": lambda: likelihood(model, pairs),
        "generation": lambda: generation(model, pairs, answer),
    }
    found: dict[str, Any] = {}
    for number in range(ROUNDS + 1):  # the first, which imports, is not counted
        for name, side in sides.items():
            began = time.process_time()
            found[name] = side()
            if number:
                taken[name].append(time.process_time() - began)
    nll = [item.nll for item in found["ours"].items]
    apart = max(abs(a + b) / abs(b) for a, b in zip(nll, found["likelihood"], strict=True))
    if apart > 1e-4:
        raise AssertionError(f"likelihoods differ by {apart:.1e} of themselves")
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Print the table."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    import torch

    torch.set_num_threads(1)
    print("| vocabulary | generated | likelihood loop, s | generation loop, s | ours, both, s | |")
    print("|--:|--:|--:|--:|--:|--:|")
    for vocabulary, tokens, answer in CASES:
        took = compare(vocabulary, tokens, answer, inputs.SMALL.student)
        plain = took["likelihood"] + took["generation"]
        print(
            f"| {vocabulary:,} | {answer} | {took['likelihood']:.2f} | {took['generation']:.2f} "
            f"| {took['ours']:.2f} | {plain / took['ours']:.2f}× |",
            flush=True,
        )


if __name__ == "__main__":
    main()
