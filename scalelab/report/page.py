"""HTML pages from templates: every text is escaped, every figure stands inside."""

import math
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


def number(value: float | None, form: str = ".4g") -> str:
    """A number as people read it.

    >>> number(0.12345), number(float("inf")), number(None)
    ('0.1235', '∞', '—')
    """
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{form}}"


def interval(value: float | None, low: float | None, high: float | None, form: str = ".4g") -> str:
    """A value with its 95 % interval, or what bounds there are.

    >>> interval(0.5, 0.25, float("inf")), interval(None, None, 0.25), interval(None, 0.25, None)
    ('0.5 [0.25, ∞]', '≤ 0.25', '≥ 0.25')
    """
    if value is not None:
        return f"{number(value, form)} [{number(low, form)}, {number(high, form)}]"
    if low is not None and high is not None:
        return f"in [{number(low, form)}, {number(high, form)}]"
    if high is not None:
        return f"≤ {number(high, form)}"
    return "—" if low is None else f"≥ {number(low, form)}"
