"""Which laws a recipe is asked of, and whether they can be projected to its target at all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scalelab.errors import Refused, unknown
from scalelab.evidence import domain, measured
from scalelab.laws import GroupLaws, Laws
from scalelab.models import count_params
from scalelab.parametrizations import table
from scalelab.resolve import settings
from scalelab.spec import RunSpec, from_plain

HORIZON = ("tokens", "batch_tokens")


def chosen(laws: Laws, parametrization: str | None, optimizer: str | None) -> GroupLaws:
    """The one group of laws that is meant."""
    if optimizer is not None:
        known = sorted({str(group.key.get("optimizer")) for group in laws.groups})
        if optimizer not in known:
            raise unknown("optimizer in these laws", optimizer, known)
        laws = replace(laws, groups=[group for group in laws.groups if group.key.get("optimizer") == optimizer])
    names = sorted({str(group.key.get("parametrization")) for group in laws.groups})
    wanted = parametrization or (names[0] if len(names) == 1 else None)
    if wanted is None:
        raise Refused(f"these laws hold several parametrizations: choose one with -p, of {', '.join(names)}")
    found = [group for group in laws.groups if group.key.get("parametrization") == wanted]
    if not found:
        raise unknown("parametrization in these laws", wanted, names)
    fitted = [
        group for group in found if group.lr_fits or (group.joint is not None and "lr" in group.joint.coordinates)
    ]
    if not fitted:
        reasons = "; ".join(sorted({reason for group in found for reason in group.not_fitted.values()}))
        raise Refused(f"no learning rate law was fitted for {wanted!r}: {reasons}")
    if len(fitted) > 1:
        keys = [{k: v for k, v in group.key.items() if k != "parametrization"} for group in fitted]
        raise Refused(f"{wanted!r} was fitted in {len(fitted)} settings ({keys}): fit one of them apart")
    return fitted[0]


def largest(laws: Laws, group: GroupLaws) -> RunSpec:
    """The specification of the group's largest proxy."""
    key = f"{group.key.get('parametrization')}/{group.key.get('optimizer')}"
    if not laws.template or key not in laws.template:
        raise Refused(
            "these laws were fitted to a file, which does not say what was trained: a recipe needs run folders"
            " (`scalelab train`, then `scalelab fit FOLDER`)"
        )
    return from_plain(laws.template[key])


def refuse_smaller(group: GroupLaws, spec: RunSpec, proxy: RunSpec) -> None:
    """`Refused` where the target is smaller or shorter than the proxies."""
    size, largest = (count_params(s).non_embedding for s in (spec, proxy))
    if size < largest:
        raise Refused(
            f"the target has {size:,} non-embedding parameters, fewer than the largest proxy's {largest:,}"
            f" (width {proxy.shape.width}, depth {proxy.shape.depth}): nothing to project, the laws hold its optimum"
        )
    low = min(optimum.scale.get("tokens", math.inf) for optimum in group.optima)
    if spec.horizon.tokens < low < math.inf:
        raise Refused(f"the target trains on {spec.horizon.tokens:,} tokens, fewer than every proxy ({low:,.0f})")


def swept_apart(group: GroupLaws, proxy: RunSpec) -> tuple[str, ...]:
    """Scales of the horizon that the proxies varied, each with its own for its base, though the rules move with them.

    Laws of such runs are of values that no table moved, so a target is its own base there too: the table's factors
    beside the law's would correct for the same thing twice. Nor do such runs say anything of the table's claims there.
    """
    domains = [fit.domain for fit in group.lr_fits.values()] + ([group.joint.domain] if group.joint is not None else [])
    varied = {name for each in domains for name, (low, high) in each.items() if low < high}
    return tuple(
        name for name in HORIZON if name in varied and getattr(proxy, f"base_{name}") is None and _moves(proxy, name)
    )


def _moves(proxy: RunSpec, name: str) -> bool:
    at = 2 * getattr(proxy.horizon, name)
    moved = replace(proxy, base_tokens=at) if name == "tokens" else replace(proxy, base_batch_tokens=at)
    factors = {table(proxy.parametrization).one_minus_beta(spec.scales) for spec in (moved, proxy)}
    return len(factors) > 1 or settings(moved) != settings(proxy)


def silent(group: GroupLaws, inputs: Mapping[str, float], claims: Sequence[str]) -> list[str]:
    """Scales in which the target leaves the proxies with neither a law nor a claim of the table to follow."""
    known = measured(group) | set(claims) | {"params_non_embedding", "batch_tokens"}
    return [
        name for name, (low, high) in domain(group).items() if not low <= inputs[name] <= high and name not in known
    ]
