"""The next run after the opening: law or guard.

law: the run that says most about the target per FLOP (`gain`).
guard: now and then, towards the target at the largest scale that has been paid for, a setting which the posterior
thinks may be best there: a law that is wrong shows where it matters, before much depends on it.
"""

from typing import Any

import numpy as np

from scalelab.laws.law import Array
from scalelab.samplers.law.belief import Runs
from scalelab.samplers.law.coordinates import Spots, about
from scalelab.samplers.law.gain import gains
from scalelab.samplers.law.opening import OPENING, Chosen
from scalelab.samplers.law.target import Outlook, best, unknown_at

JUMP = 8.0  # times the dearest run that ended: no run costs more
SHARE = 1 / 8  # of the target's cost, or a quarter of all that was spent if that is more: no run costs more
OF_SPENT = 1 / 4
GUARDS = 0.25  # of what was spent: guards cost no more
GUARD_OF_SPENT = 1 / 3
SENSIBLE = 0.2  # above the lowest floor that no more compute buys, as a share of it: scales beyond are left alone
EACH = 24  # settings considered at a scale
HEIGHT = 0.006  # above the valley's bottom, as a share of the loss, of the farther settings
WIDTHS = (0.3, 0.6, 1.0)  # of the way there
NEAREST, FARTHEST = 0.3, 1.5  # e-folds


def allowed(runs: Runs, target_flops: float, considered: Spots, cap_flops: float | None, left: float) -> float:
    """What the next run may cost, in FLOPs."""
    cap = max(SHARE * target_flops, OF_SPENT * runs.spent) if cap_flops is None else cap_flops
    return max(min(cap, JUMP * runs.dearest, left), float(considered.cost_M.min()))


def search(
    outlook: Outlook, considered: Spots, target: Spots, runs: Runs, most: float, guarded: float, overhead: float,
    rng: np.random.Generator,
) -> Chosen:  # fmt: skip
    """A run of the search; `most` is what it may cost, `guarded` what guards have, `overhead` what a run costs beside
    its FLOPs."""
    floor_M = outlook.posterior.law.floor(outlook.posterior.theta_P[None], considered.points)[0]
    posterior = outlook.posterior.also(runs.running) if len(runs.running) else outlook.posterior
    if guarded < GUARDS * runs.spent and len(runs.loss_N) >= 2 * (len(outlook.coordinates.hypers) + OPENING):
        return _guard(outlook, considered, floor_M, min(most, max(GUARD_OF_SPENT * runs.spent, runs.dearest)), rng)
    least_M = np.array([floor_M[considered.cost_M <= cost].min() for cost in considered.cost_M])
    sensible_M = floor_M - least_M <= SENSIBLE * np.abs(least_M)
    spots = considered[np.flatnonzero((considered.cost_M <= most) & sensible_M)]
    hyper_MEH, codes = _settings(outlook, spots, rng)
    choices = outlook.coordinates.choices
    code_MEO = outlook.coordinates.encoded(choices)[codes]
    actions = best(target, outlook, rng)
    unknown = unknown_at(target, outlook, actions)
    gain_ME = gains(outlook, posterior, unknown, about(spots.points, hyper_MEH, code_MEO)).reshape(codes.shape)
    score_ME = gain_ME / (spots.cost_M + overhead)[:, None]
    m, e = divmod(int(score_ME.argmax()), EACH)
    return Chosen(
        params=outlook.coordinates.params(spots.scales[m], hyper_MEH[m, e], choices[codes[m, e]]), phase="law",
        why=f"lowers the expected regret at the target by {gain_ME[m, e]:.2%} for {spots.cost_M[m]:.3g} FLOPs",
    )  # fmt: skip


def _settings(outlook: Outlook, spots: Spots, rng: np.random.Generator) -> tuple[Array, Any]:
    """Settings (m, E, H) about the law's optimum at each scale, and numbers of choices (m, E)."""
    law, coordinates = outlook.posterior.law, outlook.coordinates
    m, h = len(spots.scales), len(coordinates.hypers)
    curvature = [law.curvature(place) for place in range(h)]
    radius_H = np.sqrt(2 * HEIGHT * np.exp(-outlook.posterior.theta_P[curvature]))
    width_ME1 = rng.choice(WIDTHS, size=(m, EACH, 1))
    off_MEH = rng.standard_normal((m, EACH, h)) * width_ME1 * np.clip(radius_H, NEAREST, FARTHEST)
    # Half of them about the most likely optimum, half about what else it may be.
    centre_EMH = law.optimum(outlook.draw_DP[rng.integers(len(outlook.draw_DP), size=EACH)], spots.points)
    centre_EMH[::2] = law.optimum(outlook.posterior.theta_P[None], spots.points)
    hyper_MEH = np.clip(centre_EMH.swapaxes(0, 1) + off_MEH, *coordinates.bounds_H)
    return hyper_MEH, rng.integers(len(coordinates.choices), size=(m, EACH))


def _guard(outlook: Outlook, considered: Spots, floor_M: Array, most: float, rng: np.random.Generator) -> Chosen:
    """The scale with the lowest loss that the money buys, at an optimum drawn from the posterior."""
    rows = np.flatnonzero(considered.cost_M <= max(most, considered.cost_M.min()))
    spot = considered[rows[[int(np.argmin(floor_M[rows]))]]]
    theta_P = outlook.draw_DP[int(rng.integers(len(outlook.draw_DP)))]
    path = np.exp(outlook.posterior.log_size_K[0])
    hyper_H = outlook.optimum(spot.points, theta_P)[0] + path * rng.standard_normal(len(outlook.coordinates.hypers))
    action = best(spot, outlook, rng)[0]
    return Chosen(
        params=outlook.coordinates.params(
            spot.scales[0], np.clip(hyper_H, *outlook.coordinates.bounds_H), action.choice
        ),
        phase="guard", why=f"checks the law at {spot.cost_M[0]:.3g} FLOPs",
    )  # fmt: skip
