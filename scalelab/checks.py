"""`check` as the command line runs it: the same configuration at several sizes, a check of `probe`, its files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from scalelab import plots, plots_checks, probe, report, show_checks
from scalelab.console import say
from scalelab.errors import Refused
from scalelab.overrides import split_flags
from scalelab.sizes import refuse_keys, refuse_unwritable, sizes, specs_along
from scalelab.spec import RunSpec

Specs = Sequence[Sequence[RunSpec]]
COORDINATE_STEPS = 4
WIDTHS = "64,128,256,512"
CALIBRATED = 64  # the smallest width at which the tolerances of `probe` were measured


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the options of the command say, whichever check it is."""

    specs: Specs
    axis: str
    steps: int | None
    target: int | None
    console: Console


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One check: how it is run, shown and drawn, and what the names of its files begin with."""

    file: str
    run: Callable[[Asked], Any]
    show: Callable[[Any, Console], None]
    draw: Callable[[Any], Figure]
    calibrated_lr: bool = False  # where none is given, the one the check is calibrated at


def _coordinate(asked: Asked) -> probe.Check:
    steps = asked.steps or COORDINATE_STEPS
    return probe.coordinate_check(asked.specs, axis=asked.axis, steps=steps, console=asked.console)


def _gradients(asked: Asked) -> probe.GradientCheck:
    if asked.steps is not None:
        raise Refused("--gradients looks at initialisation: leave --steps out")
    return probe.gradient_check(asked.specs, axis=asked.axis, console=asked.console)


def _lazy(asked: Asked) -> probe.Laziness:
    steps = asked.steps or COORDINATE_STEPS
    return probe.lazy(asked.specs, axis=asked.axis, steps=steps, console=asked.console)


def _stability(asked: Asked) -> probe.Stability:
    steps = asked.steps or asked.specs[0][0].horizon.steps
    return probe.stability(asked.specs, axis=asked.axis, steps=steps, target=asked.target, console=asked.console)


def _spectrum(asked: Asked) -> probe.Spectrum:
    if asked.axis != "width":
        raise Refused("--spectrum is along width: give --widths")
    steps = asked.steps or asked.specs[0][0].horizon.steps
    return probe.spectrum(asked.specs, steps=steps, console=asked.console)


KINDS: dict[str, Kind] = {
    "coordinate": Kind(
        file="check", run=_coordinate, show=show_checks.check, draw=plots.coordinate_check, calibrated_lr=True
    ),
    "gradients": Kind(
        file="gradients", run=_gradients, show=show_checks.gradient_check, draw=plots_checks.gradient_check
    ),
    "lazy": Kind(file="lazy", run=_lazy, show=show_checks.lazy, draw=plots_checks.lazy, calibrated_lr=True),
    "stability": Kind(file="stability", run=_stability, show=show_checks.stability, draw=plots_checks.stability),
    "spectrum": Kind(file="spectrum", run=_spectrum, show=show_checks.spectrum, draw=plots_checks.spectrum),
}


def check(
    arguments: Sequence[str],
    *,
    kind: str,
    widths: str | None,
    depths: str | None,
    steps: int | None,
    seeds: int,
    target: int | None,
    out: Path,
    console: Console,
) -> dict[str, Any]:
    """One of `KINDS` on the configuration that the arguments state, printed and written.

    Returns:
        What its file holds, `passed` in it, and that file, `written`.
    """
    chosen = KINDS[kind]
    overrides, multirun, directories = split_flags(arguments)
    if multirun:
        raise Refused("check takes no -m: give --widths or --depths")
    if target is not None and kind != "stability":
        raise Refused("a target is for --stability: the other checks extrapolate nothing")
    if widths is not None and depths is not None:
        raise Refused("--widths with --depths: one axis at a time; the other size is a key, as in width=128")
    axis, listed = ("width", widths or WIDTHS) if depths is None else ("depth", depths)
    values = sizes(axis, listed, least=2)
    if target is not None and target < values[-1]:
        raise Refused(f"--target-{axis} {target} below the largest {axis}, {values[-1]}: give a larger one")
    why = f"of --{axis}s the smallest is the base, --seeds says how many seeds"
    refuse_keys(overrides, (axis, f"base.{axis}", "seed"), why)
    overrides.append(f"base.{axis}={values[0]}")
    specs = specs_along(axis, values, overrides, seeds=seeds, directories=directories, command="check")
    if chosen.calibrated_lr and not any(override.startswith(("lr=", "lr_factor=")) for override in overrides):
        specs = [[_at_check_lr(spec) for spec in of_size] for of_size in specs]
    refuse_unwritable(out)
    found = chosen.run(Asked(specs=specs, axis=axis, steps=steps, target=target, console=console))
    chosen.show(found, console)
    if kind not in ("stability", "spectrum") and axis == "width" and values[0] < CALIBRATED:
        say(console, f"note: verdicts are calibrated from width {CALIBRATED} on; slopes below it bend")
    report.write_check(found, out, kind=chosen.file, draw=chosen.draw)
    written = f"{out}/{chosen.file}_{found.parametrization}_{axis}.json"
    console.print(f"written: {written} and its figure", highlight=False)
    plain: dict[str, Any] = found.as_plain()
    return plain | {"written": written}


def _at_check_lr(spec: RunSpec) -> RunSpec:
    return replace(spec, hparams=replace(spec.hparams, lr=probe.check_lr(spec)))
