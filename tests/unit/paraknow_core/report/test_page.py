"""The page: whole without scripts, safe with any text, and one file."""

import base64
import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.fake_comparison import METHODS, fake_comparison

from paraknow_core.errors import DataError
from paraknow_core.report.page import inline
from paraknow_core.report.page.data import Comparison, Failure, Origin, Pair, ShownMethod
from paraknow_core.report.page.outcome import MethodAnswer, Prediction, Score, Trial
from paraknow_core.report.page.palette import NAMES, names, style_sheet
from paraknow_core.report.page.render import render_page
from paraknow_core.report.page.sheet import Sheet
from paraknow_core.report.page.text import percent
from paraknow_core.report.pictures import forest_plot
from paraknow_core.statistics.contrast import Contrast

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "</title></style><svg onload=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "' onmouseover='alert(1)' x=\"",
    "<!--<script>",
    "-->]]>",
    "{{ 7 * 7 }}{% raw %}",
    "%{x} <b>bold</b> <a href='javascript:alert(1)'>x</a>",
    "[link](javascript:alert(1)) **bold** `code` | cell",
    "مرحبا \u202eright to left\u202c שלום",
    "🦜👩‍👩‍👧‍👦 é̩̌",
    "n" * 300,
    "\x00\x07\x1b[31m\r\n\ttab \ud800 \ufffe",
    "&lt;b&gt; &amp; &#x3c;script&#x3e;",
    "url(https://example.org/x.png) @import 'https://example.org'",
    "",
)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Parsed(HTMLParser):
    """Every element with its attributes, and the text by the element it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        """What a reader can see, white space squeezed."""
        shown = (words for tag, words in self.words if tag not in ("script", "style"))
        return " ".join(" ".join(shown).split())

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Elements with the names of their attributes."""
        return [(tag, tuple(sorted(attrs))) for tag, attrs in self.elements]


