"""Laws and a target → what is believed of the best setting there, and of what missing it costs: draws of the truth.

Every draw is one world that the runs allow: exponents (theory's or measured), the best setting at the target with that
scale's own deviation from the law, how curved and how skewed its valley is. All that a recipe says of intervals and of
regret is read from the same draws, so the two cannot disagree.

Half of the worlds take the best learning rate from the joint fit, half from the law of the scales' own optima, where
both are there: the first, with its fixed prior for the scatter between scales, states too wide intervals on few of
them, the second slightly too narrow ones (tests/recommend/test_honesty.py).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from scalelab.laws import Fit, GroupLaws, Joint, Optimum
from scalelab.laws.design.of_joint import linear, student_covariance
from scalelab.laws.joint import priors
from scalelab.laws.law import Array
from scalelab.laws.optima.rows import SCATTER_PRIOR_DOF
from scalelab.recommend.averaging import CLAIM, Average, Posterior, average
from scalelab.recommend.unseen import BATCH, assumed, exponents, unseen

DRAWS = 2000
WORST = 1.0  # of an excess, as a share of the loss: beyond that a run is lost anyway
LN2 = math.log(2)
# Degrees of freedom of the joint fit's draws. It has few of its own, but on four scales the regret stated with those
# was twice the realised one, and with these 1.3 to 1.5 times (tests/recommend/test_honesty.py).
TAILS = 30.0
LEAST_CURVATURE = 1e-3  # nats per octave²: flatter is noise
SPREAD = 0.25  # of ln curvature, assumed where one scale only has a valley

JOINT, OPTIMA = "all runs in one likelihood", "a law of each scale's optimum"

Logs = Mapping[str, Array]  # ln of settings: "lr", "batch_tokens", "tau"


@dataclass(frozen=True, kw_only=True, eq=False)
class Belief:
    """Draws of the truth at a target.

    `valleys` are the settings whose valley a law knows. `best(name, logs)` gives ln of the best one, shape (D, N), for
    N settings of the others in `logs`; `height(name, logs)` the excess ln loss of those in `logs`. `averages` are the
    weightings of the learning rate's exponents by the law they were made for, `theory_D` says which draws are the
    theory's. `unmeasured` are corrections that are nobody's measurement here, `untested` claims of the table in scales
    that no proxy varied, each in words.
    """

    averages: Mapping[str, Average]
    theory_D: npt.NDArray[np.bool_] = field(repr=False)
    valleys: tuple[str, ...]
    best: Callable[[str, Logs], Array] = field(repr=False)
    height: Callable[[str, Logs], Array] = field(repr=False)
    unmeasured: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()

    @property
    def theory(self) -> float:
        """The weight of theory: of the worlds in which every claim of the table holds that the runs could test."""
        return float(np.mean([average.theory for average in self.averages.values()]))

    @property
    def claims(self) -> dict[str, float]:
        """The probability of each claim that the runs could test, by scale."""
        found = [{name.removeprefix("lr ~ "): w for name, w in a.claims.items()} for a in self.averages.values()]
        return {name: float(np.mean([weights[name] for weights in found])) for name in found[0]}

    def excess(self, logs: Logs) -> Array:
        """Excess of settings over the best, as a share of the loss, shape (D, N)."""
        total = sum((self.height(name, logs) for name in self.valleys if name in logs), start=np.zeros((1, 1)))
        return np.asarray(np.expm1(bounded(total)))


def bounded(height: Array) -> Array:
    """Excess ln loss, where it is above the worst that counts that."""
    return np.minimum(height, math.log1p(WORST))


def believed(
    group: GroupLaws, inputs: Mapping[str, float], claims: Sequence[str], *, proxy: Mapping[str, float], seed: int = 0
) -> Belief:
    """The belief at a target: from the joint fit where it knows the learning rate, else from the scales' optima.

    Args:
        group: laws of the learning rate, of one kind at least.
        inputs: every scale of the target, with the batch.
        claims: the scales over which the table transfers.
        proxy: scales of the largest proxy: how the best rate moves from its batch is assumed where no law says it, and
            how it moves from other scales that no proxy varied where the table's claim does not hold.
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, *b"recommend"])
    joint = group.joint
    if joint is None or "lr" not in joint.coordinates:
        fit = next(group.lr_fits[name] for name in ("power", "power_params", "constant") if name in group.lr_fits)
        away = unseen(fit.reference, fit.domain, proxy, inputs)
        shift = _shift(away, inputs, claims, proxy, rng)
        found = _of_optima(group, fit, inputs, claims, shift, rng)
    else:
        away = unseen(joint.coordinates["lr"], joint.domain, proxy, inputs)
        shift = _shift(away, inputs, claims, proxy, rng)
        found = _of_joint(group, joint, inputs, claims, shift, rng)
    return replace(
        found,
        unmeasured=tuple(assumed(name) for name in away if name == BATCH and name not in claims),
        untested=tuple(
            f"{name}: no proxy varied it; that the optimum stays, as the table claims, is given {CLAIM:g}, and else"
            f" {assumed(name)}, in every interval and regret: vary it among the proxies"
            for name in away if name in claims
        ),
    )  # fmt: skip


