from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from paraknow_core.report.licences import UNKNOWN, stated_licence
from paraknow_core.report.markdown import escaped, front_matter, plain, python_text
from paraknow_core.report.model_card import Card, ModelNote, StepNote, render

HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "a | b\n\n# Owned\n---\nlicense: mit\n",
    "`code` **bold** _it_ ~~no~~",
    "```\nimport os\n```",
    '"\\\n---\nbase_model: evil',
    "\u202eevil\u2028line\x00\x1b[31m",
    "1. first",
    "- item",
    "www.evil.example http://evil.example",
]


def card(name: str, *, merged: bool = False) -> Card:
    return Card(
        title=name,
        merged=merged,
        method=name,
        models=[
            ModelNote("teacher", name, False, "ab" * 32, name),
            ModelNote("student", name, True, "cd" * 32, name),
        ],
        data={name: name},
        metrics={name: {name: 0.5}},
        losses=[name],
        kept={name: 0.5},
        steps=[StepNote(name, "lora", 1, "ef" * 32, {name: name})],
        versions={name: name},
        path=name,
    )


def tokens_of(text: str) -> list[str]:
    """The kinds of everything that a Markdown reader sees, below the YAML head."""
    parsed = MarkdownIt("commonmark").enable("table").parse(text)
    inside = [child for token in parsed for child in token.children or []]
    return [token.type for token in [*parsed, *inside]]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_changes_no_structure(name: str, merged: bool) -> None:
    """A card with a hostile name is built like one with a harmless name."""
    bodies = [render(card(n, merged=merged)).split("\n---\n", 1)[1] for n in (name, "harmless")]
    found, expected = (tokens_of(body) for body in bodies)
    assert [t for t in found if t not in ("text_special",)].count("link_open") == 0
    structure = {"heading_open", "tr_open", "td_open", "list_item_open", "fence", "paragraph_open"}
    assert [t for t in found if t in structure] == [t for t in expected if t in structure]
    assert not {"html_block", "html_inline", "image", "strong_open", "em_open", "code_inline"} & {
        *found
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_the_head_is_yaml_that_says_what_it_should(name: str) -> None:
    head = render(card(name)).split("\n---\n", 1)[0].removeprefix("---\n")
    fields = yaml.safe_load(head)
    assert fields == {
        "library_name": "peft",
        "tags": ["paraknow", "lora"],
        "base_model": plain(name),
    }


@given(st.text())
def test_no_text_leaves_its_line_or_its_code(text: str) -> None:
    assert "\n" not in escaped(text)
    assert "`" not in python_text(text)
    assert eval(python_text(text)) == plain(text, longest=4096)
    assert yaml.safe_load("\n".join(front_matter({"name": text})[1:-1])) == {"name": plain(text)}


def test_a_harmless_text_stays_as_it_is() -> None:
    assert escaped("Llama 3.2-1B (a name), v1.0") == "Llama 3.2-1B (a name), v1.0"


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    bare = Card("t", False, "m", [], {}, {}, [], {}, [], {}, "here")
    text = render(bare)
    assert "No evaluation of this adapter is in the store." in text
    assert "does not show that the teacher's knowledge moved" in text


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "---\nlicense: apache-2.0 # yes\n---\n"}, "apache-2.0"),
        ({"README.md": "---\nlicense: other\nlicense_name: 'llama3'\n---\n"}, "llama3"),
        ({"README.md": "---\nlicense: never closed\n"}, UNKNOWN),
        (
            {"README.md": "license: not in the head\n", "LICENSE": "\n  MIT License\n"},
            "LICENSE: MIT",
        ),
        ({"LICENSE": "\xff" * 10}, "LICENSE: "),
        ({}, UNKNOWN),
    ],
)
def test_licences_as_far_as_stated(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert stated_licence(tmp_path).startswith(expected)
