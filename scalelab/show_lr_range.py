"""What people see of a learning-rate range test: bounds at each width, the space to search, how the bound moves."""

from typing import TYPE_CHECKING

from rich.console import Console

from scalelab.console import grid, interval, say

if TYPE_CHECKING:
    from scalelab.lr_range import LrRange

DIGITS = ".3g"


def lr_range(found: "LrRange", console: Console) -> None:
    """The table of bounds, its sentence on width, and the line to paste into a search."""
    seeds = f"mean of {found.seeds} seeds" if found.seeds > 1 else "one seed: its noise is in the bounds"
    swept = f"{found.steps} steps from {found.lowest:g} to {found.highest:g}, {seeds}"
    at = f"{found.optimizer}, lr at base width {found.base_width}"
    say(console, f"Learning-rate range of {found.parametrization} ({at}), {swept}", "bold")
    rows = [
        (str(each.width), *(f"{value:{DIGITS}}" for value in (b.lower, b.steepest, b.upper)),
         f"{each.curve.ended_lr:{DIGITS}}" if each.curve.diverged else "—")
        for each in found.widths for b in (each.bounds,)
    ]  # fmt: skip
    low, high = found.union
    rows.append(("union", f"{low:{DIGITS}}", "", f"{high:{DIGITS}}", ""))
    console.print(grid("", ("width", "loss falls from", "fastest at", "rises from", "diverged at"), rows))
    for each in found.widths:
        if each.bounds.fell_at_once:
            text = f"note: width {each.width} learns at {found.lowest:g} already: lower --lowest to see the bound"
            say(console, text, "yellow")
    if found.exponent is not None:
        say(console, _movement(found))
    console.print(f"search it with hydra/sweeper=optuna: '{found.override}'", highlight=False, markup=False)


def _movement(found: "LrRange") -> str:
    assert found.exponent is not None
    fitted = found.exponent
    said = interval(fitted.value, fitted.low, fitted.high, "+.2f") if fitted.low is not None else f"{fitted.value:+.2f}"
    line = f"{found.parametrization}: the upper bound goes as width^{said}"
    if found.moves is None:
        return f"{line} (one seed of two widths: no interval)"
    if found.moves:
        return f"{line}: it moves with width, and so may the optimum; a law has to follow it"
    return f"{line}: no movement with width that these show"
