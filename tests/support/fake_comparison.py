"""A comparison that looks like a real one: two pairs, ten methods, eight seeds, numbers made up.

Levels and effects follow what small word-problem pairs show, so that a person can judge the page.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.report.page.data import Comparison, Cost, Failure, Origin, Pair, ShownMethod
from paraknow_core.report.page.diagnosis import (
    Arrived,
    Cka,
    ModuleFact,
    NovelMatrix,
    Sensitivity,
    ShownWindow,
    Spectrum,
    TokenShare,
)
from paraknow_core.report.page.outcome import Curve, Measure, MethodAnswer, Prediction, Score, Trial
from paraknow_core.statistics.contrast import Contrast

METHODS = (
    ShownMethod(name="plain LoRA", kind="baseline", about="B = 0, A drawn at random, lr tuned."),
    ShownMethod(name="PiSSA", kind="baseline", about="The student's own leading singular vectors."),
    ShownMethod(
        name="SeeKing", about="Sensitive layers, the most sensitive window of each matrix."
    ),
    ShownMethod(
        name="SeeKing, rows and columns", about="Sensitive rows and columns in place of windows."
    ),
    ShownMethod(
        name="SeeKing, random layers", about="The same windows search, layers drawn at random."
    ),
    ShownMethod(name="SeeKing, attention + FFN", about="Embedding and head left alone."),
    ShownMethod(name="MiLoRA", kind="baseline", about="The student's own last singular vectors."),
    ShownMethod(
        name="same spectrum", kind="control", about="Random vectors, the windows' singular values."
    ),
    ShownMethod(
        name="shuffled vocabulary", kind="control", about="The teacher, its tokens shuffled."
    ),
    ShownMethod(name="random teacher", kind="control", about="A teacher that was never trained."),
)
_LEVELS = (
    (0.0, -0.049, -0.062, -0.083, -0.061, -0.012, -0.02, -0.029, -0.027, -0.019),
    (0.0, -0.051, -0.052, -0.063, -0.051, -0.012, -0.02, -0.049, -0.047, -0.019),
)
RATES = (1e-3, 1.6e-3, 2.5e-3, 4e-3, 6e-3)
ROLES = ("q", "k", "v", "o", "gate", "up", "down")
SEEDS = 8


def fake_comparison() -> Comparison:
    """The complete comparison; the same each time."""
    return Comparison(
        title="Word problems: which start points help, and is it the teacher?",
        created="2026-11-23T02:40:00+00:00",
        summary="SeeKing beats tuned plain LoRA in both pairs, and in one of them also the "
        "controls that keep its spectrum; in the other, random vectors do as well.",
        design={
            "Paired seeds": "8",
            "Learning rates tried": "5 a method, on validation",
            "Test items": "1,000 a pair",
            "Smallest visible effect": "0.021 nats at 80 % power",
            "Family of comparisons": "12, Holm",
        },
        environment={"paraknow": "0.1.0", "torch": "2.13.0", "device": "cpu, 2 cores"},
        caveats=(
            "Levels move with every pretraining; compare differences within a pair.",
            "An exact sign-flip test over 8 pairs cannot go below p = .0078.",
        ),
        methods=METHODS,
        pairs=(_pair("family 0", 1.603, seed=0), _pair("family 1", 1.057, seed=1)),
    )


def _pair(name: str, level: float, *, seed: int) -> Pair:
    draw = random.Random(seed)
    seeds = [draw.gauss(level, 0.03) for _ in range(SEEDS)]
    values = {
        method.name: tuple(base + shift + draw.gauss(0, 0.008) for base in seeds)
        for method, shift in zip(METHODS, _LEVELS[seed], strict=True)
    }
    layers = (0, 2, 3) if seed == 0 else (1, 2, 3)
    return Pair(
        name=f"words, {name}",
        teacher="teacher-96×4 (0.5 M)",
        student="student-48×3 (0.1 M)",
        task="one-step word problems",
        verdict="SeeKing is better than tuned plain LoRA (−0.062 nats, 8 of 8 seeds) and than the "
        "same-spectrum and shuffled-vocabulary controls: here the teacher matters."
        if seed == 0
        else "SeeKing is better than tuned plain LoRA, but no better than random vectors of the "
        "same spectrum: that the teacher mattered is not shown.",
        teacher_matters=seed == 0,
        beside=(Measure.of(METRICS["exact_match"]),),
        scores=tuple(_score(n, v, draw) for n, v in values.items()),
        contrasts=_contrasts(values),
        curves=tuple(c for n, v in values.items() for c in _curves(n, fmean(v), draw)),
        trials=tuple(t for n, v in values.items() for t in _trials(n, fmean(v), draw)),
        sensitivity=Sensitivity(
            roles=ROLES,
            sums=tuple(tuple(draw.lognormvariate(4, 0.8) for _ in range(4)) for _ in ROLES),
            layers=tuple(draw.lognormvariate(6.5, 0.4) for _ in range(4)),
            outside={"embed": 812.0, "head": 1204.5, "norm": 3.2},
            chosen=layers,
        ),
        windows=_windows(layers, draw),
        spectra=_spectra(draw),
        modules=tuple(f for method in METHODS for f in _modules(method.name, draw)),
        novelty=tuple(_novel(role, share) for role, share in (("embed", 0.312), ("head", 0.447))),
        arrived=tuple(
            _arrived(method.name, place)
            for place, method in enumerate(METHODS)
            if method.kind != "method"
        ),
        cka=Cka(
            matrix=tuple(
                tuple(
                    max(0.02, 0.93 - 0.22 * abs(s * 1.3 - t) + draw.gauss(0, 0.04))
                    for t in range(4)
                )
                for s in range(3)
            ),
            texts=256,
        ),
        predictions=_predictions(),
        costs=(
            Cost(step="sensitivity", seconds=4.1, runs=1, reused=1),
            Cost(step="extract", seconds=0.4, runs=3),
            Cost(step="decompose", seconds=1.9, runs=6),
            Cost(step="finetune", seconds=212.4, runs=130, reused=16),
            Cost(step="evaluate", seconds=96.0, runs=130, reused=16),
        ),
        origins=_origins(draw),
        failures=(
            Failure(cell="MiLoRA, lr 0.006, seed 0", reason="The loss became nan at step 7."),
        )
        if seed
        else (),
        notes=("No overlap of seeds, train, validation and test (exact and 13-gram).",),
    )


def _score(name: str, values: tuple[float, ...], draw: random.Random) -> Score:
    rate = RATES[1] if "LoRA" not in name else RATES[3]
    accuracy = 0.62 - 0.2 * fmean(values) + draw.gauss(0, 0.01)
    return Score(
        method=name,
        mean=fmean(values),
        values=values,
        beside={"exact_match": accuracy},
        learning_rate=rate,
        chosen_from=len(RATES),
    )


def _contrasts(values: dict[str, tuple[float, ...]]) -> tuple[Contrast, ...]:
    found = []
    for other in ("plain LoRA", "PiSSA", "same spectrum", "shuffled vocabulary"):
        found.append(_contrast("SeeKing", other, values, headline=True))
    for method in values:
        if method not in ("plain LoRA", "SeeKing"):
            found.append(_contrast(method, "plain LoRA", values, headline=False))
    return tuple(found)


def _contrast(
    method: str, other: str, values: dict[str, tuple[float, ...]], *, headline: bool
) -> Contrast:
    gaps = [a - b for a, b in zip(values[method], values[other], strict=True)]
    mean = fmean(gaps)
    half = 2.365 * math.sqrt(sum((g - mean) ** 2 for g in gaps) / (SEEDS - 1) / SEEDS)
    wins = sum(g < 0 for g in gaps)
    p = 0.0078 if wins in (0, SEEDS) else 0.09 + 0.05 * min(wins, SEEDS - wins)
    return Contrast(
        label=f"{method} − {other}",
        method=method,
        against=other,
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=p,
        p_holm=min(1.0, p * 5),
        n=SEEDS,
        wins=wins,
        verdict="better in every seed" if wins == SEEDS else "no difference visible",
        headline=headline,
    )


def _curves(name: str, end: float, draw: random.Random) -> list[Curve]:
    steps = tuple(range(1, 49))
    mean = tuple(end + 1.6 * math.exp(-s / 11) + draw.gauss(0, 0.012) for s in steps)
    low, high = tuple(m - 0.05 for m in mean), tuple(m + 0.05 for m in mean)
    train = Curve(
        method=name, split="train", steps=steps, mean=mean, low=low, high=high, seeds=SEEDS
    )
    ends = tuple(end + gap for gap in (0.31, 0.08, 0.0))
    validation = Curve(
        method=name,
        split="validation",
        steps=(16, 32, 48),
        mean=ends,
        low=tuple(v - 0.03 for v in ends),
        high=tuple(v + 0.03 for v in ends),
        seeds=SEEDS,
    )
    return [train, validation]


def _trials(name: str, best: float, draw: random.Random) -> list[Trial]:
    right = 3 if "LoRA" in name else 1
    found = []
    for place, rate in enumerate(RATES):
        failed = name == "MiLoRA" and place == len(RATES) - 1
        value = best + 0.018 * (place - right) ** 2 + draw.gauss(0, 0.003)
        chosen = place == right
        found.append(
            Trial(method=name, learning_rate=rate, value=None if failed else value, chosen=chosen)
        )
    return found


def _shapes(role: str, hidden: int, ffn: int) -> tuple[int, int]:
    if role in ("gate", "up"):
        return ffn, hidden
    return (hidden, ffn) if role == "down" else (hidden, hidden)


def _windows(layers: tuple[int, ...], draw: random.Random) -> tuple[ShownWindow, ...]:
    found = []
    for student, teacher in enumerate(layers):
        for role in ROLES:
            rows, cols = _shapes(role, 48, 128)
            height, width = _shapes(role, 96, 256)
            found.append(
                ShownWindow(
                    role=role,
                    module=f"model.layers.{student}.{role}_proj",
                    row=draw.randint(0, height - rows),
                    col=draw.randint(0, width - cols),
                    rows=rows,
                    cols=cols,
                    teacher_rows=height,
                    teacher_cols=width,
                    student_layer=student,
                    teacher_layer=teacher,
                    share=draw.uniform(0.25, 0.6),
                )
            )
    for role in ("embed", "head"):
        found.append(
            ShownWindow(
                role=role,
                module=f"model.{role}",
                row=0,
                col=draw.randint(0, 48),
                rows=376,
                cols=48,
                teacher_rows=376,
                teacher_cols=96,
                share=draw.uniform(0.5, 0.7),
            )
        )
    return tuple(found)


def _spectra(draw: random.Random) -> tuple[Spectrum, ...]:
    found = []
    for layer in range(3):
        for place, role in enumerate(ROLES):
            top, fall = draw.uniform(2, 6), 0.93 - 0.02 * place
            found.append(
                Spectrum(
                    module=f"model.layers.{layer}.{role}_proj",
                    role=role,
                    layer=layer,
                    values=tuple(top * fall**i for i in range(32)),
                    energy=draw.uniform(0.7, 0.95),
                )
            )
    return tuple(found)


def _modules(name: str, draw: random.Random) -> list[ModuleFact]:
    found = []
    for layer in range(3):
        for role in ROLES:
            own = name in ("PiSSA", "MiLoRA")
            ratio = 0.0 if name == "plain LoRA" else draw.lognormvariate(-0.3, 0.25)
            cosine = draw.gauss(0.72 if own else 0.0, 0.05 if own else 0.02)
            found.append(
                ModuleFact(
                    method=name,
                    module=f"model.layers.{layer}.{role}_proj",
                    role=role,
                    layer=layer,
                    norm_ratio=ratio,
                    cosine=None if name == "plain LoRA" else cosine,
                )
            )
    return found


def _novel(role: str, share: float) -> NovelMatrix:
    words = ("seven", "castle", "anna", "gives")
    tokens = (TokenShare(token=w, row=40 + i, share=0.09 / (i + 1)) for i, w in enumerate(words))
    return NovelMatrix(module=role, role=role, share=share, energy=0.61, tokens=tuple(tokens))


def _arrived(method: str, place: int) -> Arrived:
    return Arrived(
        method=method,
        module="lm_head",
        role="head",
        teacher_share=0.27,
        cosines=(0.4 + 0.05 * place, 0.2),
        cosines_by_chance=0.23,
        change_share=0.11 * place,
        share_by_chance=0.045,
        weight_share=0.02 * place,
        change_ratio=0.8,
    )


def _predictions() -> tuple[Prediction, ...]:
    rows = (
        ("tom has 7 eggs . tom buys 5 more . how many eggs does tom have ? answer :", "12"),
        ("a jar has 21 coins . ann takes 9 of them . how many are left ? answer :", "12"),
    )
    wrong = {"plain LoRA", "random teacher", "shuffled vocabulary"}
    return tuple(
        Prediction(
            id=f"test-{place}",
            prompt=prompt,
            expected=right,
            answers=tuple(
                MethodAnswer(
                    method=method.name,
                    text="11" if method.name in wrong else right,
                    correct=method.name not in wrong,
                    nll=2.1 if method.name in wrong else 0.7,
                )
                for method in METHODS
            ),
        )
        for place, (prompt, right) in enumerate(rows)
    )


def _origins(draw: random.Random) -> tuple[Origin, ...]:
    def digest() -> str:
        return f"{draw.getrandbits(256):064x}"

    shared = [
        Origin(label=step, step=step, key=digest(), digest=digest(), seconds=3.2)
        for step in ("sensitivity", "align", "extract", "decompose")
    ]
    runs = [
        Origin(
            label=f"finetune {method.name}, seed {seed}",
            step="finetune",
            key=digest(),
            digest=digest(),
            seconds=1.4,
            finished="2026-11-23T01:12:09+00:00",
            facts={"learning rate": "0.0016", "seed": str(seed)},
        )
        for method in METHODS
        for seed in range(SEEDS)
    ]
    return (*shared, *runs)


def with_losses(comparison: Comparison, losses: Mapping[str, str | tuple[int, int]]) -> Comparison:
    """Take seeds away from methods: ``all diverged``, ``all failed``, or how many of either."""
    return replace(comparison, pairs=tuple(_lose(pair, losses) for pair in comparison.pairs))


def _lose(pair: Pair, losses: Mapping[str, str | tuple[int, int]]) -> Pair:
    scores, failures = [], []
    for score in pair.scores:
        loss = losses.get(score.method, (0, 0))
        whole = isinstance(loss, str)
        kinds = [loss] if whole else ["diverged"] * loss[0] + ["failed"] * loss[1]
        failures += [
            Failure(
                cell=f"{score.method}, {'all' if whole else f'seed {seed}'}",
                reason="made up to be lost",
                method=score.method,
                seed=None if whole else seed,
                whole=whole,
                diverged="diverged" in kind,
            )
            for seed, kind in enumerate(kinds)
        ]
        kept = () if whole else score.values[len(kinds) :]
        mean = fmean(kept) if kept else None
        scores.append(replace(score, values=kept, mean=mean))
    return replace(pair, scores=tuple(scores), failures=tuple(failures))
