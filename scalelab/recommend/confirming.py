"""The few runs that would most reduce a recipe's risk, before the large one is paid for.

Risk is what the recommended learning rate is expected to lose at the target, in nats. A run in between says where the
valley lies there; what that does to the risk is found by simulation (preposterior analysis: Raiffa & Schlaifer 1961,
Applied Statistical Decision Theory, ch. 4): of many worlds that the proxies leave possible each shows the run its own
losses, the worlds are weighted by how likely they make these, the learning rate is chosen again, and its expected loss
is averaged.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scalelab.errors import Refused
from scalelab.laws import Joint
from scalelab.laws.law import Array
from scalelab.overrides import overrides_of
from scalelab.parametrizations import table
from scalelab.recipe import NextRun
from scalelab.recommend.worlds import Worlds, scale_of, worlds
from scalelab.spec import RunSpec
from scalelab.target import target_spec

SHARE = 0.1  # of the target's cost, for all that is proposed
MOST = 3  # proposals, each one command
LEAST = 0.05  # of the risk: less is not worth a run
HALF_AS_GOOD = 0.5  # of the best affordable gain: of those the one that gains most per FLOP
WAY = tuple(step / 6 for step in range(7))  # from the largest proxy to the target, in size and in tokens
KEPT = 30  # options that are looked at again after the first choice, those that gained most
SPREADS = ((0.7, 1.4), (0.5, 2.0), (0.5, 1.0, 2.0))  # learning rates about the predicted best
POSSIBLE, SIMULATED = 800, 150  # worlds that are weighed, and those whose runs are simulated
GRID = 21  # learning rates at the target among which it is chosen again


@dataclass(frozen=True, kw_only=True, eq=False)
class Option:
    """Runs at one scale with several learning rates: `likely_KD` is ln of how likely each of D worlds makes the losses
    that each of K simulated ones shows."""

    spec: RunSpec
    lrs: tuple[float, ...]
    cost_flops: float
    likely_KD: Array = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """The choice at the target: excess ln loss of every learning rate of a grid in the worlds weighed, (D, X), and in
    those simulated, (K, X)."""

    possible_DX: Array = field(repr=False)
    simulated_KX: Array = field(repr=False)

    def risk(self, chosen: Sequence[Option]) -> float:
        """What the learning rate chosen after these runs is expected to lose, ln loss."""
        if not chosen:
            return float(self.simulated_KX[:, int(self.possible_DX.mean(axis=0).argmin())].mean())
        log_KD = np.sum([option.likely_KD for option in chosen], axis=0)
        weight_KD = np.exp(log_KD - log_KD.max(axis=1, keepdims=True))
        expected_KX = weight_KD @ self.possible_DX / weight_KD.sum(axis=1, keepdims=True)
        best_K = expected_KX.argmin(axis=1)
        return float(self.simulated_KX[np.arange(len(best_K)), best_K].mean())


def next_runs(
    joint: Joint | None, proxy: RunSpec, target: RunSpec, *, nats: float, own: Collection[str] = (),
    share: float = SHARE, most: int = MOST, seed: int = 0,
) -> tuple[NextRun, ...]:  # fmt: skip
    """The runs between proxies and target that take most risk off the recipe for what they cost, in their order.

    Each is one `scalelab train -m` with two or three learning rates; `risk_after_nats` counts those before it. Empty
    where no law of all runs knows the learning rate, that law is in what no configuration states, or nothing affordable
    helps.

    Args:
        joint: the law of all runs.
        proxy: the largest proxy.
        target: the recipe's run.
        nats: the loss expected at the target, which risks are a share of.
        own: scales of the horizon in which every run is its own base (`target_spec`), of which no claim is made.
        share: of the target's cost that all proposals together may cost.
        most: proposals.
        seed: of the simulation.
    """
    if joint is None or "lr" not in joint.coordinates or not set(joint.reference) <= set(scale_of(target)):
        return ()
    rng = np.random.default_rng([seed, *b"confirm"])
    claims = [name for name in table(target.parametrization).transfers if name not in own]
    drawn = worlds(joint, proxy, target, claims, n=POSSIBLE + SIMULATED, rng=rng)
    question = _question(drawn, scale_of(target), rng)
    left = share * target.cost_flops
    specs = [spec for spec in _between(proxy, target, drawn, own) if 2 * spec.cost_flops <= left]
    options = [_option(drawn, spec, factors, rng) for spec in specs for factors in SPREADS]
    found: list[NextRun] = []
    chosen: list[Option] = []
    risk = question.risk([])
    while len(found) < most:
        options = [o for o in options if o.cost_flops <= left and o.spec not in [c.spec for c in chosen]]
        after = [question.risk([*chosen, option]) for option in options]
        place = _best([risk - value for value in after], [option.cost_flops for option in options], least=LEAST * risk)
        if place is None:
            break
        found.append(_written(options[place], proxy, target, risk * nats, after[place] * nats))
        chosen, left, risk = [*chosen, options[place]], left - options[place].cost_flops, after[place]
        options = [options[k] for k in np.argsort(after, kind="stable")[:KEPT]]
    return tuple(found)


def _question(drawn: Worlds, scale: Mapping[str, float], rng: np.random.Generator) -> Question:
    low, high = np.quantile(drawn.best_lr(scale, rng), [0.005, 0.995])
    excess_DX = np.expm1(drawn.excess(scale, np.exp(np.linspace(low, high, GRID)).tolist(), rng, only_lr=True))
    return Question(possible_DX=excess_DX[:POSSIBLE], simulated_KX=excess_DX[POSSIBLE:])


def _option(drawn: Worlds, spec: RunSpec, factors: Sequence[float], rng: np.random.Generator) -> Option:
    """What each world would say of these runs' losses. Their level is not known: only differences tell."""
    scale = scale_of(spec)
    middle = math.exp(float(np.median(drawn.best_lr(scale, rng))))
    lrs = tuple(float(f"{middle * factor:.3g}") for factor in factors)
    excess_DR = drawn.excess(scale, lrs, rng)
    variance_R = drawn.noise(np.median(excess_DR, axis=0))
    gap_DG = excess_DR[:, 1:] - excess_DR[:, :1]
    shown_KG = gap_DG[POSSIBLE:] + _gaps(np.sqrt(variance_R) * rng.standard_normal((SIMULATED, len(lrs))))
    precision_GG = np.linalg.inv(np.diag(variance_R[1:]) + variance_R[0])
    off_KDG = shown_KG[:, None] - gap_DG[None, :POSSIBLE]
    return Option(
        spec=spec, lrs=lrs, cost_flops=float(len(lrs) * spec.cost_flops),
        likely_KD=-0.5 * np.einsum("kdg,gh,kdh->kd", off_KDG, precision_GG, off_KDG),
    )  # fmt: skip


