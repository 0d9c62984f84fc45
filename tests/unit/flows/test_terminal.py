"""Whatever stands in a record, a name or a path: it is shown, and never obeyed."""

import ast
import io
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table
from support.results import payload
from support.store_command import run

import flows
from artifacts.store import Store
from flows.cli.console import LogLines
from flows.terminal import Terminal, markdown, say
from paraknow_core.printable import one_line, shown

SIGNS = st.sampled_from(
    [*"\x1b\x07\r\x7f\x9b\x85\u202e\u2066\u200b\u2028\ufeff\ud800", "\U000e0041"]
)
MARKUP = st.sampled_from(
    ["[old]", "[/old]", "[bold red]", ":smile:", "[link=http://x]", "\\[", "\n"]
)
TEXTS = st.lists(SIGNS | MARKUP | st.text(max_size=3), max_size=6).map("".join)


def obeyed(text: str) -> set[str]:
    """What a terminal would act on or hide."""
    return {
        c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl")
    }


def printed(*things: object, width: int = 200) -> str:
    console = Terminal()
    console.file, console.width = io.StringIO(), width
    for thing in things:
        console.print(thing, soft_wrap=not isinstance(thing, Table))
    return console.file.getvalue()


@settings(max_examples=50)
@given(text=TEXTS)
def test_every_way_to_print_shows_a_text_and_obeys_nothing(text):
    table = Table(text, title=text)
    table.add_row(one_line(text))
    output = printed(text, table)
    assert not obeyed(output)
    assert one_line(text) in output.replace("\n", "\\n") or not text.strip() or "\t" in text
    assert not obeyed(printed(markdown(text)))
    line = logging.LogRecord("x", logging.INFO, "x.py", 1, "%s", (text,), None)
    assert not obeyed(printed(LogLines(markup=False).render_message(line, line.getMessage())))


@given(text=TEXTS)
def test_json_stays_json_with_the_same_text(text):
    whole = json.dumps({"a": text}, ensure_ascii=False, indent=1)
    assert json.loads(shown(whole)) == {"a": text}
    assert not obeyed(shown(whole))


def test_ordinary_texts_stay_as_they_are():
    for text in ("a b\tc\nd", "données – ‖ΔW‖² 模型 😀", "half\u00a0space", ""):
        assert shown(text) == text


def test_say_prints_what_is_shown(capsys):
    say("a\x1b[2Jb")
    assert capsys.readouterr().out == "a\\u001b[2Jb\n"


@pytest.mark.parametrize("command", ["show", "du", "ls", "lineage", "explain"])
def test_no_record_reaches_the_terminal_unescaped(tmp_path, command):
    bad = "a\x1b]0;title\x07\x9b2J\u202eb\n[old] fake: line"
    store = Store.open(tmp_path / "st [old]" / "store")
    record = store.publish(
        payload(1, "acquire-model"),
        {"a": b"1"},
        facts={"model_type": bad, bad: bad},
        provenance={"machine": bad, bad: [bad], "inputs": {bad: {"step": bad, "key": "0" * 64}}},
    )
    wanted = {"show": [record.key], "lineage": [record.key], "explain": [record.key] * 2}
    for style in [[], ["--json"]] if command != "explain" else [[]]:
        output = run(store, command, *wanted.get(command, []), *style)
        assert not obeyed(output)
        assert not any(line.startswith("[old] fake") for line in output.splitlines())
    if command == "show":
        assert "/st [old]/store/views/" in output.replace("\\n", "\n")


def test_nothing_in_the_flows_prints_in_another_way():
    """``Terminal`` and ``say`` are the only places that print, so none can forget to escape."""
    for path in Path(flows.__file__).parent.rglob("*.py"):
        if path.name in ("terminal.py", "output.py"):  # the latter speaks when stdout is broken
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "typer.echo", "Console", "click.echo"), path
                assert not called.startswith(("sys.stdout.", "sys.stderr.")), path
                markup = [k.value for k in node.keywords if k.arg == "markup"]
                assert all(isinstance(v, ast.Constant) and v.value is False for v in markup), path
                if called == "TextColumn":
                    assert markup or "fields" not in ast.unparse(node), path
