"""A report in a real browser: nothing fetched, nothing sticks out, points say what they are, also on paper."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelab.laws import study
from scalelab.laws import write as write_laws
from scalelab.readers import read
from scalelab.recipe import write_recipe
from scalelab.recommend import recommend
from tests.helpers import scalelab, sweep
from tests.report.browser import CACHE, NotHere, Page, browsing
from tests.test_show_report import confirmed_and_checked, loss

pytestmark = pytest.mark.slow

WIDTHS = (375, 1280)
ORDER = (
    "in-short", "runs-and-cost", "does-the-parametrization-transfer-here", "best-learning-rates-scale-by-scale",
    "how-the-best-learning-rate-moves", "loss-against-compute", "the-largest-scale-left-out", "the-recipe",
    "the-proof-at-the-target", "report-card", "to-repeat-it", "not-here",
)  # fmt: skip
HOSTILE = "<img src=x onerror=console.error(1)> \" ' & </script><script>console.error(2)</script>"
VALLEYS = "document.querySelector('#best-learning-rates-scale-by-scale svg')"
# The middle of a run's point that is to be seen, once the window has scrolled there.
POINT = f"""(async () => {{
  {VALLEYS}.scrollIntoView({{block: "center", behavior: "instant"}});
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  for (const link of {VALLEYS}.querySelectorAll('a[href^="#row-run"]')) {{
    const box = link.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
    if (document.elementFromPoint(x, y)?.closest("a") === link) return [x, y];
  }}
}})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    try:
        with browsing(CACHE, tmp_path_factory.mktemp("browser") / "profile") as opened:
            yield opened
    except NotHere as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of 96 runs with all that the commands write, under a hostile name."""
    folder = tmp_path_factory.mktemp("studies") / "a <b>study</b> & more"
    sweep(folder / "proxies", loss, parametrizations=("sp", "mup"), log2_lrs=range(-10, -2))
    runs = read([folder / "proxies"])
    laws = study(runs.table, theory={"width": 0.0}, template=runs.template, sources=runs.sources, draws=100)
    (folder / "laws").mkdir()
    write_laws(laws, folder / "laws" / "laws.json")
    recipe = recommend(laws, {"width": 256}, parametrization="mup")
    write_recipe(recipe, folder / "recipe.yaml")
    confirmed_and_checked(folder, recipe, runs, {0.5: (2.5,), 1.0: (2.43,), 2.0: (2.45,)})
    result = scalelab("report", str(folder), "--title", HOSTILE)
    assert result.exit_code == 0, result.output
    shutil.rmtree(folder / "proxies")  # of which the page is independent
    return folder / "report.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_shows_all_and_fetches_nothing(width: int, dark: bool, page: Page, file: Path) -> None:
    page.open(file, width=width, dark=dark)
    assert page.errors == []
    assert [address for address in page.requests if not address.startswith("data:")] == [file.absolute().as_uri()]
    assert page.of("document.title") == HOSTILE and page.of("document.documentElement.lang") == "en"
    assert page.of("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.of("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    there = page.of("[...document.querySelectorAll('main > section')].map((section) => section.id)")
    assert [name for name in there if name in ORDER] == list(ORDER)
    assert page.of("document.querySelectorAll('svg.drawn').length") >= 8
    assert page.of("[...document.querySelectorAll('svg.drawn')].every((drawn) => drawn.getAttribute('aria-label'))")
    assert page.of(
        "[...document.querySelectorAll('nav a')].every((link) => document.getElementById(link.hash.slice(1)))"
    )
    ids = page.of("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))


def test_a_point_says_which_run_it_is_and_leads_to_its_row(page: Page, file: Path) -> None:
    page.open(file, width=1280)
    assert page.of("document.getElementById('tip').hidden")
    page.point_at(*page.of(POINT))
    said = page.of("document.getElementById('tip').innerText")
    assert not page.of("document.getElementById('tip').hidden")
    link = page.of("document.querySelector('svg a.on').getAttribute('href')")
    cells = page.of(f"[...document.querySelector('{link}').cells].map((cell) => cell.textContent.trim())")
    assert link.startswith("#row-run-") and all(cell in said for cell in cells)
    assert "loss (nats/token)" in said and "peak learning rate" in said
    page.point_at(2, 2)
    assert page.of("document.getElementById('tip').hidden")


def test_points_are_reached_by_keyboard(page: Page, file: Path) -> None:
    page.open(file, width=1280)
    page.of(f"{VALLEYS}.focus()")
    page.key("ArrowRight", 39)
    first = page.of("document.querySelector('svg a.on').getAttribute('href')")
    page.key("ArrowRight", 39)
    assert page.of("document.querySelector('svg a.on').getAttribute('href')") != first
    assert not page.of("document.getElementById('tip').hidden")
    page.key("ArrowLeft", 37)
    page.key("Enter", 13)
    page.of("0")
    assert page.of("location.hash") == first
    assert page.of(f"document.querySelector('{first}').closest('details').open")
    page.key("Escape", 27)
    assert page.of("document.getElementById('tip').hidden")


def test_on_paper_nothing_sticks_out_and_folded_tables_are_open(page: Page, file: Path) -> None:
    page.open(file, width=700, media="print")
    assert page.of("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.of("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.printed().startswith(b"%PDF")
    assert page.of("[...document.querySelectorAll('details:not(.unprinted)')].every((folded) => folded.open)")