def _of_joint(
    group: GroupLaws, joint: Joint, inputs: Mapping[str, float], claims: Sequence[str], shift: Array | float,
    rng: np.random.Generator,
) -> Belief:  # fmt: skip
    model = linear(joint)
    posterior = Posterior(
        names=tuple(joint.estimates), mean_P=model.theta_P, scale_PP=model.covariance_PP,
        dof=max(joint.dof, TAILS), priors=joint.priors,
    )  # fmt: skip
    averages = {JOINT: average(posterior, [f"lr ~ {x}" for x in joint.coordinates["lr"] if x in claims])}
    theta_DP, theory_D = averages[JOINT].draws(DRAWS, rng)
    parameters = {name: theta_DP[:, [place]] for place, name in enumerate(posterior.names)}
    own = {q: joint.scatter[q] * LN2 * rng.standard_normal((DRAWS, 1)) for q in joint.coordinates}
    at = joint.log_ratios({n: v for n, v in inputs.items() if n in joint.domain and n != "batch_tokens"})
    if (beside := _beside(group, joint)) is not None:
        averages[OPTIMA], two_D1, theory_2D = _optimum(beside, inputs, claims, rng)
        given = {"batch_tokens": np.array(math.log(inputs["batch_tokens"]))}
        half_D = rng.permutation(DRAWS) < DRAWS // 2
        centre_D1 = joint.optimum("lr", at, given, parameters)
        own["lr"] = np.where(half_D[:, None], two_D1 - centre_D1, own["lr"])
        theory_D = np.where(half_D, theory_2D, theory_D)
    own["lr"] = own["lr"] + shift

    def best(name: str, logs: Logs) -> Array:
        return np.asarray(joint.optimum(name, at, logs, parameters) + own[name])

    def height(name: str, logs: Logs) -> Array:
        return joint.height(name, at, logs, np.asarray(logs[name] - own[name]), parameters)

    return Belief(
        averages=averages, theory_D=theory_D, valleys=tuple(joint.coordinates), best=best, height=height,
    )  # fmt: skip


def _beside(group: GroupLaws, joint: Joint) -> Fit | None:
    """The law of the scales' optima in what the joint fit's learning rate depends on; None where there is none."""
    laws = (group.lr_fits.get(name) for name in ("power", "power_params"))
    same = (law for law in laws if law is not None and set(law.reference) == set(joint.coordinates["lr"]))
    return next(same, None)


def _of_optima(
    group: GroupLaws, fit: Fit, inputs: Mapping[str, float], claims: Sequence[str], shift: Array | float,
    rng: np.random.Generator,
) -> Belief:  # fmt: skip
    weighted, optimum_D1, theory_D = _optimum(fit, inputs, claims, rng)
    optimum_D1 = optimum_D1 + shift
    sides = _sides([o for o in group.optima if o.log2_lr is not None], rng)

    def best(name: str, logs: Logs) -> Array:
        return optimum_D1

    def height(name: str, logs: Logs) -> Array:
        assert sides is not None
        octaves = (logs["lr"] - optimum_D1) / LN2
        return np.asarray(np.where(octaves < 0, sides[0], sides[1]) * octaves**2)

    return Belief(
        averages={OPTIMA: weighted}, theory_D=theory_D, valleys=() if sides is None else ("lr",), best=best,
        height=height,
    )  # fmt: skip


