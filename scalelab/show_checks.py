"""What people see of the checks of `probe`: slopes, exponents and verdicts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from scalelab.console import grid, say

if TYPE_CHECKING:
    from scalelab.probe import Check, Estimate, GradientCheck, Growth, Laziness, Spectrum, Stability


def slope(value: float | None, error: float | None = None) -> str:
    """`+0.12 ± 0.03`; a dash where there is none."""
    if value is None or value != value:
        return "—"
    return f"{value:+.2f}" if error is None else f"{value:+.2f} ± {error:.2f}"


def between(found: "Estimate", form: str) -> str:
    """`value [low, high]`, or the value alone where no interval is known."""
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _over(axis: str, values: Sequence[int], seeds: int) -> str:
    return f"{axis} {', '.join(map(str, values))}; {seeds} seed{'' if seeds == 1 else 's'}"


def check(found: "Check", console: Console) -> None:
    """A coordinate check: each module's slopes and verdict."""
    over = _over(found.axis, found.values, found.activation.shape[1])
    say(console, f"Coordinate check of {found.parametrization} ({found.optimizer}, lr {found.lr:g}), {over}", "bold")
    rows = [
        (s.module, slope(s.activation, s.se_activation), slope(s.update, s.se_update), s.verdict) for s in found.slopes
    ]
    console.print(grid("", ("module", "size slope", "update slope", "verdict"), rows))
    say(console, f"{found.parametrization} {'passes' if found.passed else 'FAILS'} in {found.axis}", "bold")


def gradient_check(found: "GradientCheck", console: Console) -> None:
    """A gradient check: each class's slope beside its eps's."""
    over = _over(found.axis, found.values, found.seeds)
    say(console, f"Gradient check of {found.parametrization} ({found.optimizer}) at initialisation, {over}", "bold")
    rows = [
        (each.label, f"{each.gradient[0]:.2e}", f"{each.gradient[-1]:.2e}", slope(each.slope, each.se_slope),
         slope(each.eps_exponent), each.verdict)
        for each in found.classes
    ]  # fmt: skip
    columns = ("class", f"{found.axis} {found.values[0]}", f"{found.values[-1]}", "slope", "eps exponent", "verdict")
    console.print(grid("", columns, rows))
    said = "follow their gradients" if found.passed else "do NOT all follow their gradients"
    say(console, f"{found.parametrization}: eps {said} in {found.axis}", "bold")


def lazy(found: "Laziness", console: Console) -> None:
    """A laziness check: each kind of branch's departure from linear, its slope and verdict."""
    over = _over(found.axis, found.values, found.seeds)
    said = f"Laziness check of {found.parametrization} ({found.optimizer}, lr {found.lr:g}) after {found.steps} steps"
    say(console, f"{said}, {over}", "bold")
    rows = [
        (each.branch, *(f"{sum(seeds) / len(seeds):.3g}" for seeds in (each.departure[0], each.departure[-1])),
         slope(each.slope, each.se_slope), each.verdict)
        for each in found.branches
    ]  # fmt: skip
    columns = ("|Δ − Δ_lin|/|Δ_lin| of", f"{found.axis} {found.values[0]}", f"{found.values[-1]}", "slope", "verdict")
    console.print(grid("", columns, rows))
    ended = "no branch becomes lazy" if found.passed else "branches become LAZY"
    say(console, f"{found.parametrization}: {ended} in {found.axis}", "bold")


def stability(found: "Stability", console: Console) -> None:
    """Stability diagnostics: each quantity's growth, and what it comes to at the target."""
    over = _over(found.axis, found.values, len(next(iter(found.series.values()))[0]))
    say(console, f"Stability of {found.parametrization} ({found.optimizer}, lr {found.lr:g}), {over}", "bold")
    rows = [
        (each.quantity, f"{each.sizes[0]:.3g}", f"{each.sizes[-1]:.3g}",
         between(each.exponent, "+.2f"), each.verdict)
        for each in found.growths
    ]  # fmt: skip
    columns = ("quantity", f"{found.axis} {found.values[0]}", f"{found.values[-1]}", "exponent [95 %]", "verdict")
    console.print(grid("", columns, rows))
    for each in found.growths:
        if each.limit is not None:
            say(console, growth(each, found), None if each.verdict == "ok" else "yellow")
    for text in (*found.diverged, *found.notes):
        say(console, f"note: {text}", "yellow")
    ended = "a run diverged" if found.diverged else f"nothing passes a known limit in {found.axis}"
    said = ended if found.passed or found.diverged else f"a limit is PASSED in {found.axis}"
    say(console, f"{found.parametrization}: {said}", "bold")


def growth(each: "Growth", found: "Stability") -> str:
    """A quantity with a limit, as a sentence."""
    side = "above" if each.above else "below"
    if each.at_target is None:
        return f"{each.quantity} {each.sizes[-1]:.2g} at {found.axis} {found.values[-1]}: limit {each.limit:.2g}"
    expected = between(each.at_target, ".2g")
    why = "runs are known to diverge (arXiv:2309.14322)" if each.above else "eps outweighs them"
    return (
        f"{each.quantity} {each.sizes[-1]:.2g} → {expected} at {found.axis} {found.target}: {each.verdict};"
        f" {side} {each.limit:.2g} {why}"
    )


def spectrum(found: "Spectrum", console: Console) -> None:
    """Spectra: each matrix's top singular value along width."""
    over = _over("width", found.values, found.matrices[0].top.shape[1])
    say(console, f"Top singular values of {found.parametrization}, weight decay {found.weight_decay_policy}, {over}",
        "bold")  # fmt: skip
    rows = [
        (each.name, f"{each.top[0, :, -1].mean():.3g}", f"{each.top[-1, :, -1].mean():.3g}",
         f"{each.stable_rank[-1, :, -1].mean():.1f}", slope(each.slope, each.se_slope), slope(each.invariant),
         slope(each.ratio), f"{each.time_scales:.1f}", each.verdict)
        for each in found.matrices
    ]  # fmt: skip
    columns = ("matrix", f"σ1, {found.values[0]}", f"{found.values[-1]}", "stable rank", "slope", "√(η/λ)·d^¾",
               "difference", "lr·wd·steps", "verdict")  # fmt: skip
    console.print(grid("", columns, rows))
    if not all(each.settled for each in found.inner):
        say(console, "note: after so few lr·wd·steps the start is still seen: more steps or weight decay", "yellow")
    ended = "stay" if found.passed else "do NOT all stay, settled,"
    say(console, f"{found.parametrization}: top singular values in the blocks {ended} in width", "bold")
