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
from scalelab.laws.design.space import Space, run_flops
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
    batch = batch_tokens if batch_tokens is not None else _only_batch(joint)
    candidates = space.candidates(target, batch_tokens=batch)
    whole = space.full(target)
    if of == LOSS:
        assert loss is not None
        found = [tuned(joint, scale) for scale in candidates]
        question, information_CZZ = of_loss.question(loss, whole, candidates)
        options = [
            Option(site=c, richness=(0,), cost_flops=way.n_runs * run_flops(candidates[c]), information_PP=said_ZZ)
            for c, (way, said_ZZ) in enumerate(zip(found, information_CZZ, strict=True))
        ]
    else:
        assert joint is not None
        joint.predict(**target)  # refuses a scale that is missing or unknown
        model = linear(joint)
        asked = model.optimum(of, whole, batch_tokens=batch_tokens)
        question = Question(
            precision_PP=model.precision_PP, contrast_P=asked.gradient_P, irreducible=asked.scatter
        )
        every = [(site, way) for site, scale in enumerate(candidates) for way in ways(model, scale, of=of)]
        found = [way for _, way in every]
        options = [
            Option(
                site=site, richness=way.richness, cost_flops=way.n_runs * run_flops(candidates[site]),
                information_PP=model.information(candidates[site], way.rows, seeds=way.seeds),
            )
            for site, way in every
        ]  # fmt: skip
    now = question.sd([])
    first = repairs(joint, optima, now)
    chosen, mended = _within(designs(question, options) if options else [], first, budget_flops, _spent(joint))
    proposed, sd = list(mended), now
    for place, option in enumerate(chosen.options if chosen else ()):
        before, sd = sd, question.sd(chosen.options[: place + 1] if chosen else ())
        way, scale = found[options.index(option)], candidates[option.site]
        proposed.append(_proposed(way, scale, option.cost_flops, _why(space, scale, of, before, sd), sd))
    made = NextRuns(
        target=dict(target), of=of, now_sd=now, then_sd=sd, irreducible_sd=question.irreducible,
        batches=tuple(proposed), cost_flops=sum(batch.cost_flops for batch in proposed), status="",
    )  # fmt: skip
    return replace(made, status=_status(made, chosen))


def _accept(of: str, joint: Joint | None, loss: Fit | None) -> None:
    accepted = [*(joint.coordinates if joint else ()), *([LOSS] if loss else [])]
    if not accepted:
        raise Refused("nothing to design for: neither hyperparameters nor a law of the loss could be fitted to these runs")
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
        limits = {name: loss.domain[of] for of, name in zip(loss.reference, names, strict=True)}
        stated = {name: (value, value) for name, value in target.items() if name not in limits}
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


def _only_batch(joint: Joint | None) -> float | None:
    low, high = joint.domain.get("batch_tokens", (0.0, 0.0)) if joint else (0.0, 0.0)
    return low if low == high and low > 0 else None


def _spent(joint: Joint | None) -> float:
    if joint is None:
        return 0.0
    return joint.n_runs / joint.n_cells * sum(run_flops(cell.scale) for cell in joint.cells)


def _within(
    found: Sequence[Design], first: Sequence[Proposed], budget_flops: float | None, spent: float
) -> tuple[Design | None, list[Proposed]]:
    """The best design in what the repairs leave of the budget, and the repairs that it pays for."""
    repairing = sum(repair.cost_flops for repair in first)
    cheapest = min((design.cost_flops for design in found), default=0.0)
    budget = budget_flops if budget_flops is not None else max(SHARE * spent, cheapest) + repairing
    paid, left = [], budget
    for repair in first:
        if repair.cost_flops <= left:
            paid.append(repair)
            left -= repair.cost_flops
    chosen = best(found, left) if len(paid) == len(first) else None
    if chosen is None and not paid and (found or first):
        least = min([design.cost_flops for design in found] + [repair.cost_flops for repair in first])
        raise Refused(f"a budget of {budget:.3g} FLOPs: the cheapest useful runs cost {least:.3g}; give --budget {least:.2g}")
    return chosen, paid


def _proposed(way: Way, scale: dict[str, float], cost_flops: float, why: str, sd: float) -> Proposed:
    return Proposed(
        scale=scale, lrs=way.lrs, batch_tokens=way.batch_tokens, weight_decays=way.weight_decays,
        seeds=tuple(range(way.seeds)), cost_flops=cost_flops, sd_after=sd, why=why,
    )  # fmt: skip


def _why(space: Space, scale: Mapping[str, float], of: str, before: float, after: float) -> str:
    swept = {name: [cell[name] for cell in space.cells] for name in space.names}
    beyond = [name for name, values in swept.items() if not min(values) <= scale[name] <= max(values)]
    where = f"beyond the swept {' and '.join(beyond)}" if beyond else "between the swept scales"
    return f"{where}: the sd of ln {of} goes from {before:.3g} to {after:.3g}"


def _status(made: NextRuns, chosen: Design | None) -> str:
    asked = f"ln {made.of} at {worded(made.target)}"
    if not made.batches or chosen is None:
        rest = "repairs of the sweep come first" if made.batches else f"no run takes away {100 * LEAST_GAIN:g} % of it"
        return f"{asked} is known to ±{made.now_sd:.3g} (±{made.irreducible_sd:.3g} is a scale's own): {rest}"
    return (
        f"{asked}: sd {made.now_sd:.3g} → {made.then_sd:.3g} (no run elsewhere takes away {made.irreducible_sd:.3g})"
        f" by {made.n_runs} runs of {len(made.batches)} scales, {made.cost_flops:.3g} FLOPs"
    )
