"""Rows in words: templates, prefixes, several answers, few-shot examples, splits of their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from paraknow_core.data import (
    Columns,
    DealtSizes,
    SplitSizes,
    read_split,
    split_examples,
    write_examples,
)
from paraknow_core.data.deal import DealRules, deal
from paraknow_core.data.drafts import to_example
from paraknow_core.data.examples import Example
from paraknow_core.data.files import read_drafts
from paraknow_core.data.rows import RowForm
from paraknow_core.data.templates import tulu
from paraknow_core.data.wording import Fewshot, Wording
from paraknow_core.errors import ConfigError, DataError

MMLU = {"question": "2+2?", "subject": "school_maths", "choices": ["3", "4"], "answer": 1}
MMLU_WORDS = Wording(
    instruction='About {{ subject | replace("_", " ") }}.',
    prompt='{{ question }}\n{% for c in choices %}{{ "ABCD"[loop.index0] }}. {{ c }}\n{% endfor %}',
    answer='{{ "ABCD"[answer] }}',
    prefix="The answer is:",
)


def drafts(folder: Path, form: RowForm, *rows: Any) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_drafts(path, form)


def one(folder: Path, row: Any, *, wording: Wording = MMLU_WORDS, **form: Any) -> Example:
    (draft,) = drafts(folder, RowForm(wording=wording, **form), row)
    return to_example(draft, template=tulu, wording=wording)


def test_templates_make_question_and_answer_of_any_fields(tmp_path: Path) -> None:
    found = one(tmp_path, MMLU)
    question = "2+2?\nA. 3\nB. 4\n"
    said = f"<|user|>\nAbout school maths.\n\n{question.strip()}\n\n<|assistant|>\nThe answer is:"
    assert (found.prompt, found.answer, found.own) == (said, " B", question)


def test_rows_of_messages_need_no_fields_of_the_templates(tmp_path: Path) -> None:
    turns = [("user", "2+2?"), ("assistant", "The answer is: B")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    found = one(tmp_path, row)
    assert found.prompt == "<|user|>\n2+2?\n\n<|assistant|>\nThe answer is:"
    assert (found.answer, found.own) == (" B", "2+2?")
    system = one(tmp_path, row, wording=Wording(system="Be short."))
    assert system.prompt.startswith("<|system|>\nBe short.\n\n<|user|>\n2+2?")


def test_a_system_prompt_of_the_row_is_kept(tmp_path: Path) -> None:
    turns = [("system", "own"), ("user", "u"), ("assistant", "a")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    found = one(tmp_path, row, wording=Wording(system="other"))
    assert "other" not in found.prompt
    assert found.prompt.startswith("<|system|>\nown")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "q", "choices": []}, r"rows\.jsonl:1: .*need 'answer', 'subject'"),
        ({**MMLU, "answer": 9}, r"rows\.jsonl:1: wording\.answer cannot be filled in"),
        ({**MMLU, "choices": 5}, r"rows\.jsonl:1: wording\.prompt cannot be filled in"),
        ({**MMLU, "question": "", "choices": []}, r"what wording\.prompt gives is empty"),
    ],
)
def test_a_row_that_a_template_cannot_take_is_named(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        one(tmp_path, row)


def test_a_template_that_is_no_jinja_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"prompt: no valid Jinja template: line 2"):
        Wording(prompt="a\n{{ question")
    with pytest.raises(DataError, match=r"'_fields' is undefined|cannot be filled in"):
        one(Path("/tmp"), MMLU, wording=Wording(prompt="{{ question.__class__.__mro__ }}"))


def test_a_list_of_answers_are_several_right_ones_and_the_first_is_learned(tmp_path: Path) -> None:
    found = one(tmp_path, {"prompt": "p", "answer": ["a", "b"]}, wording=Wording(prefix="Say:"))
    assert (found.answer, found.references) == (" a", ("b",))
    path = tmp_path / "split.parquet"
    write_examples(path, [found, Example("x", "p", "a")])
    assert read_split(path) == [found, Example("x", "p", "a")]
    for bad in ([], ["a", 5], ["a", ""]):
        with pytest.raises(DataError, match=r"rows\.jsonl:1: field 'answer'"):
            one(tmp_path, {"prompt": "p", "answer": bad}, wording=Wording())


def test_a_split_without_new_columns_is_written_as_before(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_examples(tmp_path / "a.parquet", [Example("x", "p", "a")])
    names = pq.read_schema(tmp_path / "a.parquet").names
    assert names == ["id", "prompt", "answer", "input_ids", "labels"]


def rules(sizes: tuple[Any, Any, Any, Any], **options: Any) -> DealRules:
    options = {"wordings": {"rows": Wording()}, "template": "none", "seed": 0} | options
    return DealRules(sizes=DealtSizes(*sizes), **options)


def numbered(folder: Path, *numbers: int, name: str = "q", **form: Any) -> Any:
    rows = [{"prompt": f"{name}{n}", "answer": f"a{n}", "kind": n % 2} for n in numbers]
    return drafts(folder, RowForm(**form), *rows)


def test_all_is_what_other_splits_leave(tmp_path: Path) -> None:
    rows = numbered(tmp_path, *range(10))
    dealt = deal({"rows": rows}, rules((2, "all", 1, 3)))
    assert {name: len(found) for name, found in dealt.items()} == {
        "seeds": 2,
        "train": 4,
        "validation": 1,
        "test": 3,
    }
    same = deal({"rows": rows}, rules((2, 4, 1, 3)))
    assert {name: set(found) for name, found in same.items()} == {
        name: set(found) for name, found in dealt.items()
    }
    with pytest.raises(DataError, match="train and test cannot both have all"):
        deal({"rows": rows}, rules((2, "all", 1, "all")))
    with pytest.raises(DataError, match="too few rows"):
        deal({"rows": rows}, rules((5, "all", 2, 3)))


def test_every_split_may_have_rows_of_its_own(tmp_path: Path) -> None:
    names = ("seeds", "train", "validation", "test")
    own = {name: numbered(tmp_path, *range(3), name=name) for name in names}
    dealt = deal(own, rules((3, "all", 2, "all")))
    assert {n: [e.prompt[: len(n)] for e in found] for n, found in dealt.items()} == {
        "seeds": ["seeds"] * 3,
        "train": ["train"] * 3,
        "validation": ["validation"] * 2,
        "test": ["test"] * 3,
    }
    with pytest.raises(DataError, match=r"the rows of data\.seeds: too few rows: 4 wanted"):
        deal(own, rules((4, "all", 2, "all")))


def test_seeds_may_be_rows_of_train_if_that_is_said(tmp_path: Path) -> None:
    rows = numbered(tmp_path, *range(6))
    dealt = deal({"rows": rows}, rules((3, 4, 0, 2), seeds_from="train"))
    assert set(dealt["seeds"]) < set(dealt["train"])
    own = {"rows": rows, "seeds": numbered(tmp_path, *range(6))}
    with pytest.raises(DataError, match=r"may_share: \[seeds-train\]"):
        deal(own, rules((6, 4, 0, 2), may_share=["seeds-test"]))
    shared = deal(own, rules((6, 4, 0, 2), may_share=["seeds-test", "seeds-train"]))
    assert {len(found) for found in shared.values()} == {6, 4, 0, 2}


def test_only_test_rows_may_lack_an_answer(tmp_path: Path) -> None:
    open_ended = drafts(tmp_path, RowForm(unanswered=True), {"prompt": "x"}, {"prompt": "y"})
    rows = numbered(tmp_path, *range(3))
    dealt = deal({"rows": rows, "test": open_ended}, rules((1, 2, 0, "all")))
    assert [example.answer for example in dealt["test"]] == ["", ""]
    with pytest.raises(DataError, match=r"rows\.jsonl:\d: row .* of the split train has no answer"):
        deal({"rows": rows, "train": open_ended}, rules((1, 2, 0, 1)))


def test_examples_are_the_first_training_rows_and_stand_before_test_only(tmp_path: Path) -> None:
    rows = numbered(tmp_path, *range(8))
    plain = deal({"rows": rows}, rules((1, 4, 1, 2)))
    fewshot = Fewshot(count=2, joint=" -> ", separator=" | ")
    dealt = deal({"rows": rows}, rules((1, 4, 1, 2), fewshot=fewshot))
    shown = [f"{e.prompt} -> {e.answer}" for e in plain["train"][:2]]
    assert [e.prompt for e in dealt["test"]] == [
        " | ".join((*shown, e.prompt)) for e in plain["test"]
    ]
    assert [e.own for e in dealt["test"]] == [e.prompt for e in plain["test"]]
    assert dealt["train"] == plain["train"]


def test_examples_as_turns_and_of_the_same_group(tmp_path: Path) -> None:
    shots = numbered(tmp_path, *range(10, 16), group="kind")
    own = numbered(tmp_path, *range(6), group="kind")
    how = Fewshot(count=2, layout="turns", group="kind")
    options = {"template": "tulu", "fewshot": how, "wordings": {"rows": Wording(prefix="A:")}}
    dealt = deal({"rows": own, "fewshot": shots}, rules((1, 1, 1, 2), **options))
    for row in dealt["test"]:
        number = int(row.own.removeprefix("q"))
        first, second = (10, 12) if number % 2 == 0 else (11, 13)
        turns = [f"<|user|>\nq{n}\n\n<|assistant|>\nA: a{n}\n\n" for n in (first, second)]
        assert row.prompt == "".join(turns) + f"<|user|>\nq{number}\n\n<|assistant|>\nA:"
        assert row.answer == f" a{number}"


def test_examples_that_stand_in_test_or_are_too_few_are_refused(tmp_path: Path) -> None:
    rows = numbered(tmp_path, *range(4))
    sizes = (1, 1, 0, 2)
    with pytest.raises(DataError, match=r"few-shot example 'line-\d' .*stands in test too, as row"):
        deal({"rows": rows, "fewshot": rows}, rules(sizes, fewshot=Fewshot(count=4)))
    with pytest.raises(DataError, match="2 few-shot examples, but the training rows have 1"):
        deal({"rows": rows}, rules(sizes, fewshot=Fewshot(count=2)))
    with pytest.raises(DataError, match=r"stands in train too"):
        deal({"rows": rows}, rules(sizes, fewshot=Fewshot(count=1, splits=("train",))))


def test_rows_are_compared_without_what_stands_before_the_question() -> None:
    """The same question under an instruction is the same row."""
    bare = Example("a", "2 + 2?", "4")
    under = Example("b", "Answer.\n\n2 + 2?", " 4", own="2 + 2?")
    assert bare.content_key == under.content_key
    dealt = split_examples([bare, under], sizes=SplitSizes(1, 0, 0, 0), seed=0)
    assert len(dealt["seeds"]) == 1


def test_columns_are_named_for_templates_too(tmp_path: Path) -> None:
    form = RowForm(Columns(answer="gold"), Wording(prompt="{{ q }}", answer="<{{ gold }}>"))
    (draft,) = drafts(tmp_path, form, {"q": "x", "gold": ["1", "2"]})
    assert (draft.question, draft.answers) == ("x", ("<1>", "<2>"))
