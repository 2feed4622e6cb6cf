"""A study's folder as one page: checks, laws, recipe, confirmation, where present."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from scalelab import plots
from scalelab.confirm import Confirmation
from scalelab.errors import Refused
from scalelab.laws import drift
from scalelab.laws import read as read_laws
from scalelab.recipe import read_recipe
from scalelab.report.files import embedded
from scalelab.report.page import write_page


def write_html(folder: Path, title: str) -> Path:
    """Gather a study into FOLDER/report.html: one file, figures inside.

    Looked for: check/check_*.json, laws/laws.json, recipe.yaml, confirmation.json; what is there is shown.

    Raises:
        Refused: where none of them is there, or one is corrupt.
    """
    found: dict[str, Any] = {"checks": [], "laws": None, "recipe": None, "confirmation": None}
    for file in sorted(folder.glob("check/check_*.json")):
        found["checks"].append({**_json(file), "figure": embedded(file.with_suffix(".png"))})
    laws_file = folder / "laws" / "laws.json"
    if laws_file.exists():
        laws = read_laws(laws_file)
        named = list(zip(plots.titles(laws), laws.groups, strict=True))
        found["laws"] = {
            "drift": [(name, drift(group)) for name, group in named if group.optima],
            "groups": named,
            "valleys": embedded(laws_file.with_name("valleys.png")),
            "optimum": embedded(laws_file.with_name("optimum.png")),
        }
    if (folder / "recipe.yaml").exists():
        found["recipe"] = read_recipe(folder / "recipe.yaml")
    if (folder / "confirmation.json").exists():
        confirmation = _json(folder / "confirmation.json")
        if missing := {field.name for field in fields(Confirmation)} - set(confirmation):
            raise Refused(
                f"{folder}/confirmation.json lacks {', '.join(sorted(missing))}: run `scalelab confirm` again"
            )
        found["confirmation"] = {**confirmation, "figure": embedded(folder / "target.png")}
    if not any(found.values()):
        raise Refused(
            f"nothing to report in {folder}: looked for check/, laws/laws.json, recipe.yaml, confirmation.json"
        )
    write_page(folder / "report.html", "study.html.jinja", title=title, **found)
    return folder / "report.html"


def _json(file: Path) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise Refused(f"{file} is corrupt: {error}") from None
    return plain
