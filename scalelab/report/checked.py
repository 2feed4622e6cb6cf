"""Section of a study's page on checks: does the parametrization do on this network what it says?"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from scalelab import plots
from scalelab.console import number
from scalelab.errors import Refused
from scalelab.report.found import CheckFile, Found
from scalelab.report.inline import image, inline
from scalelab.report.section import Picture, Section, table

if TYPE_CHECKING:
    from scalelab.probe import Check

NAMES = {"check": "Coordinate check", "gradients": "Gradient check", "lazy": "Laziness check", "stability": "Stability"}
FAILED = ("grows", "vanishes")
WIDTH = 900.0  # of a figure that was drawn before, CSS pixels


def checks(found: Found) -> Section:
    """Every check with its verdict and figure."""
    said = [_sentence(each) for each in found.checks]
    rows: list[tuple[str, ...]] = []
    marked: list[int] = []
    for each in found.checks:
        for slope in each.plain.get("slopes", ()) if each.kind == "check" else ():
            if slope["verdict"] in FAILED:
                marked.append(len(rows))
            rows.append((each.plain["parametrization"], slope["module"], _slope(slope, "activation"),
                         _slope(slope, "update"), slope["verdict"]))  # fmt: skip
    head = ("table", "module", "slope of its size", "slope of its change", "verdict")
    pictures = [_picture(each, f"{each.kind}-{place}") for place, each in enumerate(found.checks)]
    return Section(
        title="Does the parametrization transfer here?", sentences=tuple(said),
        pictures=tuple(picture for picture in pictures if picture is not None),
        tables=table(head, rows, "Slopes of sizes against size, in octaves an octave", marked=marked, folded=True),
        absent=f"scalelab check parametrization=… --widths 64,128,256 --seeds 2 -o {found.folder / 'check'}",
    )  # fmt: skip


def _sentence(check: CheckFile) -> str:
    plain = check.plain
    verdict = "passes" if plain["passed"] else "fails"
    failed = [
        f"{slope['module']} {slope['verdict']}" for slope in plain.get("slopes", ()) if slope["verdict"] in FAILED
    ]
    why = f" ({', '.join(failed) or 'every slope within its bounds'})" if check.kind == "check" else ""
    at = f" at lr {plain['lr']:.4g}" if isinstance(plain.get("lr"), float) else ""
    return f"{NAMES[check.kind]}: {plain['parametrization']} {verdict} in {plain.get('axis', 'width')}{at}{why}."


def _slope(slope: Mapping[str, Any], name: str) -> str:
    error = slope[f"se_{name}"]
    return number(slope[name], "+.2f") + ("" if error is None else f" ± {error:.2f}")


def _picture(check: CheckFile, name: str) -> Picture | None:
    title = f"{NAMES[check.kind]} of {check.plain['parametrization']}"
    if check.kind == "check":
        caption = (
            "The mean size of each module's activations, and of their change over the first steps, against the size of"
            " the network; the slopes stand in the legend, dashed are those that fail. Level lines transfer."
        )
        return Picture(title=title, caption=caption, body=inline(_drawn(check.plain), name, f"{title}. {caption}"))
    if check.png is None:
        return None
    return Picture(title=title, caption="As the command drew it.", body=image(check.png, title, width=WIDTH))


def _drawn(plain: Mapping[str, Any]) -> Any:
    """The figure of a check's JSON, without the networks' library that makes checks."""
    try:
        arrays = {name: np.array(plain[name], dtype=float) for name in ("activation", "update")}
        slopes = [SimpleNamespace(**slope, passed=slope["verdict"] not in FAILED) for slope in plain["slopes"]]
        check = SimpleNamespace(**{**plain, **arrays, "slopes": slopes})
        return plots.coordinate_check(cast("Check", check))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Refused(f"the check of {plain.get('parametrization')} is damaged ({error}): run it again") from None