def _gaps(noise_KR: Array) -> Array:
    return np.asarray(noise_KR[:, 1:] - noise_KR[:, :1])


def _best(gains: Sequence[float], costs: Sequence[float], *, least: float) -> int | None:
    """Of those that gain at least half of what the best gains, the one that gains most per FLOP; None where nothing
    gains the least that is worth it."""
    if not gains or max(gains) < least:
        return None
    good = [k for k, gain in enumerate(gains) if gain >= HALF_AS_GOOD * max(gains)]
    return max(good, key=lambda k: gains[k] / costs[k])


def _between(proxy: RunSpec, target: RunSpec, drawn: Worlds, own: Collection[str]) -> Iterator[RunSpec]:
    """Runs of the family on the way from the largest proxy to the target, in size and in tokens apart."""
    seen: set[RunSpec] = {proxy, target}
    for size, length in itertools.product(WAY, WAY):
        batch = _along(proxy.horizon.batch_tokens, target.horizon.batch_tokens, length, unit=proxy.shape.context)
        if not {"batch_tokens"} & {*drawn.unseen, *drawn.joint.coordinates, *drawn.joint.reference}:
            batch = proxy.horizon.batch_tokens
        stated = {
            "width": _along(proxy.shape.width, target.shape.width, size, unit=_unit(proxy, target)),
            "depth": _along(proxy.shape.depth, target.shape.depth, size, unit=1),
            "batch_tokens": batch,
            "tokens": _along(proxy.horizon.tokens, target.horizon.tokens, length, unit=batch),
        }
        try:
            spec = target_spec(proxy, stated, own)
        except Refused:  # a width that the family has not
            continue
        if spec not in seen:
            seen.add(spec)
            yield spec


def _along(here: int, there: int, way: float, *, unit: int) -> int:
    """A size on the way, geometrically, to whole units."""
    return max(round(math.exp((1 - way) * math.log(here) + way * math.log(there)) / unit), 1) * unit


def _unit(proxy: RunSpec, target: RunSpec) -> int:
    """Widths of the family: whole heads where their dimension is fixed, else multiples of the number of heads."""
    fixed = proxy.shape.head_dim == target.shape.head_dim
    grouped = proxy.shape.heads // proxy.shape.kv_heads
    return proxy.shape.head_dim * grouped if fixed else math.lcm(proxy.shape.heads, 8)


def _written(option: Option, proxy: RunSpec, target: RunSpec, risk: float, after: float) -> NextRun:
    spec = option.spec
    stated = [override for override in overrides_of(spec) if not override.startswith("lr=")]
    share = option.cost_flops / target.cost_flops
    moved = ", ".join(
        f"{name} {at:,} ({100 * math.log(at / here) / math.log(there / here):.0f} % of the way)"
        for name, here, at, there in (
            ("width", proxy.shape.width, spec.shape.width, target.shape.width),
            ("depth", proxy.shape.depth, spec.shape.depth, target.shape.depth),
            ("tokens", proxy.horizon.tokens, spec.horizon.tokens, target.horizon.tokens),
        )
        if here != there
    )
    lrs = ", ".join(f"{lr:g}" for lr in option.lrs)
    return NextRun(
        overrides=(*stated, f"lr={','.join(map(repr, option.lrs))}", "study=confirm"),
        why=f"between proxies and target: {moved}; lr {lrs}; {100 * share:.2g} % of the target's cost",
        cost_flops=option.cost_flops, risk_nats=risk, risk_after_nats=after,
    )  # fmt: skip
