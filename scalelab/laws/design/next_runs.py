"""Fits and a target → the next runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scalelab.errors import Refused, unknown
from scalelab.laws.columns import SCALES
from scalelab.laws.design import of_loss
from scalelab.laws.design.advice import repairs
from scalelab.laws.design.of_joint import linear
from scalelab.laws.design.proposed import NextRuns, Proposed, worded
from scalelab.laws.design.search import LEAST_GAIN, Design, Option, Question, best, designs
from scalelab.laws.design.space import SAME, Space, run_flops
from scalelab.laws.design.ways import Way, tuned, ways
from scalelab.laws.fitted import Fit
from scalelab.laws.joint.result import Joint
from scalelab.laws.optima.optimum import Optimum

LOSS = "loss_nats"
SHARE = 0.5  # of what the sweep cost: the budget where none is given


def next_runs(
    target: Mapping[str, float],
    *,
    joint: Joint | None = None,
    loss: Fit | None = None,
    optima: Sequence[Optimum] = (),
    of: str | None = None,
    batch_tokens: float | None = None,
    budget_flops: float | None = None,
) -> NextRuns:
    """The runs that shrink the uncertainty at a target most per FLOP.

    Repairs of the sweep come first (optima at the edge of their grid, no seed replicated), then new scales, each with a
    grid of settings about its predicted optimum. Sizes of noise, misfit and scatter are taken as the fit has them.

    Args:
        target: the scales of the law; others that the sweep stated may be given.
        joint: the fit of all runs; without it the law of the loss alone, each run at a setting of one's own.
        loss: a law of the loss.
        optima: the cells' optima, for what they say is missing.
        of: "lr", "batch_tokens", "tau" (of `joint`) or "loss_nats" (of `loss`); left out, the first that is there.
        batch_tokens: the batch of the target; left out, the best one, where batches were varied.
        budget_flops: for all that is proposed; left out, half of what the sweep cost.

    Raises:
        Refused: with neither fit, on a target that does not give the law's scales, where the cost of a run is unknown,
            or on a budget that no useful run fits.
    """
    of = of or (next(iter(joint.coordinates)) if joint else LOSS)
    _accept(of, joint, loss)
    space = _space(joint, loss, target)
    candidates = space.candidates(target, batch_tokens=joint.only_batch if joint else None)
    if of == LOSS:
        question, options = _of_loss(joint, loss, space.full(target), candidates)
    else:
        question, options = _of_joint(joint, of, target, space.full(target), candidates, batch_tokens)
    now = sd = question.sd([])
    first = repairs(space, joint, optima, now)
    chosen, proposed = _within(designs(question, list(options)) if options else [], first, budget_flops, _spent(joint))
    for place, option in enumerate(chosen):
        before, sd = sd, question.sd(chosen[: place + 1])
        why = _why(space, candidates[option.site], of, before, sd)
        proposed.append(_proposed(options[option], candidates[option.site], option.cost_flops, why, sd))
    made = NextRuns(
        target=dict(target), of=of, now_sd=now, then_sd=sd, irreducible_sd=question.irreducible,
        batches=tuple(proposed), cost_flops=sum(batch.cost_flops for batch in proposed), status="",
    )  # fmt: skip
    return replace(made, status=_status(made, searched=bool(chosen)))


Scale = Mapping[str, float]
Options = dict[Option, Way]


def _of_loss(
    joint: Joint | None, loss: Fit | None, target: Scale, candidates: Sequence[Scale]
) -> tuple[Question, Options]:
    assert loss is not None
    question, information_CZZ = of_loss.question(loss, target, candidates)
    model = linear(joint) if joint else None
    found = {}
    for site, scale in enumerate(candidates):
        way = tuned(model, scale)
        cost = way.n_runs * run_flops(scale)
        found[Option(site=site, richness=way.richness, cost_flops=cost, information_PP=information_CZZ[site])] = way
    return question, found


def _of_joint(
    joint: Joint | None, of: str, stated: Scale, target: Scale, candidates: Sequence[Scale], batch_tokens: float | None
) -> tuple[Question, Options]:
    assert joint is not None
    joint.predict(**stated)  # refuses a scale that the fit does not know
    model = linear(joint)
    asked = model.optimum(of, target, batch_tokens=batch_tokens)
    question = Question(precision_PP=model.precision_PP, contrast_P=asked.gradient_P, irreducible=asked.scatter)
    found = {}
    for site, scale in enumerate(candidates):
        for way in ways(model, scale, of=of):
            said_PP = model.information(scale, way.rows, seeds=way.seeds)
            cost = way.n_runs * run_flops(scale)
            found[Option(site=site, richness=way.richness, cost_flops=cost, information_PP=said_PP)] = way
    return question, found


def _accept(of: str, joint: Joint | None, loss: Fit | None) -> None:
    accepted = [*(joint.coordinates if joint else ()), *([LOSS] if loss else [])]
    if not accepted:
        raise Refused("nothing to design for: these runs gave neither a joint fit nor a law of the loss")
    if of not in accepted:
        raise unknown("quantity to pin down", of, accepted)


def _space(joint: Joint | None, loss: Fit | None, target: Mapping[str, float]) -> Space:
    if joint is not None:
        names = tuple(name for name in joint.reference if name != "batch_tokens")
        space = Space(names=names, cells=tuple(cell.scale for cell in joint.cells))
    else:
        assert loss is not None
        names = tuple(loss.columns.get(name, name) for name in loss.reference)
        if odd := [name for name in names if name not in SCALES]:
            raise Refused(f"the {loss.law.name} law is in {odd[0]}, which is no scale: designs are for laws of scales")
        limits = {name: loss.domain[own] for own, name in zip(loss.reference, names, strict=True)}
        stated = {name: (value, value) for name, value in target.items() if name in SCALES and name not in limits}
        corners = tuple({n: pair[end] for n, pair in (limits | stated).items()} for end in (0, 1))
        space = Space(names=names, cells=corners, again=True)
    if missing := [name for name in space.names if name not in target]:
        raise Refused(f"the law needs {', '.join(space.names)}: {', '.join(missing)} of the target not given")
    for name, value in target.items():
        if name not in space.cells[0]:
            raise unknown("scale of the target", name, space.cells[0])
        if not (math.isfinite(value) and value > 0):
            raise Refused(f"{name}={value!r}: accepted is a finite number > 0")
    return space


def _spent(joint: Joint | None) -> float:
    if joint is None:
        return 0.0
    return joint.n_runs / joint.n_cells * sum(run_flops(cell.scale) for cell in joint.cells)


def _within(
    found: Sequence[Design], first: Sequence[Proposed], budget_flops: float | None, spent: float
) -> tuple[tuple[Option, ...], list[Proposed]]:
    """The best design in what the repairs leave of the budget, and the repairs that it pays for."""
    cheapest = min((design.cost_flops for design in found), default=0.0)
    repairing = sum(repair.cost_flops for repair in first)
    budget = budget_flops if budget_flops is not None else max(SHARE * spent, cheapest) + repairing
    paid, left = [], budget
    for repair in first:
        if repair.cost_flops <= left:
            paid.append(repair)
            left -= repair.cost_flops
    chosen = best(found, left) if len(paid) == len(first) else None
    if chosen is None and not paid and (found or first):
        least = first[0].cost_flops if first else cheapest
        raise Refused(f"a budget of {budget:.3g} FLOPs: the cheapest useful runs cost {least:.3g}; give that or more")
    return (chosen.options if chosen else ()), paid


def _proposed(way: Way, scale: Scale, cost_flops: float, why: str, sd: float) -> Proposed:
    return Proposed(
        scale=dict(scale), lrs=way.lrs, batch_tokens=way.batch_tokens, weight_decays=way.weight_decays,
        seeds=tuple(range(way.seeds)), cost_flops=cost_flops, sd_after=sd, why=why,
    )  # fmt: skip


def _why(space: Space, scale: Mapping[str, float], of: str, before: float, after: float) -> str:
    swept = {name: [cell[name] for cell in space.cells] for name in space.names}
    inside = {name: min(v) * (1 - SAME) < scale[name] < max(v) * (1 + SAME) for name, v in swept.items()}
    beyond = [name for name in space.names if not inside[name]]
    where = f"beyond the swept {' and '.join(beyond)}" if beyond else "between the swept scales"
    return f"{where}: the sd of ln {of} goes from {before:.3g} to {after:.3g}"


def _status(made: NextRuns, *, searched: bool) -> str:
    asked = f"ln {made.of} at {worded(made.target)}"
    if searched:
        return (
            f"{asked}: sd {made.now_sd:.3g} → {made.then_sd:.3g} ({made.irreducible_sd:.3g} is a new scale's own)"
            f" by {made.n_runs} runs in {len(made.batches)} batches, {made.cost_flops:.3g} FLOPs"
        )
    known = f"{asked} is known to ±{made.now_sd:.3g}, of which ±{made.irreducible_sd:.3g} is a new scale's own"
    if made.batches:
        return f"{known}: mend the sweep first, {made.n_runs} runs, {made.cost_flops:.3g} FLOPs"
    return f"{known}: no run that was considered takes away {100 * LEAST_GAIN:g} %"
