"""Experiments and ``--set``: whatever is given, a config or one line that says what is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.config.compare import CompareConfig
from flows.config.load import load_config
from flows.config.transfer import TransferConfig
from paraknow_core.errors import ConfigError
from paraknow_core.printable import printable

CONFIGS = Path(__file__).parents[3] / "configs"
MODELS: dict[str, Any] = {"llama.yaml": TransferConfig, "compare.yaml": CompareConfig}
VALUES = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**64, 10**40, 0.5, "", "a", "\x1b[31m", "é", "\n"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "rows", "finetune", "a\x1bb", "0"]), inner)
    ),
    max_leaves=5,
)


def places(config: type[BaseModel], parents: tuple[str, ...] = ()) -> Iterator[str]:
    """Every setting of a config, by its dotted name, one level deep."""
    for name, field in config.model_fields.items():
        yield ".".join([*parents, name])
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if not parents and isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from places(inner, (name,))


PLACES = [(file, place) for file, config in MODELS.items() for place in places(config)]


@settings(max_examples=100)
@given(st.sampled_from(PLACES), VALUES)
@example(("compare.yaml", "settings"), {"finetune": 5})
@example(("compare.yaml", "tasks"), [{"name": "a", "nmae": "b"}])
@example(("compare.yaml", "tasks"), [5, None])
@example(("compare.yaml", "methods"), [{"name": "plain", "set": {"finetune": [1]}}])
@example(("llama.yaml", "problems"), {"a\x1bb": {"c": 1}})
def test_any_value_of_any_setting_is_taken_or_refused_in_one_line(
    place: tuple[str, str], value: Any
) -> None:
    file, name = place
    try:
        load_config(MODELS[file], CONFIGS / file, [f"{name}={json.dumps(value)}"])
        return
    except ConfigError as error:
        refusal = str(error)
    assert refusal == printable(refusal)
    assert len(refusal) < 3000


@pytest.mark.parametrize("text", ["a: 1\nname: x\na: 2\n", "name: [\n\n", "name: !!int abc"])
def test_a_bad_experiment_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml is no valid YAML: line [13]: "):
        load_config(TransferConfig, tmp_path / "x.yaml")


@pytest.mark.parametrize("given", ["name=[", "name=!!int abc", "name={a: 1, a: 2}", "n\x1bme.a=1"])
def test_a_bad_override_is_refused_in_one_line(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--set '|unknown setting") as caught:
        load_config(TransferConfig, CONFIGS / "llama.yaml", [given])
    assert str(caught.value) == printable(caught.value)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    "surroundings", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "utf-8"}]
)
def test_every_text_reaches_every_terminal(tmp_path: Path, surroundings: dict[str, str]) -> None:
    """In an encoding that lacks it, as an escape; what is JSON stays JSON.

    Where stdout is ASCII, click's echo writes UTF-8 all the same, and "?" for a surrogate.
    """
    texts = ["é × →", "😀"]
    if surroundings == {"PYTHONIOENCODING": "utf-8"}:
        texts.append(os.fsdecode(b"caf\xe9.jsonl"))
    code = (
        "import json, sys, typer\n"
        "from flows.cli.streams import prepare_streams\n"
        "from rich.console import Console\n"
        "prepare_streams()\n"
        f"typer.echo(json.dumps({texts!a}, ensure_ascii=False))\n"
        f"Console(stderr=True).print({texts[0]!a}, markup=False)\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO"))}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=kept | surroundings, capture_output=True, check=True
    )
    assert json.loads(ran.stdout.decode("utf-8")) == texts
    shown = ran.stderr.decode("utf-8").strip()
    assert shown in ("é × →", r"\u00e9 \u00d7 \u2192")
