"""What comes before any design: cells whose optimum lies at the edge of their grid, and noise that nobody measured."""

import math
from collections.abc import Mapping, Sequence

from scalelab.laws.columns import SETTINGS
from scalelab.laws.design.proposed import Proposed
from scalelab.laws.design.settings import ladder
from scalelab.laws.design.space import Space, run_flops
from scalelab.laws.joint.result import Joint
from scalelab.laws.optima.optimum import Optimum

REPLICATES = (1, 2, 3)  # seeds of one setting, 0 being what a sweep without replicates has used
NEAR_BATCH = 2.0  # factor


def repairs(space: Space, joint: Joint | None, optima: Sequence[Optimum], sd: float) -> list[Proposed]:
    """Proposals that mend the sweep itself, cheapest first. They leave `sd`, in which the fit's own doubts about such
    cells already stand, as it is."""
    found = [_extended(space, o, sd) for o in optima if o.status != "INTERIOR" and _matters(joint, o)]
    if joint is not None and "no seed was replicated" in joint.noise_source and "lr" in joint.coordinates:
        found.append(_replicated(joint, sd))
    return sorted(found, key=lambda proposed: proposed.cost_flops)


def further_lrs(optimum: Optimum) -> tuple[float, ...]:
    """The learning rates that would bracket a cell's optimum, peak LR, rising."""
    low, high, stable = optimum.low, optimum.high, optimum.log2_lr_stable
    log2_lrs: list[float] = []
    if low is not None and high is not None:
        log2_lrs = [low + share * (high - low) for share in (0.25, 0.75)]
    elif low is not None and stable is not None:  # the highest that was tried is the best
        log2_lrs = [stable + 1, stable + 2]
    elif high is not None:  # `high` diverged, or is the lowest's neighbour
        log2_lrs = [high - 3, high - 2] if optimum.status == "AT_OR_BELOW" else [high - 2, high - 1]
    elif stable is not None:
        log2_lrs = [stable - 1, stable + 1]
    return tuple(float(f"{2**x:.10g}") for x in log2_lrs)


def _matters(joint: Joint | None, optimum: Optimum) -> bool:
    """Whether the cell's batch is near the best one; learning rates of other batches are not what anybody will use."""
    batch = optimum.scale.get("batch_tokens")
    told = joint is not None and "batch_tokens" in joint.coordinates and joint.reference.keys() <= optimum.scale.keys()
    if joint is None or batch is None or not told:
        return True
    best = joint.predict(**_own(joint, optimum.scale)).values["batch_tokens"].value
    return best / NEAR_BATCH <= batch <= best * NEAR_BATCH


def _own(joint: Joint, scale: Mapping[str, float]) -> dict[str, float]:
    """The scales of the law."""
    return {name: scale[name] for name in joint.reference if name != "batch_tokens"}


def _extended(space: Space, optimum: Optimum, sd: float) -> Proposed:
    lrs = further_lrs(optimum)
    stated = {name: value for name, value in optimum.scale.items() if name not in SETTINGS}
    scale = space.full(stated) if all(name in stated for name in space.names) else stated
    held = {name: (optimum.scale[name],) if name in optimum.scale else () for name in ("batch_tokens", "weight_decay")}
    return Proposed(
        scale=scale, lrs=lrs, batch_tokens=held["batch_tokens"], weight_decays=held["weight_decay"], seeds=(0,),
        cost_flops=len(lrs) * run_flops(scale), sd_after=sd, why=f"extend the grid: {optimum.advice}",
    )  # fmt: skip


def _replicated(joint: Joint, sd: float) -> Proposed:
    scale = min((cell.scale for cell in joint.cells), key=run_flops)
    setting = joint.predict(**_own(joint, scale))
    values = {name: found.value for name, found in setting.values.items()}
    lowest, _ = joint.domain.get("batch_tokens", (None, None))
    batch = () if lowest is None else ladder(values.get("batch_tokens", lowest), 0.0, unit=lowest, whole=True)[1:2]
    decay = (float(f"{values['weight_decay']:.2g}"),) if "weight_decay" in values else ()
    share = 100 / math.sqrt(2 * (len(REPLICATES) - 1))
    return Proposed(
        scale=scale, lrs=ladder(values["lr"], 0.0)[1:2], batch_tokens=batch, weight_decays=decay, seeds=REPLICATES,
        cost_flops=len(REPLICATES) * run_flops(scale), sd_after=sd,
        why=f"no seed was replicated: {len(REPLICATES)} at the cheapest scale measure the noise to ±{share:.0f} %",
    )  # fmt: skip
