"""What is written for people: tables as CSV, figures as SVG and PNG, and one HTML page of a whole study."""

import base64
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from scalelab import __version__, plots
from scalelab.confirm import Confirmation
from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.laws import Laws, drift, tables
from scalelab.laws import read as read_laws
from scalelab.recipe import read_recipe


def save(figure: Figure, folder: Path, name: str) -> None:
    """A figure as NAME.svg and NAME.png; the same data give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(plots.STYLE):  # its salt, which names what an SVG refers to
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", dpi=150)


def write_laws(laws: Laws, runs: pd.DataFrame, folder: Path, *, figures: bool) -> None:
    """optima.csv, exponents.csv and runs.csv beside laws.json, and the figures of them."""
    for name, table in {**tables(laws), "runs": runs}.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
    if figures:
        save(plots.valleys(laws, runs), folder, "valleys")
        save(plots.optimum_against_scale(laws), folder, "optimum")


def write_check(
    found: Any, folder: Path, *, kind: str = "check", draw: Callable[[Any], Figure] = plots.coordinate_check
) -> None:
    """A check's JSON and its figure, named by kind, parametrization and axis so that several stand in one folder."""
    name = f"{kind}_{found.parametrization}_{found.axis}"
    write_atomically(folder / f"{name}.json", json.dumps(found.as_plain(), indent=1, allow_nan=False) + "\n")
    save(draw(found), folder, name)


def write_html(folder: Path, title: str) -> Path:
    """Gather a study into FOLDER/report.html: one file, figures inside.

    Looked for: check/check_*.json, laws/laws.json, recipe.yaml, confirmation.json; what is there is shown.

    Raises:
        Refused: where none of them is there, or one is corrupt.
    """
    found: dict[str, Any] = {"checks": [], "laws": None, "recipe": None, "confirmation": None}
    for file in sorted(folder.glob("check/check_*.json")):
        found["checks"].append({**_json(file), "figure": _embedded(file.with_suffix(".png"))})
    laws_file = folder / "laws" / "laws.json"
    if laws_file.exists():
        laws = read_laws(laws_file)
        found["laws"] = {
            "drift": [(plots.title(group), drift(group)) for group in laws.groups],
            "groups": laws.groups,
            "valleys": _embedded(laws_file.with_name("valleys.png")),
            "optimum": _embedded(laws_file.with_name("optimum.png")),
        }
    if (folder / "recipe.yaml").exists():
        found["recipe"] = read_recipe(folder / "recipe.yaml")
    if (folder / "confirmation.json").exists():
        confirmation = _json(folder / "confirmation.json")
        if missing := {field.name for field in fields(Confirmation)} - set(confirmation):
            raise Refused(
                f"{folder}/confirmation.json lacks {', '.join(sorted(missing))}: run `scalelab confirm` again"
            )
        found["confirmation"] = {**confirmation, "figure": _embedded(folder / "target.png")}
    if not any(found.values()):
        raise Refused(
            f"nothing to report in {folder}: looked for check/, laws/laws.json, recipe.yaml, confirmation.json"
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["g"] = lambda value, digits=4: "—" if value is None else f"{value:.{digits}g}"
    environment.filters["f"] = lambda value, digits=4: "—" if value is None else f"{value:.{digits}f}"
    page = environment.get_template("report.html.jinja").render(title=title, version=__version__, **found)
    write_atomically(folder / "report.html", page)
    return folder / "report.html"


def _json(file: Path) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise Refused(f"{file} is corrupt: {error}") from None
    return plain


def _embedded(png: Path) -> str | None:
    return base64.b64encode(png.read_bytes()).decode() if png.exists() else None
