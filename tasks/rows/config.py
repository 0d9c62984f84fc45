"""The settings of a task's rows."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from paraknow_core.data.deal import COMMON, PAIR_NAMES, SHOTS
from paraknow_core.data.splits import ALL, SPLITS
from paraknow_core.data.templates import TEMPLATES
from paraknow_core.data.wording import Fewshot, Wording
from paraknow_core.setting_types import Count, CountOrNone, EachOnce, OneOf, PathOrHubId, Seed, Text
from paraknow_core.settings import Settings, execution, later

SPLIT_FILES = {name: f"{name}.parquet" for name in SPLITS}


class OrAll:
    """Annotation of a number that may also be ``all``; an error speaks of the number."""

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let ``all`` pass, and check everything else as a number."""
        number = handler(source)

        def check(value: Any, inner: Any) -> Any:
            return ALL if value == ALL else inner(value)

        either = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(check, number, serialization=either)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Let forms offer both."""
        return {"anyOf": [handler(schema["schema"]), {"const": ALL, "type": "string"}]}


RowCount = Annotated[Count, OrAll()]
RowCountOrNone = Annotated[CountOrNone, OrAll()]
SplitPairName = Annotated[str, OneOf("pair of splits", dict.fromkeys(PAIR_NAMES))]
SplitPairs = Annotated[tuple[SplitPairName, ...], EachOnce]


class ColumnsConfig(Settings):
    """The names under which the data keeps its fields."""

    prompt: Text = "prompt"
    answer: Text = "answer"
    messages: Text = "messages"
    input_ids: Text = "input_ids"
    labels: Text = "labels"
    id: Text = "id"


class RowsConfig(Settings):
    """Where rows come from: one file, or one split of a data set of the Hub."""

    path: PathOrHubId = execution(
        "", title="File", description="JSONL or Parquet. Identity is its content, not its name."
    )
    hub: PathOrHubId = Field("", title="Hub data set", description="Such as openai/gsm8k.")
    subset: Text = Field("", title="Subset", description="The Hub data set's configuration.")
    split: Text = Field("train", title="Split", description="The Hub data set's split.")
    revision: Text = Field("", title="Revision", description="Hub commit; empty: main.")
    columns: ColumnsConfig | None = later(
        None, title="Columns", description="Of these rows, in place of data.columns."
    )
    wording: Wording | None = later(
        None, title="Wording", description="Of these rows, in place of data.wording."
    )

    @property
    def given(self) -> bool:
        """Whether they name any rows."""
        return bool(self.path or self.hub)


class DealtSizesConfig(Settings):
    """Rows of each split, or all that the other splits leave of the same source."""

    seeds: RowCount = Field(
        32, title="Seeds", description="Rows for the teacher's sensitivity; a number, or all."
    )
    train: RowCount = Field(1000, title="Training rows", description="A number, or all.")
    validation: RowCountOrNone = Field(
        200, title="Validation rows", description="A number, or all."
    )
    test: RowCount = Field(500, title="Test rows", description="A number, or all.")


class SizesConfig(DealtSizesConfig):
    """Rows of each split that is generated."""

    seeds: Count = Field(32, title="Seeds", description="Rows for the teacher's sensitivity.")
    train: Count = Field(1000, title="Training rows")
    validation: CountOrNone = Field(200, title="Validation rows")
    test: Count = Field(500, title="Test rows")


class FewshotConfig(Fewshot):
    """Examples before each question, and where they come from."""

    rows: RowsConfig = Field(
        RowsConfig(),
        title="Rows",
        description="Of the examples, the first ones; without it the first training rows.",
    )


class ForeseenSplitConfig(Settings):
    """What rows are taken to be."""

    rows: CountOrNone = Field(
        0, title="Rows", description="Where sizes say all; 0: that is not known."
    )
    tokens: Count = Field(256, title="Tokens", description="Of a row on average, with its answer.")
    longest: Count = Field(1024, title="Longest", description="Tokens of the longest row.")


class ForeseenRowsConfig(Settings):
    """What a plan takes rows to be that are not here yet; a run looks at the rows themselves."""

    train: ForeseenSplitConfig = Field(
        ForeseenSplitConfig(), title="Training rows", description="Seeds and validation too."
    )
    test: ForeseenSplitConfig = Field(
        ForeseenSplitConfig(), title="Test rows", description="Without few-shot examples."
    )


class DataConfig(Settings):
    """Rows, their form, and how they are dealt out."""

    rows: RowsConfig = Field(
        RowsConfig(),
        title="Rows",
        description="For all splits that have no rows of their own.",
    )
    test: RowsConfig = Field(
        RowsConfig(),
        title="Test rows",
        description="A data set's own test split, where it has one.",
    )
    columns: ColumnsConfig = Field(ColumnsConfig(), title="Columns")
    template: Annotated[str, OneOf("template", TEMPLATES)] = Field(
        "tulu", title="Template", description="How a conversation becomes text: tulu, or none."
    )
    sizes: DealtSizesConfig = Field(DealtSizesConfig(), title="Sizes")
    seed: Seed = Field(0, title="Seed", description="Another seed deals the rows out otherwise.")
    seeds: RowsConfig = later(
        RowsConfig(), title="Seed rows", description="A file or split of their own."
    )
    train: RowsConfig = later(
        RowsConfig(), title="Training rows", description="A file or split of their own."
    )
    validation: RowsConfig = later(
        RowsConfig(), title="Validation rows", description="A file or split of their own."
    )
    seeds_from: Literal["rows", "train"] = later(
        "rows",
        title="Seeds from",
        description="train: the seeds are rows of the training split too, as the paper has it; "
        "the report says so.",
    )
    may_share: SplitPairs = later(
        (),
        title="May share rows",
        description=f"Pairs of splits, of {', '.join(PAIR_NAMES)}; a comparison tells what they "
        "share, and does not refuse it.",
    )
    wording: Wording = later(Wording(), title="Wording")
    fewshot: FewshotConfig = later(FewshotConfig(), title="Few-shot examples")
    unanswered: bool = later(
        False,
        title="Rows without an answer",
        description="Allowed in test: such rows are answered, but not scored.",
    )
    foreseen: ForeseenRowsConfig = execution(
        ForeseenRowsConfig(),
        title="Foreseen",
        description="About how long the rows are, for a plan that is made before they are here.",
    )

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        for role, rows in self.sources().items():
            if rows.path and rows.hub:
                place = f"{role}.rows" if role == SHOTS else role
                msg = f"{place} gives both path {rows.path!r} and hub {rows.hub!r}; give one"
                raise ValueError(msg)
        if self.seeds_from == "train" and self.seeds.given:
            msg = "seeds has rows of its own, and seeds_from is train; leave one of them out"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _all_once(self) -> Self:
        dealt = [n for n in self.from_common() if getattr(self.sizes, n) == ALL]
        if len(dealt) > 1:
            msg = (
                f"sizes: {' and '.join(dealt)} cannot both have all of the same rows; give one of "
                "them a number, or rows of its own"
            )
            raise ValueError(msg)
        return self

    def sources(self) -> Mapping[str, RowsConfig]:
        """Return where rows come from, by role, without what is not given or not needed."""
        found = {COMMON: self.rows, **{name: getattr(self, name) for name in SPLITS}}
        if self.fewshot.count:
            found[SHOTS] = self.fewshot.rows
        if not self.from_common():
            del found[COMMON]
        return {role: rows for role, rows in found.items() if rows.given}

    def from_common(self) -> tuple[str, ...]:
        """Return the splits that are dealt from the common rows, without those of no rows."""
        late = ("seeds",) if self.seeds_from == "train" else ()
        return tuple(
            name
            for name in SPLITS
            if not getattr(self, name).given and name not in late and getattr(self.sizes, name)
        )

    def foresee(self) -> dict[str, dict[str, int | None]]:
        """Say what the settings alone tell of each split: rows, all tokens, tokens of the longest.

        Examples stand before each question of the test split, and are as long as training rows.
        """
        found: dict[str, dict[str, int | None]] = {}
        for name in SPLITS:
            told = self.foreseen.test if name == "test" else self.foreseen.train
            shots = self.fewshot.count if name == "test" else 0
            size = getattr(self.sizes, name)
            rows = (told.rows or None) if size == ALL else size
            each = told.tokens + shots * self.foreseen.train.tokens
            longest = told.longest + shots * self.foreseen.train.tokens
            total = None if rows is None else rows * each
            found[name] = {"rows": rows, "total": total, "longest": longest}
        return found

    def may_share_rows(self) -> tuple[str, ...]:
        """Return the pairs of splits that may share rows."""
        drawn = ("seeds-train",) if self.seeds_from == "train" else ()
        return tuple(dict.fromkeys((*self.may_share, *drawn)))

    def notes(self) -> tuple[str, ...]:
        """Return what a report has to say of splits that share rows, a sentence each."""
        drawn = self.seeds_from == "train"
        told = ["The seeds are rows of the training split too (data.seeds_from)."] if drawn else []
        if self.may_share:
            pairs = ", ".join(self.may_share)
            told.append(f"These splits were allowed to share rows (data.may_share): {pairs}.")
        return tuple(told)