def with_texts(value: Any, text: str) -> Any:
    """The same data with every free text replaced; names of methods stay in step."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        kept = {"kind", "split", "outcome", "version"}
        new = {n: v if n in kept else with_texts(v, text) for n, v in fields.items()}
        return type(value)(**new)
    if isinstance(value, tuple):
        return tuple(with_texts(item, text) for item in value)
    if isinstance(value, dict):
        return {name + text: with_texts(item, text) for name, item in value.items()}
    return value + text if isinstance(value, str) else value


def small_comparison() -> Comparison:
    """One pair with a little of everything."""
    whole = fake_comparison()
    pair = whole.pairs[1]
    few = {name: getattr(pair, name)[:6] for name in ("scores", "contrasts", "curves", "trials")}
    few |= {name: getattr(pair, name)[:6] for name in ("windows", "spectra", "modules", "origins")}
    return dataclasses.replace(whole, pairs=(dataclasses.replace(pair, **few),))


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(fake_comparison())


@pytest.fixture(scope="module")
def parsed(page: str) -> Parsed:
    return Parsed(page)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_becomes_an_element_or_an_attribute(parsed: Parsed, text: str) -> None:
    page = render_page(with_texts(small_comparison(), text))
    page.encode("utf-8")
    hostile = Parsed(page)
    assert hostile.open == []
    # Long names may not fit into a cell of a drawing, nothing else may differ.
    kinds = {tag for tag, _ in parsed.elements}
    assert {tag for tag, _ in hostile.elements} <= kinds
    assert sum(tag == "script" for tag, _ in hostile.elements) == 1
    allowed = {name for _, attrs in parsed.shape for name in attrs}
    assert {name for _, attrs in hostile.shape for name in attrs} <= allowed
    assert not any(name.startswith("on") for name in allowed)
    assert not any("javascript:" in (a.get("href") or "") for _, a in hostile.elements)


def test_texts_are_shown_as_they_are(page: str) -> None:
    for text in ("<script>alert(1)</script>", "\" x='", "&lt;b&gt;", "{{ 7 * 7 }}", "**bold**"):
        assert text in Parsed(render_page(with_texts(small_comparison(), text))).text


def test_control_characters_are_made_visible() -> None:
    text = Parsed(render_page(with_texts(small_comparison(), "\x00\x1b\ud800"))).text
    assert "␀␛\ufffd" in text


def test_nothing_is_fetched(page: str, parsed: Parsed) -> None:
    loading = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}
    found = [a[n] for _, a in parsed.elements for n in loading & set(a)]
    assert found
    ids = Counter(a["id"] for _, a in parsed.elements if "id" in a)
    assert all(value is not None and ids[value.removeprefix("#")] == 1 for value in found)
    assert set(ids.values()) == {1}
    style = "".join(words for tag, words in parsed.words if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert "://" not in page


def test_the_policy_names_the_program_and_forbids_the_rest(page: str, parsed: Parsed) -> None:
    policy = next(a["content"] for _, a in parsed.elements if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split(";")[1]
    ((program,),) = (re.findall(r"<script>(.*?)</script>", page, re.DOTALL),)
    assert base64.b64encode(hashlib.sha256(program.encode()).digest()).decode() in policy
    assert policy.count("sha256-") == 1


def test_every_section_has_its_numbers_without_scripts(parsed: Parsed) -> None:
    text = parsed.text
    for title in (
        "Verdicts",
        "Results on test",
        "Paired differences",
        "Learning curves",
        "Validation during training",
        "Learning-rate sweep",
        "Teacher’s sensitivity",
        "Windows taken",
        "Singular spectra",
        "Likeness of layers",
        "Start points",
        "Cost by step",
        "What the student's tokens could not say",
        "What of it the trained student has",
        "Predictions side by side",
        "Provenance",
    ):
        assert text.count(title) >= 2 or title == "Verdicts", title
    for pair in fake_comparison().pairs:
        assert pair.verdict in text
        assert all(f"{s.mean:.4f}" in text for s in pair.scores)
        assert all(f"{abs(c.mean or 0):.3f}" in text for c in pair.contrasts)
        assert all(origin.key in text for origin in pair.origins)
        assert all(window.module in text for window in pair.windows)
        assert all(f"{t.value:.3f}" in text for t in pair.trials if t.value is not None)
        assert pair.cka is not None
        assert all(f"{v:.3f}" in text for row in pair.cka.matrix for v in row if v is not None)
        assert all(fact.module in text for fact in pair.modules)
        for matrix in pair.novelty:
            assert all(f"{t.token} {t.row} {percent(t.share)}" in text for t in matrix.tokens)
        for one in pair.arrived:
            learnt = f"{percent(one.change_share)} {percent(one.share_by_chance)}"
            assert f"{one.method} {one.role} {learnt} {one.cosine:.3f}" in text


def test_verdicts_come_first(page: str) -> None:
    first = page.index("<table")
    assert page.index('class="verdicts stack"') - first < 20
    assert first < page.index('class="results stack"')


def test_a_sentence_stands_once_and_every_table_says_what_it_holds(parsed: Parsed) -> None:
    for pair in fake_comparison().pairs:
        assert parsed.text.count(pair.verdict) == 1
    tags = [tag for tag, _ in parsed.elements]
    after = [tags[place + 1] for place, tag in enumerate(tags) if tag == "table"]
    assert len(after) > 20
    assert set(after) == {"caption"}


def test_every_value_of_a_drawing_is_told_when_hovered(page: str, parsed: Parsed) -> None:
    """One title a mark: what is drawn can be read off."""
    drawn = {"mark", "catch", "catch-line"}
    marks = Counter(a.get("class") for _, a in parsed.elements if a.get("class") in drawn)
    titles = [words for tag, words in parsed.words if tag == "title"]
    told = " | ".join(titles)
    assert sum(marks.values()) == len(titles) - 1
    for pair in fake_comparison().pairs:
        for score in pair.scores:
            assert all(f"{score.method}\n{v:.4f}" in told for v in score.values if v is not None)
        assert all(f"{c.label}\n" in told for c in pair.contrasts)
        assert all(f"{t.value:.3f} at {t.learning_rate:g}" in told for t in pair.trials if t.value)
        steps = {step for curve in pair.curves for step in curve.steps}
        assert all(f"optimizer step {step}\n" in told for step in steps)
        assert all(told.count(window.module) >= 2 for window in pair.windows)
        facts = [
            f"{f.method}\n{f.module}: {f.norm_ratio:.4f}" for f in pair.modules if f.norm_ratio
        ]
        assert all(fact in told for fact in facts)
        assert all(cost.step in told for cost in pair.costs)


def test_drawings_take_every_colour_from_the_style_sheet(page: str) -> None:
    """Or it would stay light in the dark; and each of its themes has all of them."""
    assert len(names()) == len(NAMES)
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.search(r'style="[^"]*(#|rgb|url)', drawings)
    used = set(re.findall(r"var\(--(\w+)\)", drawings)) - {"k"}
    assert used <= set(NAMES)
    assert len(used) > 12
    for theme in style_sheet().split(":root {")[1:4]:
        assert used <= set(re.findall(r"--(\w+): #", theme.partition("}")[0]))


def test_a_colour_that_no_theme_knows_is_refused() -> None:
    def plot() -> Sheet:
        sheet = Sheet(10.0)
        sheet.axes(left=0, right=0, top=0, bottom=0).plot([0, 1], color="red")
        return sheet

    with pytest.raises(KeyError, match="ff0000"):
        inline.drawing(plot, "a line", "x")


def test_size_and_repeatability(page: str) -> None:
    assert len(page.encode()) < 800_000
    assert page == render_page(fake_comparison())


def test_a_persons_own_settings_of_matplotlib_change_nothing() -> None:
    import matplotlib as mpl

    comparison = small_comparison()
    plain = render_page(comparison)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        before = dict(mpl.rcParams)
        assert render_page(comparison) == plain
        assert dict(mpl.rcParams) == before


def test_two_threads_draw_the_same_as_one() -> None:
    comparison = small_comparison()
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(render_page, [comparison] * 2)
    assert one == two == render_page(comparison)


def test_what_is_missing_is_said() -> None:
    empty = Pair(name="a pair", teacher="t", student="s")
    text = Parsed(render_page(Comparison(title="x", methods=(), pairs=(empty,)))).text
    for sentence in (
        "No verdict was handed over",
        "No test results were handed over",
        "No paired differences were handed over",
        "No train losses",
        "No validation losses",
        "No learning-rate trials",
        "No sensitivity of the teacher",
        "No windows were handed over",
        "No singular values",
        "Layers were not compared",
        "Start points were not compared",
        "No computing times",
        "No predictions",
        "No stored results",
        "No method is described",
        "not tested",
    ):
        assert sentence in text
    nothing = Parsed(render_page(Comparison(title="x", methods=(), pairs=()))).text
    assert "The comparison holds no pair" in nothing


def test_numbers_that_do_not_exist_are_no_numbers() -> None:
    """One seed, failed trials, NaN, zeros: nothing divides by zero, nothing prints nan."""
    pair = Pair(
        name="p",
        teacher="t",
        student="s",
        scores=(Score(method="a", mean=float("nan"), values=(float("inf"),)),),
        contrasts=(
            Contrast(label="a − b", method="a", against="b", mean=None, low=None, high=None),
            Contrast(label="c", method="a", against="c", mean=0.0, low=0.0, high=0.0, p=0.0),
        ),
        trials=(
            Trial(method="a", learning_rate=1e-3, value=None),
            Trial(method="a", learning_rate=2e-3, value=1.0, chosen=True),
        ),
        failures=(Failure(cell="a", reason="b"),),
    )
    text = Parsed(render_page(Comparison(title="x", methods=(), pairs=(pair,)))).text
    assert not re.search(r"\b(nan|inf|None)\b", text)


def with_numbers(value: Any, change: Callable[[float], float]) -> Any:
    """The same data with every measured number changed; learning rates stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        kept = {"learning_rate"}
        new = {n: v if n in kept else with_numbers(v, change) for n, v in fields.items()}
        return type(value)(**new)
    if isinstance(value, tuple):
        return tuple(with_numbers(item, change) for item in value)
    if isinstance(value, dict):
        return {name: with_numbers(item, change) for name, item in value.items()}
    return change(value) if isinstance(value, float) else value


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: 0.0, id="zero"),
        pytest.param(lambda _: 1.0, id="equal"),
        pytest.param(lambda v: -abs(v), id="negative"),
        pytest.param(lambda v: v * 1e300, id="huge"),
        pytest.param(lambda v: v * 1e-310, id="subnormal"),
        pytest.param(lambda v: v if v > 1 else math.nan, id="nan"),
        pytest.param(lambda v: v if v < 1 else math.inf, id="infinite"),
    ],
)
def test_every_picture_is_drawn_of_any_numbers(change: Callable[[float], float]) -> None:
    told: list[str] = []
    page = render_page(with_numbers(small_comparison(), change), tell=told.append)
    assert told == []
    assert not re.search(r'(d|x|y)="[^"]*(nan|inf)', page)


