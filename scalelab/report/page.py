"""HTML pages from templates: every text is escaped, every figure stands inside."""

from pathlib import Path
from typing import Any

import jinja2

from scalelab import __version__
from scalelab.files import write_atomically


def write_page(path: Path, template: str, *, title: str, **content: Any) -> None:
    """Fill a template of this folder and write it whole."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["g"] = lambda value, digits=4: "—" if value is None else f"{value:.{digits}g}"
    environment.filters["f"] = lambda value, digits=4: "—" if value is None else f"{value:.{digits}f}"
    page = environment.get_template(template).render(title=title, version=__version__, **content)
    write_atomically(path, page)
