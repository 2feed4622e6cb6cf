"""The largest scale left out: what would the recommended setting have cost there?

Errors of an exponent are in no unit that matters. So each way of choosing a setting is fitted to the smaller scales and
scored by the excess loss of its choice at the scales left out, by their own valleys. Beside the joint fit stand the
plain two-stage law, carrying over the largest trained scale's optimum, and laws that others published.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import PARAMS
from scalelab.laws.fitted import Fit
from scalelab.laws.forms import PUBLISHED
from scalelab.laws.joint.fit import fit_joint
from scalelab.laws.joint.result import CellBest, Joint, sized
from scalelab.laws.joint.valley import bend, valley
from scalelab.laws.law import Published
from scalelab.laws.observations import derived
from scalelab.laws.optima.cells import grouped
from scalelab.laws.optima.two_stage import two_stage
from scalelab.laws.validate.measured import measured_excess

SETTINGS = ("lr", "batch_tokens")  # what a choice is about, in the order in which a law needs them
VAGUE = 0.7  # standard deviation of ln setting (an octave) beyond which a scale left out cannot judge
DRAWS = 400

Choose = Callable[[Mapping[str, float]], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One way of choosing, over the scales left out: mean and worst excess loss in per cent by their fitted valleys,
    the mean by their runs alone (`measured_percent`, over the lowest run; None where a choice lies outside every grid),
    the choices, and the share of true optima within the 95 % intervals (None where the way has none)."""

    method: str
    mean_percent: float
    worst_percent: float
    measured_percent: float | None
    chosen: tuple[dict[str, float], ...]
    covered: float | None


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The scales left out, with each one's own best setting, and every way's score, best first; `note` where there is
    something to say of it."""

    held_out: tuple[dict[str, float], ...]
    best: tuple[dict[str, float], ...]
    scores: tuple[Score, ...]
    note: str


def leave_out_largest(
    runs: pd.DataFrame, joint: Joint, *, published: Sequence[str] = (), rng: np.random.Generator
) -> Validation:
    """Hold out the largest size (or horizon, if that alone varied) and score every way of choosing.

    Args:
        runs: checked runs of one group, those behind `joint`.
        joint: the fit to all of them, whose valleys judge.
        published: names of published laws to score too, as in `forms.PUBLISHED`.
        rng: for intervals.

    Raises:
        Refused: where fewer than two scales would be left, or those left out do not know their own optimum.
    """
    name, largest = _largest(joint)
    held = [cell for cell in joint.cells if math.isclose(cell.scale[name], largest)]
    judges = [cell for cell in held if cell.settings and all(sd < VAGUE for _, sd in cell.settings.values())]
    if not judges:
        raise Refused(f"at {name} {largest:g} the runs do not bracket an optimum; extend its grid")
    kept = runs[~np.isclose(runs[name], largest)]
    if len({tuple(cell.scale.values()) for cell in joint.cells if cell not in held}) < 2:
        raise Refused("it takes three scales, two of them to predict the largest from")
    smaller = fit_joint(kept, draws=DRAWS, rng=rng, profiles=False, sized=sized(joint))
    left_out = runs[np.isclose(runs[name], largest)]
    scores = [_scored("joint", judges, joint, left_out, lambda scale: _joint_choice(smaller, scale), smaller)]
    copied = max((cell for cell in smaller.cells if cell.settings), key=lambda cell: _size(cell.scale))
    copy = {q: math.exp(log) for q, (log, _) in copied.settings.items() if q in SETTINGS}
    scores.append(_scored("copy the largest trained", judges, joint, left_out, lambda _: copy))
    for method, choose in _others(kept, smaller, published):
        try:
            scores.append(_scored(method, judges, joint, left_out, choose))
        except Refused:
            continue  # a way that lacks an input here has no score
    scores.sort(key=lambda score: score.mean_percent)
    return Validation(
        held_out=tuple(dict(cell.scale) for cell in judges),
        best=tuple({q: math.exp(log) for q, (log, _) in cell.settings.items()} for cell in judges),
        scores=tuple(scores),
        note="" if len(judges) == len(held) else f"{len(held) - len(judges)} more do not know their own optimum",
    )


def _largest(joint: Joint) -> tuple[str, float]:
    for name in ("width", *PARAMS, "depth", "tokens", *joint.domain):
        if name in joint.domain and name != "batch_tokens" and joint.domain[name][0] < joint.domain[name][1]:
            return name, joint.domain[name][1]
    raise Refused("one scale only")


def _size(scale: Mapping[str, float]) -> float:
    return sum(math.log(scale[name]) for name in (*PARAMS, "tokens", "width", "depth") if name in scale)


def _joint_choice(joint: Joint, scale: Mapping[str, float]) -> dict[str, float]:
    known = {name: value for name, value in scale.items() if name in joint.domain}
    return {name: found.value for name, found in joint.predict(**known).values.items() if name in SETTINGS}


def _scored(
    method: str,
    judges: Sequence[CellBest],
    joint: Joint,
    left_out: pd.DataFrame,
    choose: Choose,
    intervals: Joint | None = None,
) -> Score:
    chosen = [choose(cell.scale) for cell in judges]
    excess = [100 * excess_at(joint, cell, choice) for cell, choice in zip(judges, chosen, strict=True)]
    found = (measured_excess(_at(left_out, cell.scale), choice) for cell, choice in zip(judges, chosen, strict=True))
    measured = [100 * value for value in found if value is not None]
    covered = None
    if intervals is not None:
        inside = []
        for cell in judges:
            predicted = intervals.predict(**{k: v for k, v in cell.scale.items() if k in intervals.domain}).values
            inside += [
                predicted[q].low <= math.exp(log) <= predicted[q].high
                for q, (log, _) in cell.settings.items()
                if q in predicted
            ]
        covered = float(np.mean(inside))
    return Score(
        method=method, mean_percent=float(np.mean(excess)), worst_percent=float(np.max(excess)),
        measured_percent=float(np.mean(measured)) if measured else None, chosen=tuple(chosen), covered=covered,
    )  # fmt: skip


def _at(runs: pd.DataFrame, scale: Mapping[str, float]) -> pd.DataFrame:
    return runs[np.logical_and.reduce([np.isclose(runs[name], value) for name, value in scale.items()])]


def excess_at(joint: Joint, cell: CellBest, choice: Mapping[str, float]) -> float:
    """Relative excess loss of a choice at a cell, by the shapes of the joint fit about the cell's own optimum."""
    value = {name: e.value for name, e in joint.estimates.items()}
    ratio = {name: math.log(cell.scale[name] / x0) for name, x0 in joint.reference.items() if name in cell.scale}
    offset = {q: math.log(choice[q]) - cell.settings[q][0] for q in cell.settings if q in choice}
    # Where the batch is not the cell's best, the best learning rate is not the cell's best either.
    batch = offset.get("batch_tokens", 0.0)
    if "lr" in offset:
        bent = float(bend(np.array(batch), value.get("lr bend width", 0.0))[0])
        offset["lr"] -= value.get("lr ~ batch_tokens", 0.0) * batch + value.get("lr bend", 0.0) * bent
    if "batch_tokens" in choice and "batch_tokens" in joint.reference:
        ratio["batch_tokens"] = math.log(choice["batch_tokens"] / joint.reference["batch_tokens"])
    total = 0.0
    for q, x in offset.items():
        bends = (value[f"{q} curvature ~ {of}"] * ratio.get(of, 0.0) for of in joint.coordinates[q])
        kappa = math.exp(sum(bends, start=value[f"{q} curvature"]))
        total += kappa * float(valley(np.array(x), value[f"{q} skew"])[0])
    return math.expm1(total)


