"""Scales that no proxy varied: by which exponent the best learning rate may move in them.

Where the table claims a constant optimum, that has the probability of a claim that runs can test (`averaging.CLAIM`),
and the rest is the literature's weak prior; where it claims nothing all is the prior's. Recipes (`belief`) and plans
(`worlds`) draw from here, so that both expect the same loss.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from scalelab.laws.columns import PARAMS
from scalelab.laws.joint import priors
from scalelab.laws.law import Array
from scalelab.recommend.averaging import CLAIM

SHAPE = ("width", "depth")
BATCH = "batch_tokens"
MOVABLE = (*SHAPE, "tokens", BATCH)


def unseen(
    law: Collection[str], domain: Mapping[str, tuple[float, float]], here: Mapping[str, float],
    there: Mapping[str, float],
) -> list[str]:  # fmt: skip
    """The scales in which a target leaves proxies that did not vary them.

    Args:
        law: the scales in which a law of the learning rate has exponents.
        domain: (least, most) of every scale of its runs. What varied along with another scale was seen; a batch that
            did so was not: its own exponent is what runs at several scales cannot tell from theirs.
        here: the proxies' scales.
        there: the target's.
    """
    seen = {name for name, (low, high) in domain.items() if low < high and name != BATCH} | set(law)
    if set(PARAMS) & set(law):
        seen |= set(SHAPE)
    return [n for n in MOVABLE if n not in seen and n in here and n in there and here[n] != there[n]]


def exponents(names: Iterable[str], claims: Collection[str], n: int, rng: np.random.Generator) -> dict[str, Array]:
    """n draws of the exponent in each of these scales, (n, 1); `claims` are those in which the table says 0."""
    found = {}
    for name in names:
        prior = priors.exponent("lr", name)
        free_D1 = prior.mean + prior.sd * rng.standard_normal((n, 1))
        held_D1 = rng.random((n, 1)) < (CLAIM if name in claims else 0.0)
        found[name] = np.where(held_D1, 0.0, free_D1)
    return found


def assumed(name: str) -> str:
    """The weak prior of a scale in words."""
    prior = priors.exponent("lr", name)
    return f"lr ∝ {name.removesuffix('_tokens')}^{prior.mean:g} ± {prior.sd:g} ({prior.source})"
