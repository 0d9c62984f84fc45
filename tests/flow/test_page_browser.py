"""The page in a real browser: offline, without complaint, in light, dark and on paper.

With ``PARAKNOW_PICTURES`` set, the pictures are kept in that folder for a person to look at.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Tab, browser_tab, find_browser
from support.fake_comparison import fake_comparison

from paraknow_core.report.page.render import render_page

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here: the page is not looked at in a browser"
)

DRAWN = "document.querySelectorAll('.is-live svg.main-svg').length"
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
    tab.size(1400, 9000)  # every plot comes into view
    places = tab.eval("document.querySelectorAll('[data-spec]').length")
    assert places == 14
    tab.wait(f"document.querySelectorAll('.is-live').length == {places}")
    assert tab.eval(DRAWN) >= places
    assert tab.eval(SHOWN.format("[data-spec] > .static")) == 0
    assert not is_dark(tab)
    tab.picture(pictures / "light.png")

    tab.media(scheme="dark")
    tab.wait("matchMedia('(prefers-color-scheme: dark)').matches")
    assert is_dark(tab)
    ink = "getComputedStyle(document.querySelector('.live .xtick text')).fill"
    tab.wait(f"{ink}.match(/\\d+/g).slice(0, 3).every(v => v > 128)")
    tab.picture(pictures / "dark.png")

    tab.media(scheme="dark", medium="print")
    assert tab.eval(SHOWN.format(".live")) == 0
    assert tab.eval(SHOWN.format("[data-spec] > .static")) == places
    assert not is_dark(tab)
    tab.picture(pictures / "print.png")
    assert tab.call("Page.printToPDF")["data"]

    assert tab.complaints == []
    assert {url for url in tab.requests if not url.startswith(("data:", "blob:"))} == {
        page.as_uri()
    }


def test_hovering_tells_the_value(tab: Tab, page: Path, pictures: Path) -> None:
    tab.open(page.as_uri())
    tab.eval("document.querySelector('[data-spec=pair-0-sweep]').scrollIntoView()")
    tab.wait("document.querySelector('[data-spec=pair-0-sweep].is-live .points path')")
    box = tab.eval(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector("
        "'[data-spec=pair-0-sweep] .points path').getBoundingClientRect())"
    )
    for shift in (8, 0):
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + shift, y=box[1])
    tab.wait("document.querySelector('[data-spec=pair-0-sweep] .hoverlayer .hovertext')")
    words = tab.eval("document.querySelector('.hoverlayer .hovertext').textContent")
    assert "plain LoRA" in words
    fill = "getComputedStyle(document.querySelector('.hoverlayer .hovertext tspan')).fill"
    assert tab.eval(fill).startswith("rgb(28")  # the page's own styles do not reach in here
    assert "1." in words
    tab.picture(pictures / "hover.png")


def test_without_scripts_the_drawings_stay(tab: Tab, page: Path, pictures: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    for domain in ("Page", "Runtime", "Log", "Network"):
        tab.call(f"{domain}.enable")
    tab.call("Page.navigate", url=page.as_uri())
    tab.wait("document.readyState == 'complete' && document.querySelectorAll('figure').length")
    assert tab.eval(SHOWN.format("[data-spec] > .static svg")) == 14
    assert tab.eval(DRAWN) == 0
    tab.size(1400, 5000)
    tab.picture(pictures / "static.png")


def test_a_script_that_got_in_would_not_run(tab: Tab, page: Path, tmp_path: Path) -> None:
    """The second line of defence: even markup that escaped escaping is forbidden to run."""
    broken = tmp_path / "broken.html"
    attack = "<script>window.hit = 1</script><img src='data:,' onerror='window.hit = 2'>"
    text = page.read_text(encoding="utf-8").replace("<main>", f"<main>{attack}", 1)
    broken.write_text(text, encoding="utf-8")
    tab.open(broken.as_uri())
    tab.wait(f"{DRAWN} > 0 || (scrollTo(0, 2000), false)")
    assert tab.eval("typeof window.hit") == "undefined"
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)


def test_a_narrow_window_scrolls_only_down(tab: Tab, page: Path, pictures: Path) -> None:
    tab.size(420, 900)
    tab.open(page.as_uri())
    assert tab.eval("document.documentElement.scrollWidth") <= 420
    tab.picture(pictures / "narrow.png")
