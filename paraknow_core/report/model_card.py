"""The model card of an adapter or checkpoint: what it is, and what its numbers do not show.

Every text may come from a stranger's folder name or README; all of it is escaped here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paraknow_core.printable import plain
from paraknow_core.report.markdown import escaped, front_matter, python_text, table

LIMITS = (
    "Each row of metrics is one training run on the items of one test split. Another seed can "
    "move them as far as another method does; no interval over seeds is given here.",
    "A better score than the untouched student, or than plain LoRA, does not show that the "
    "teacher's knowledge moved: start points of random vectors with the same singular values have "
    "to be beaten too, at each method's own learning rate.",
    "Nothing beyond these metrics was measured: not safety, bias, other tasks, other languages, "
    "or texts unlike the test split's.",
)

NOT_THESE_WEIGHTS = (
    "The metrics were measured with the exact adapter, not with what lies here. Measure again "
    "before you rely on them."
)


@dataclass(frozen=True)
class ModelNote:
    """A model that the result was made of.

    Attributes:
        role: ``teacher`` or ``student``.
        name: as the user gave it, or what its record says.
        hub_id: whether ``name`` is one that others can load.
        key: of its record in the store; "" if unknown.
        licence: as its folder states it.
    """

    role: str
    name: str
    hub_id: bool
    key: str
    licence: str


@dataclass(frozen=True)
class StepNote:
    """One step that the result depends on, as its record has it."""

    role: str
    step: str
    version: int
    key: str
    settings: Mapping[str, object]


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Attributes:
        title: of the page.
        merged: whether it is a full checkpoint; else a PEFT adapter.
        method: how it was made, in sentences that this program wrote.
        models: teacher (where there is one) and student.
        data: name → value, of the training data.
        metrics: model → metric → value; empty if none is known.
        benchmarks: of lm-evaluation-harness, benchmark and metric → value of the untouched student
            and of this model; None is unknown.
        losses: sentences on what was taken away, with the figures.
        kept: module → share of its change that is left; empty if all of it is.
        steps: every step with its key.
        versions: program or library → version at the time of training.
        path: the folder as the loading lines name it.
    """

    title: str
    merged: bool
    method: str
    models: Sequence[ModelNote]
    data: Mapping[str, object]
    metrics: Mapping[str, Mapping[str, float]]
    losses: Sequence[str]
    kept: Mapping[str, float]
    steps: Sequence[StepNote]
    versions: Mapping[str, str]
    path: str
    benchmarks: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)


def render(card: Card) -> str:
    """Write a model card as Markdown with a YAML head, as the Hub and PEFT read it."""
    parts = [
        front_matter(_head(card)),
        [f"# {escaped(card.title)}"],
        [escaped(card.method, longest=4000)],
        ["## Loading", "", *_loading(card)],
        ["## Models and licences", "", *_models(card)],
        ["## Data", "", *_data(card)],
        ["## Metrics", "", *_metrics(card)],
        *_benchmarks(card),
        *_smaller(card),
        ["## What the numbers do not show", "", *_limits(card)],
        ["## Keys and versions", "", *_steps(card)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _head(card: Card) -> dict[str, str | list[str]]:
    fields: dict[str, str | list[str]] = {
        "library_name": "transformers" if card.merged else "peft",
        "tags": ["paraknow", "merged" if card.merged else "lora"],
    }
    bases = [model.name for model in card.models if model.role == "student" and model.hub_id]
    return fields | ({"base_model": bases[0]} if bases else {})


def _loading(card: Card) -> list[str]:
    student = next((m.name for m in card.models if m.role == "student" and m.hub_id), "")
    base = python_text(student or "FOLDER OF THE STUDENT")
    here = python_text(card.path)
    if card.merged:
        lines = [f"model = AutoModelForCausalLM.from_pretrained({here})"]
        lines += [f"tokenizer = AutoTokenizer.from_pretrained({here})"]
    else:
        lines = [f"model = AutoModelForCausalLM.from_pretrained({base})"]
        lines += [f"model = PeftModel.from_pretrained(model, {here})"]
    return ["```python", *lines, "```"]


def _models(card: Card) -> list[str]:
    rows = [(m.role, m.name, m.licence, m.key[:16] or "unknown") for m in card.models]
    return [
        *table(("role", "model", "licence it states", "key"), rows),
        "",
        "This result is made of these models and the data; whether their licences allow a use of "
        "it is for you to check. Where one states nothing, it is unknown, not free.",
    ]


def _data(card: Card) -> list[str]:
    if not card.data:
        return ["The store no longer says which data this was trained on."]
    return table(("", ""), [(name, _value(value)) for name, value in card.data.items()])


def _metrics(card: Card) -> list[str]:
    if not card.metrics:
        return ["No evaluation of this adapter is in the store."]
    names = list(dict.fromkeys(name for row in card.metrics.values() for name in row))
    rows = [
        (model, *(_value(row.get(name, "")) for name in names))
        for model, row in card.metrics.items()
    ]
    return table(("model", *map(escaped, names)), rows)


def _benchmarks(card: Card) -> list[list[str]]:
    if not card.benchmarks:
        return []
    rows = [
        (name, *("unknown" if value is None else _value(value) for value in values))
        for name, values in card.benchmarks.items()
    ]
    heads = ("benchmark and metric", "untouched student", "this model")
    about = "By lm-evaluation-harness, with its own prompts, filters and metrics."
    return [["## Benchmarks", "", about, "", *table(heads, rows)]]


def _smaller(card: Card) -> list[list[str]]:
    if not card.losses:
        return []
    lines = ["## What was taken away", "", *(f"- {escaped(s, longest=1000)}" for s in card.losses)]
    if card.kept:
        rows = [(module, f"{share:.6f}") for module, share in card.kept.items()]
        lines += ["", *table(("module", "share of ‖ΔW‖² kept"), rows)]
    return [lines]


def _limits(card: Card) -> list[str]:
    measured = [NOT_THESE_WEIGHTS] if card.losses and card.metrics else []
    return [f"- {sentence}" for sentence in (*measured, *LIMITS)]


def _steps(card: Card) -> list[str]:
    rows = [
        (s.role, f"{s.step} {s.version}", s.key[:16], json.dumps(s.settings, sort_keys=True))
        for s in card.steps
    ]
    made = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    return [
        *table(("input", "step, version", "key", "settings"), rows),
        "",
        escaped(f"Made with {made}." if made else "Versions are not known.", longest=1000),
    ]


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return plain(value if isinstance(value, str | int) else json.dumps(value, sort_keys=True))
