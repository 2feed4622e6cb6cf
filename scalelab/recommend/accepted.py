"""Which laws a recipe is asked of, and whether they can be projected to its target at all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scalelab.errors import Refused, unknown
from scalelab.evidence import domain, measured
from scalelab.laws import GroupLaws, Laws
from scalelab.models import count_params
from scalelab.spec import RunSpec, from_plain


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


def refuse_twice(group: GroupLaws, spec: RunSpec, proxy: RunSpec) -> None:
    """`Refused` where the horizon would be corrected for by the table and by a law."""
    lengths = {optimum.scale.get("tokens") for optimum in group.optima}
    if len(lengths) > 1 and proxy.base_tokens is None and spec.base_tokens is not None:
        raise Refused(
            f"the proxies vary tokens, each with its own for its base, and {spec.parametrization!r} with"
            f" weight_decay_policy={spec.weight_decay_policy} scales with tokens itself: sweep with one base.tokens"
        )


def silent(group: GroupLaws, inputs: Mapping[str, float], claims: Sequence[str]) -> list[str]:
    """Scales in which the target leaves the proxies with neither a law nor a claim of the table to follow."""
    known = measured(group) | set(claims) | {"params_non_embedding", "batch_tokens"}
    return [
        name for name, (low, high) in domain(group).items() if not low <= inputs[name] <= high and name not in known
    ]
