"""The evidence behind a recipe, and the warnings that go with it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scalelab.laws import GroupLaws, Laws
from scalelab.recipe import LrChoice
from scalelab.spec import RunSpec

FAR_DECADES = 1.0  # extrapolation over more than a factor of ten in an input is warned of in stronger words


def domain(group: GroupLaws) -> dict[str, tuple[float, float]]:
    """(least, most) of every scale of the proxies: of the optima's laws, else of all runs in one likelihood."""
    if group.lr_fits:
        return next(iter(group.lr_fits.values())).domain
    assert group.joint is not None
    return group.joint.domain


def measured(group: GroupLaws) -> set[str]:
    """The scales, and the batch, in which a law of the learning rate has an exponent."""
    found = {name for fit in group.lr_fits.values() for name in fit.reference}
    return found | set(group.joint.coordinates.get("lr", ()) if group.joint is not None else ())


def evidence(laws: Laws, group: GroupLaws) -> dict[str, Any]:
    """What a recipe rests on, as plain data: sources, noise, every scale's optimum, exponents, hold-out tests."""
    return {
        "sources": list(laws.sources),
        "settings": dict(group.key),
        "runs": group.n_runs,
        "diverged": group.n_diverged,
        "noise_nats": None if group.noise is None else group.noise.sd_nats,
        "noise_from": None if group.noise is None else group.noise.source,
        "optima": [
            {**optimum.scale, "status": optimum.status,
             **{name: None if lr is None else float(f"{lr:.5g}")
                for name, lr in (("lr", optimum.lr), ("lr_low", optimum.lr_low), ("lr_high", optimum.lr_high))}}
            for optimum in group.optima
        ],
        "exponents": {
            law: {name: {"value": e.value, "low": e.low, "high": e.high} for name, e in fit.estimates.items()
                  if name in fit.reference}
            for law, fit in group.lr_fits.items() if law != "constant"
        },
        "hold_out": {
            law: {"error_octaves": fit.hold_out.error_octaves, "excess_nats": fit.hold_out.excess_nats}
            for law, fit in group.lr_fits.items() if fit.hold_out is not None
        },
    }  # fmt: skip


def warnings(
    group: GroupLaws,
    chosen: LrChoice,
    choices: Mapping[str, LrChoice],
    inputs: Mapping[str, float],
    spec: RunSpec,
    proxy: RunSpec,
    *,
    claims: Sequence[str],
    assumed: Sequence[str] = (),
) -> Iterable[str]:
    """What a reader of the recipe should know before trusting it, in plain words.

    `claims` are the scales over which the table transfers; `assumed` says by what the learning rate was moved to
    another batch, where no law of these runs says it.
    """
    for name, (low, high) in domain(group).items():
        if name == "batch_tokens":
            continue
        decades = math.log10(inputs[name] / high) if inputs[name] > high else 0.0
        if decades <= 0 or name == "params_non_embedding":
            continue
        beyond = f"{name} {inputs[name]:g} is ×{inputs[name] / high:.3g} beyond"
        if low == high and name != "width":
            follows = "only the table to follow" if name in claims else f"no law in {name}"
            yield f"{beyond} the proxies', which all had {high:g}: there is {follows}"
        else:
            far = " (more than a decade: confirm at a size between)" if decades > FAR_DECADES else ""
            yield f"{beyond} the largest proxy's {high:g}{far}"
    if spec.horizon.batch_tokens != proxy.horizon.batch_tokens and "batch_tokens" not in {*claims, *measured(group)}:
        yield (
            f"batch_tokens {spec.horizon.batch_tokens:,} differs from the proxies' {proxy.horizon.batch_tokens:,}:"
            f" the learning rate is {f'moved by {assumed[0]}, no run of yours' if assumed else 'not corrected for it'}"
        )
    scales = len(group.optima) if group.lr_fits or group.joint is None else group.joint.n_cells
    edges = [optimum for optimum in group.optima if optimum.status not in ("INTERIOR", "BRACKETED")]
    if edges and group.lr_fits:  # else each batch and weight decay is a scale of its own there
        yield f"{len(edges)} of {len(group.optima)} scales have no interior optimum: {edges[0].advice}"
    if scales < 4:
        yield f"{scales} scales only: the intervals rest on the noise model; four or more would test the law"
    for choice in choices.values():
        ratio = choice.value / chosen.value
        if (
            choice.kind != chosen.kind
            and not (choice.low <= chosen.value <= choice.high)
            and abs(math.log2(ratio)) > 0.5
        ):
            yield f"{choice.kind} ({choice.law}) gives lr {choice.value:.4g}, ×{ratio:.2f} the chosen one"
