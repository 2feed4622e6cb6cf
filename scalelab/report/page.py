"""HTML pages from one template: every text is escaped, every figure stands inside, nothing is fetched."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from scalelab import __version__
from scalelab.console import harmless
from scalelab.files import write_atomically
from scalelab.report.section import Section


def write_page(path: Path, sections: Sequence[Section], *, title: str, subtitle: str = "") -> None:
    """Write a page whole: the sections that say something, and a list of what would add the others."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    page = environment.get_template("base.html.jinja").render(
        title=title, subtitle=subtitle, version=__version__, sections=[each for each in sections if each.says],
        absent=[each for each in sections if not each.says and each.absent],
    )  # fmt: skip
    # A name may hold half a pair of surrogates, which no file can.
    write_atomically(path, page.encode("utf-8", "backslashreplace").decode())


def _shown(value: object) -> object:
    """Text without control characters, those that turn the direction of writing among them."""
    return harmless(value) if type(value) is str else value