def _optimum(
    fit: Fit, inputs: Mapping[str, float], claims: Sequence[str], rng: np.random.Generator
) -> tuple[Average, Array, npt.NDArray[np.bool_]]:
    """ln of the best learning rate by the law of the scales' optima, (D, 1), and which draws are the theory's."""
    free = [name for name in fit.reference if fit.estimates[name].sd > 0]
    weighted = average(_posterior(fit, free), [name for name in free if name in claims])
    theta_DP, theory_D = weighted.draws(DRAWS, rng)
    log2_D = theta_DP[:, 0] + rng.choice(np.array(fit.draws["scatter"]), DRAWS)
    drawn = {name: theta_DP[:, place] for place, name in enumerate(free, start=1)}
    for name, x0 in fit.reference.items():
        log2_D = log2_D + drawn.get(name, fit.estimates[name].value) * math.log2(inputs[name] / x0)
    return weighted, LN2 * log2_D[:, None], theory_D


def _posterior(fit: Fit, free: Sequence[str]) -> Posterior:
    """The law's draws as a Student-t, and the exponents' weak priors upon it (the optima's fit has none)."""
    names = ("log2_lr", *free)
    mean_P = np.array([fit.estimates[name].value for name in names])
    dof = float(max(fit.n - len(names), 0) + SCATTER_PRIOR_DOF)
    draws_DP = np.stack([np.array(fit.draws[name]) for name in names], axis=-1)
    scale_PP = student_covariance(draws_DP - mean_P, dof)
    known = {name: priors.exponent("lr", name) for name in free}
    precision_PP, pull_P = np.linalg.inv(scale_PP), np.zeros(len(names))
    told_P = precision_PP @ mean_P
    for place, name in enumerate(free, start=1):
        precision_PP[place, place] += known[name].sd ** -2.0
        pull_P[place] = known[name].mean * known[name].sd ** -2.0
    scale_PP = np.linalg.inv(precision_PP)
    return Posterior(
        names=names, mean_P=scale_PP @ (told_P + pull_P), scale_PP=scale_PP, dof=dof,
        priors={name: (prior.mean, prior.sd) for name, prior in known.items()},
    )  # fmt: skip


def _sides(fitted: Sequence[Optimum], rng: np.random.Generator) -> tuple[Array, Array] | None:
    """Curvature below and above in ln loss per octave², (D, 1) each: the scales' own, with their spread."""
    log_C2 = np.array([
        [math.log(max(c, LEAST_CURVATURE) / o.loss_nats) for c in (o.curvature_below, o.curvature_above)]
        for o in fitted if o.curvature_below is not None and o.curvature_above is not None and o.loss_nats
    ])  # fmt: skip
    if not len(log_C2):
        return None
    sd_2 = log_C2.std(axis=0, ddof=1) if len(log_C2) > 1 else np.full(2, SPREAD)
    drawn_D2 = np.exp(log_C2.mean(axis=0) + np.maximum(sd_2, SPREAD / 2) * rng.standard_normal((DRAWS, 2)))
    return drawn_D2[:, :1], drawn_D2[:, 1:]


def _shift(
    away: Sequence[str], inputs: Mapping[str, float], claims: Sequence[str], here: Mapping[str, float],
    rng: np.random.Generator,
) -> Array | float:  # fmt: skip
    """How ln of the best rate moves from the proxies' scales to the target's where no law of them says it: in batch,
    and in what the table claims. In others a recipe is unverified and keeps the proxies'."""
    moving = [name for name in away if name in claims or name == BATCH]
    drawn = exponents(moving, claims, DRAWS, rng)
    return sum((p * math.log(inputs[x] / here[x]) for x, p in drawn.items()), start=np.zeros((1, 1)))
