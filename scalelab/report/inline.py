"""Figures inside pages: as SVG where that is small, which prints sharp and whose points can be asked; else as PNG."""

import base64
import io
import re
import warnings

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from scalelab import plots

LARGEST_SVG = 1_200_000  # bytes; of more, a PNG is smaller, and a page stays quick
DPI = 150
POINTS_AN_INCH, PIXELS_AN_INCH = 72, 96


def inline(figure: Figure, name: str, alt: str, *, largest: int | None = None) -> Markup:
    """A figure as an element of a page.

    Args:
        figure: what to show.
        name: of the figure in this page; identifiers inside it begin with it.
        alt: what is to be seen, for who cannot see it.
        largest: bytes that it may have as SVG; `LARGEST_SVG` if left out.
    """
    with warnings.catch_warnings(), mpl.rc_context(plots.STYLE):
        # Names come from anywhere; a box for a letter that the font lacks is all that there is to do.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        held = io.StringIO()
        figure.savefig(held, format="svg", metadata={"Date": None}, transparent=True)
        text = _slim(held.getvalue(), name)
        if len(text) <= (LARGEST_SVG if largest is None else largest):
            width = figure.get_figwidth() * PIXELS_AN_INCH
            head = Markup('<svg class="drawn" role="img" tabindex="0" aria-label="{}" style="--width:{:.0f}px" ')
            return head.format(alt, width) + Markup(text.removeprefix("<svg "))
        figure.set_layout_engine("none")
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI)
    return image(png.getvalue(), alt, width=figure.get_figwidth() * PIXELS_AN_INCH)


def image(png: bytes, alt: str, *, width: float | None = None) -> Markup:
    """A PNG as an element of a page, `width` CSS pixels wide where there is room."""
    shown = Markup("") if width is None else Markup(' style="--width:{:.0f}px"').format(width)
    data = base64.b64encode(png).decode()
    return Markup('<img class="drawn" alt="{}"{} src="data:image/png;base64,{}">').format(alt, shown, data)


def _slim(svg: str, name: str) -> str:
    """Matplotlib's SVG from <svg on, without what a page does not need, its identifiers unlike those of others."""
    text = svg[svg.index("<svg") :]
    for unneeded in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<style.*?</style>"):
        text = re.sub(unneeded, "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    used = set(re.findall(r'href="#([^"]+)"', rest)) | set(re.findall(r"url\(#([^)]+)\)", rest))
    prefix = str(escape(name))

    def identified(found: re.Match[str]) -> str:
        return f' id="{prefix}-{found[1]}"' if found[1] in used else ""

    rest = re.sub(r' id="([^"]*)"', identified, rest)
    rest = re.sub(r"url\(#", f"url(#{prefix}-", rest)
    # Links to rows of the page stay; they are reached with the arrow keys, not one by one with Tab.
    rest = re.sub(r'<use xlink:href="#', f'<use href="#{prefix}-', rest)
    rest = re.sub(r'<a xlink:href="([^"]*)"( target="[^"]*")?', r'<a tabindex="-1" href="\1"', rest)
    rest = re.sub(r'(?<= [xyd]=")[^"]*', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), rest)
    rest = re.sub(r"\s*\n\s*", " ", rest).replace("> <", "><")
    return f"<svg {view[0]}>{rest.strip()}"
