"""The page in a real browser: offline, without complaint, in light, dark and on paper.

With ``PARAKNOW_PICTURES`` set, the pictures are kept in that folder for a person to look at.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Tab, browser_tab, find_browser
from support.fake_comparison import fake_comparison
from support.patience import wait_until

from paraknow_core.report.page.render import render_page

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here: the page is not looked at in a browser"
)

INK = (
    "getComputedStyle(document.querySelector('figure svg [style*=\"var(--ink)\"]'))"
    ".fill.match(/\\d+/g).map(Number)"
)
CUT = """[...document.querySelectorAll('.scroll:has(.stack)')]
    .filter(e => e.scrollWidth > e.clientWidth).map(e => e.firstElementChild.className)"""
BROKEN = """[...document.querySelectorAll('.stack bdi, .legend bdi, h1 bdi, h2 bdi')].flatMap(e => {
    const node = e.firstChild, found = [];
    for (const word of node ? node.data.matchAll(/[^ \\u2010-]+/g) : []) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(r => r.top)).size > 1) found.push(word[0]);
    }
    return found;
  })"""
"""Words of names that stand on more than one line."""
SHOWN = "[...document.querySelectorAll('{}')].filter(e => e.getClientRects().length).length"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render_page(fake_comparison()), encoding="utf-8")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PARAKNOW_PICTURES") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    assert BROWSER is not None
    with browser_tab(BROWSER, tmp_path / "profile") as found:
        found.size(1400, 1100)
        yield found


def is_dark(tab: Tab) -> bool:
    colour = tab.eval("getComputedStyle(document.documentElement).backgroundColor")
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 3 * 128


def test_every_plot_is_drawn_offline_in_light_dark_and_print(
    tab: Tab, page: Path, pictures: Path
) -> None:
    tab.media(scheme="light")
    tab.open(page.as_uri())
    tab.picture(pictures / "top.png")
    tab.size(1400, 9000)
    assert tab.eval(SHOWN.format("figure svg.drawing")) == 18
    assert not is_dark(tab)
    assert tab.eval(INK) == [28, 31, 35]
    tab.picture(pictures / "light.png")

    tab.media(scheme="dark")
    tab.wait("matchMedia('(prefers-color-scheme: dark)').matches")
    assert is_dark(tab)
    assert min(tab.eval(INK)) > 200
    tab.picture(pictures / "dark.png")

    tab.media(scheme="dark", medium="print")
    assert tab.eval(SHOWN.format("figure svg.drawing")) == 18
    assert not is_dark(tab)
    assert tab.eval(INK) == [0, 0, 0]
    tab.picture(pictures / "print.png")
    assert tab.call("Page.printToPDF")["data"]

    assert tab.complaints == []
    assert set(tab.requests) == {page.as_uri()}


def test_hovering_tells_the_value(tab: Tab, page: Path, pictures: Path) -> None:
    tab.open(page.as_uri())
    tab.eval("window.bar = [...document.querySelectorAll('figure .mark')].at(-1)")
    words = tab.eval("window.bar.querySelector('title').textContent")
    tab.eval("window.bar.scrollIntoView({block: 'center'})")
    x, y = tab.eval(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])(window.bar.getBoundingClientRect())"
    )

    def told() -> bool:
        """Come in from outside: the scrolling's own event, a frame later, hides what is told."""
        for place in ({"x": 2, "y": 2}, {"x": x, "y": y}):
            tab.call("Input.dispatchMouseEvent", type="mouseMoved", **place)
        return bool(tab.eval("!document.querySelector('.tip').hidden"))

    wait_until("a tip over the mark", told)
    assert words.startswith("evaluate")
    assert tab.eval("document.querySelector('.tip').textContent") == words
    tab.picture(pictures / "hover.png")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    tab.wait("document.querySelector('.tip').hidden")
    assert tab.eval("window.bar.querySelector('title').textContent") == words


def test_without_scripts_the_drawings_and_titles_stay(tab: Tab, page: Path, pictures: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    for domain in ("Page", "Runtime", "Log", "Network"):
        tab.call(f"{domain}.enable")
    tab.call("Page.navigate", url=page.as_uri())
    tab.wait("document.readyState == 'complete' && document.querySelectorAll('figure').length")
    assert tab.eval(SHOWN.format("figure svg.drawing")) == 18
    assert tab.eval("document.querySelectorAll('figure title').length") > 500
    tab.size(1400, 5000)
    tab.picture(pictures / "static.png")


def test_a_script_that_got_in_would_not_run(tab: Tab, page: Path, tmp_path: Path) -> None:
    """The second line of defence: even markup that escaped escaping is forbidden to run."""
    broken = tmp_path / "broken.html"
    attack = "<script>window.hit = 1</script><img src='data:,' onerror='window.hit = 2'>"
    text = page.read_text(encoding="utf-8").replace("<main>", f"<main>{attack}", 1)
    broken.write_text(text, encoding="utf-8")
    tab.open(broken.as_uri())
    tab.wait("document.querySelector('.tip')")  # the page's own program ran
    assert tab.eval("typeof window.hit") == "undefined"
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)


@pytest.mark.parametrize(("width", "medium"), [(390, ""), (687, "print"), (1280, "")])
def test_no_sentence_is_cut_and_no_name_broken(
    tab: Tab, page: Path, pictures: Path, width: int, medium: str
) -> None:
    """On a phone, on paper and on a desk: what is read first needs no scrolling aside."""
    tab.size(width, 900)
    tab.media(medium=medium)
    tab.open(page.as_uri())
    assert tab.eval("document.documentElement.scrollWidth") <= width
    assert tab.eval(SHOWN.format(".verdicts .sentence")) == 2
    assert tab.eval(CUT) == []
    assert tab.eval(BROKEN) == []
    tab.picture(pictures / f"{width}{medium}.png")