def _others(kept: pd.DataFrame, smaller: Joint, published: Sequence[str]) -> Iterator[tuple[str, Choose]]:
    """The two-stage laws at each scale's best batch by the joint fit, and published laws."""
    columns = [name for name in smaller.domain if name in kept]
    found = grouped(kept, scales=columns)
    if len(found) == 1:
        for name, fitted in two_stage(found[0], scales=columns, draws=DRAWS).fits.items():
            yield f"two stages, {name}", lambda scale, fitted=fitted: _two_stage_choice(fitted, smaller, scale)  # type: ignore[misc]
    for key in published:
        law = PUBLISHED[key]
        if law.law.output == "lr":
            batch = next((PUBLISHED[k] for k in PUBLISHED if k.split("/")[1] == law.name
                          and PUBLISHED[k].law.output == "batch_tokens"), None)  # fmt: skip
            yield f"published {law.name}", lambda scale, law=law, batch=batch: published_choice(law, batch, scale)  # type: ignore[misc]


def _two_stage_choice(fitted: Fit, smaller: Joint, scale: Mapping[str, float]) -> dict[str, float]:
    batch = {k: v for k, v in _joint_choice(smaller, scale).items() if k == "batch_tokens"}
    inputs = {**smaller.reference, **scale, **batch}  # where batches have no valley, at the reference batch
    if missing := [name for name in fitted.reference if name not in inputs]:
        raise Refused(f"{fitted.law.name} needs {', '.join(missing)}")
    return {**batch, "lr": fitted.predict(**{name: inputs[name] for name in fitted.reference}).value}


def published_choice(law: Published, batch: Published | None, scale: Mapping[str, float]) -> dict[str, float]:
    """What published laws of the learning rate and, where there is one, the batch say at a scale."""
    row = pd.DataFrame([dict(scale)])
    chosen: dict[str, float] = {}
    for entry in (batch, law):
        if entry is None:
            continue
        inputs = {}
        for name in entry.law.inputs:
            values = derived(row.assign(**chosen), name, {})
            if values is None:
                raise Refused(f"{entry.law.name} needs {name}")
            inputs[name] = float(values[0])
        chosen[entry.law.output] = entry.predict(**inputs)
    return chosen