def test_a_picture_as_a_file_is_the_same_each_time(tmp_path: Path) -> None:
    comparison = with_texts(fake_comparison(), " of $x^2$ 中文")
    for name in ("a.png", "b.png"):
        forest_plot(comparison, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    empty = dataclasses.replace(comparison, pairs=())
    forest_plot(empty, tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 0


def test_data_survive_json() -> None:
    comparison = fake_comparison()
    text = json.dumps(comparison.to_json(), allow_nan=False)
    again = Comparison.from_json(json.loads(text))
    assert again == comparison
    assert render_page(again) == render_page(comparison)


def test_data_of_another_form_are_refused() -> None:
    fields = fake_comparison().to_json()
    with pytest.raises(DataError, match="version 1"):
        Comparison.from_json({**fields, "version": 1})
    with pytest.raises(DataError, match="pairs"):
        Comparison.from_json({**fields, "pairs": 3})
    fields["pairs"][0]["scores"][0]["colour"] = "red"
    with pytest.raises(DataError, match=r"scores.0.colour"):
        Comparison.from_json(fields)


def test_undeclared_methods_and_many_of_them_are_drawn() -> None:
    names = [f"method {i}" for i in range(30)]
    scores = tuple(Score(method=n, mean=1.0, values=(1.0, 2.0)) for n in names)
    rows = tuple(MethodAnswer(method=n, text="") for n in names)
    pair = Pair(
        name="p",
        teacher="t",
        student="s",
        scores=scores,
        trials=tuple(Trial(method=n, learning_rate=0.1, value=1.0) for n in names),
        predictions=(Prediction(id="1", prompt="", expected="", answers=rows),),
        origins=(Origin(label="x", step="y", key="z"),),
    )
    text = Parsed(render_page(Comparison(title="x", methods=METHODS[:1], pairs=(pair,)))).text
    assert all(text.count(name) >= 3 for name in names)


@pytest.mark.parametrize(
    ("low", "high", "p", "outcome", "wanted"),
    [
        (-2.0, -1.0, 0.01, "", "better"),
        (-2.0, -1.0, 0.2, "", "unclear"),
        (1.0, 2.0, 0.01, "", "worse"),
        (-1.0, 1.0, 0.01, "", "unclear"),
        (-2.0, -1.0, None, "", "better"),
        (None, None, 0.01, "", "unclear"),
        (-2.0, -1.0, 0.01, "unclear", "unclear"),
    ],
)
def test_outcome_of_a_contrast(
    low: float | None, high: float | None, p: float | None, outcome: str, wanted: str
) -> None:
    found = Contrast(
        label="", method="a", against="b", mean=0.0, low=low, high=high, p_holm=p, outcome=outcome
    )
    assert found.result == wanted


def test_methods_have_the_same_colour_in_every_pair(page: str) -> None:
    assert ShownMethod(name="x").kind == "method"
    for place, method in enumerate(METHODS):
        dash = " dotted" if method.kind == "control" else ""
        assert page.count(f'<span class="key m{place}{dash}">') >= 2
