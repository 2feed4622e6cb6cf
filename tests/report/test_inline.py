"""Figures inside pages: identifiers of their own, links to rows, names as text, PNGs of what is large."""

import re
from html.parser import HTMLParser

import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from scalelab.laws.draw.style import plain
from scalelab.plots.linked import RUN, anchors, points
from scalelab.report import inline as room
from scalelab.report.inline import inline

HOSTILE = "--><script>alert(1)</script><!-- ]]> \" onload='x' $\\frac$ 中文 \x07"


def drawn(name: str = "runs", *, rows: bool = True) -> Figure:
    figure = Figure()
    axis = figure.add_subplot()
    points(axis, [1.0, 2.0, 3.0], [1.0, 4.0, 9.0], anchors(RUN, range(3)) if rows else None, size=4)
    axis.set_title(plain(name))
    return figure


class Tags(HTMLParser):
    """The elements of a piece of HTML, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_identifiers_of_two_figures_differ_and_each_refers_to_its_own() -> None:
    pages = [inline(drawn(), name, "x") for name in ("one", "two")]
    ids = [set(re.findall(r' id="([^"]+)"', page)) for page in pages]
    assert ids[0] and not ids[0] & ids[1]
    for page, own in zip(pages, ids, strict=True):
        referred = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
        assert own == referred - {"row-run-0", "row-run-1", "row-run-2"}


def test_every_point_leads_to_its_row() -> None:
    linked, bare = (Tags(inline(drawn(rows=rows), "f", "x")).found for rows in (True, False))
    assert [attrs["href"] for tag, attrs in linked if tag == "a"] == ["#row-run-0", "#row-run-1", "#row-run-2"]
    assert not [tag for tag, _ in bare if tag == "a"]


def test_one_point_alone_leads_to_its_row_too() -> None:
    figure = Figure()
    points(figure.add_subplot(), [1.0], [1.0], anchors(RUN, [7]))
    assert [attrs["href"] for tag, attrs in Tags(inline(figure, "f", "x")).found if tag == "a"] == ["#row-run-7"]


def test_hostile_names_are_text() -> None:
    page = inline(drawn(HOSTILE), "f", HOSTILE)
    tags = Tags(page).found
    assert {tag for tag, _ in tags} <= {"svg", "g", "path", "defs", "use", "a", "clippath", "rect"}
    assert tags[0][1]["aria-label"] == HOSTILE
    assert not any(name.startswith("on") for _, attrs in tags for name in attrs)
    assert "<!--" not in page


def test_what_is_large_as_svg_is_a_png(monkeypatch: pytest.MonkeyPatch) -> None:
    small = inline(drawn(), "f", "a & b")
    monkeypatch.setattr(room, "LARGEST_SVG", 100)
    large = inline(drawn(), "f", "a & b")
    assert isinstance(large, Markup) and small.startswith("<svg ")
    assert re.match(r'<img class="drawn" alt="a &amp; b" style="--width:\d+px" src="data:image/png;base64,iVBOR', large)
