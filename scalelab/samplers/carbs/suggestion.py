"""A study's evidence → the next setting: an opening around the centre, then the search around the front."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import softmax

from scalelab.errors import Refused
from scalelab.samplers.carbs.acquisition import log_expected_improvement
from scalelab.samplers.carbs.candidates import around, around_centre, fresh
from scalelab.samplers.carbs.known import Known, known, left
from scalelab.samplers.carbs.settings import Settings
from scalelab.samplers.carbs.surrogates import Fit, odds
from scalelab.samplers.evidence import Outcome, Seen
from scalelab.samplers.space import Space

Array = NDArray[np.float64]
Phase = Literal["opening", "search", "resample"]
CANDIDATES = 100  # for each dimension (arXiv:2306.08055's published code)
BIAS = 0.3  # normal scores by which the front must be beaten to count as improved: measured; 1 there
RADII = (1.0, 2.0, 4.0, 8.0, 16.0)  # in scales: the next where every candidate within one is known or too expensive
DRAWS = 64  # of the opening, to choose one from where runs diverged
WIDEST = 16.0  # how many times wider an opening gets that keeps diverging


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Parameters, how they were chosen and why so; and the hyperparameters, where they were fitted anew."""

    params: Mapping[str, Any]
    phase: Phase
    why: str
    fit: Fit | None = None


def suggestion(
    seen: Sequence[Seen], space: Space, settings: Settings, rng: np.random.Generator, *, fit: Fit | None, since: int
) -> Suggestion:
    """The next setting.

    Args:
        seen: the evidence of a study, running trials too.
        space: with one dimension at least.
        settings: of the search.
        rng: of this suggestion alone.
        fit: the hyperparameters of an earlier suggestion.
        since: how many trials there were since a setting was run again, or in all.

    Raises:
        Refused: where the budget is spent, where everything is predicted to cost more than is allowed, and where a
            surrogate cannot be fitted.
    """
    ended = sum(one.outcome is Outcome.OK for one in seen)
    if ended < settings.opening:
        return _opening(seen, space, settings, rng, ended)
    study = known(seen, space, settings, fit)
    unknown_N = [math.isnan(one.cost) for one in seen]
    most = left(seen, settings, np.exp(study.model.log_cost(study.x_ND[unknown_N])))
    if 0 < settings.resample_every <= min(since, ended) and len(study.front_F):
        chosen = _again(study, most, f"after every {settings.resample_every} runs one of the front is run again")
    else:
        chosen = _search(study.expecting(), settings, most, rng)
    return replace(chosen, fit=None if study.model.fit is fit else study.model.fit)


def _opening(
    seen: Sequence[Seen], space: Space, settings: Settings, rng: np.random.Generator, ended: int
) -> Suggestion:
    """Gaussian draws around the centre: the wider the more of them diverged, and away from those that did."""
    left(seen, settings, np.empty(0))
    x_ND = space.encode([one.params for one in seen])
    diverged = sum(one.outcome is Outcome.DIVERGED for one in seen)
    why = f"{ended} of {settings.opening} runs ended well that the search begins with"
    for radius in RADII:
        x_MD = around_centre(space, DRAWS, rng, radius=radius * min(1 + diverged / settings.opening, WIDEST))
        x_MD = fresh(space, x_MD, x_ND)
        if len(x_MD):
            break
    else:
        return Suggestion(params=seen[0].params, phase="resample", why=why + "; every setting was tried")
    chance_M = odds(seen, space, space.centre_D[None]).log_probability(x_MD)
    chosen = int(rng.choice(len(x_MD), p=softmax(chance_M)))
    return Suggestion(params=space.decode(x_MD[chosen]), phase="opening", why=why)


def _again(study: Known, most: float, why: str) -> Suggestion:
    """Of the settings to search around, as far as they may be afforded, that with the fewest replicates, running ones
    counted; of those the cheapest."""
    log_cost_F = study.settings.log_cost_G[study.origins_F]
    affordable_F = study.origins_F[log_cost_F <= math.log(most)]
    if not len(affordable_F):
        raise _too_expensive(most, float(np.exp(log_cost_F.min())))
    x_FD = study.settings.x_GD[affordable_F]
    same_FR = study.space.keys(x_FD)[:, None] == study.space.keys(study.running_RD)
    place = int(np.argmin(study.settings.count_G[affordable_F] + np.sum(np.all(same_FR, axis=2), axis=1)))
    return Suggestion(params=study.settings.params_G[affordable_F[place]], phase="resample", why=why)


def _search(study: Known, settings: Settings, most: float, rng: np.random.Generator) -> Suggestion:
    """The candidate of most worth: expected improvement × probability of success × nearness to what is known."""
    # What is known as far as it may be afforded, or at least the cheapest.
    log_cost_F = study.settings.log_cost_G[study.origins_F]
    origins_FD = study.settings.x_GD[study.origins_F[log_cost_F <= max(math.log(most), log_cost_F.min())]]
    cheapest = math.inf
    for radius in RADII:
        x_MD = around(study.space, origins_FD, CANDIDATES * len(study.space.dimensions), rng, radius=radius)
        x_MD = fresh(study.space, x_MD, study.x_ND)
        log_cost_M = study.model.log_cost(x_MD)
        cheapest = min(cheapest, float(np.exp(log_cost_M.min(initial=math.inf))))
        x_MD = x_MD[log_cost_M <= math.log(most)]
        if len(x_MD):
            break
    else:
        if cheapest < math.inf:
            raise _too_expensive(most, cheapest)
        return _again(study, most, "every setting around the front was tried")
    mean_M, sd_M = study.model.score(x_MD)
    log_cost_M, chance_M = study.model.log_cost(x_MD), study.model.odds.log_probability(x_MD)
    far_M = cdist(x_MD / study.space.scale_D, origins_FD / study.space.scale_D).min(axis=1)
    worth_M = chance_M - (far_M / radius) ** 2 / 2
    if len(study.front_F):
        best_M = _best(study, settings, log_cost_M, most, rng)
        worth_M += log_expected_improvement(mean_M, sd_M, best_M - BIAS)
    at = int(np.argmax(worth_M))
    what, expected = "joint objective" if settings.trade else "loss", study.model.scores.losses(mean_M[[at]])[0]
    return Suggestion(
        params=study.space.decode(x_MD[at]),
        phase="search",
        why=f"predicted {what} {expected:.5g}, cost {np.exp(log_cost_M[at]):.4g}, probability of success "
        f"{np.exp(chance_M[at]):.2f}",
    )


def _best(study: Known, settings: Settings, log_cost_M: Array, most: float, rng: np.random.Generator) -> Array:
    """What is to be improved upon at each cost, in normal scores.

    The front's posterior means, linear in ln cost between its settings; and never worse than at a cost drawn along the
    front, which draws the search towards its expensive end (arXiv:2306.08055 § 3). A joint objective has one best.
    """
    mean_F = np.minimum.accumulate(study.model.score(study.front_FD)[0])
    if settings.objective == "joint":
        return np.full_like(log_cost_M, mean_F[-1])
    log_cost_F = study.settings.log_cost_G[study.front_F]
    drawn = rng.uniform(log_cost_F[0], max(log_cost_F[0], min(log_cost_F[-1], math.log(most))))
    return np.asarray(np.minimum(np.interp(log_cost_M, log_cost_F, mean_F), np.interp(drawn, log_cost_F, mean_F)))


def _too_expensive(most: float, cheapest: float) -> Refused:
    return Refused(
        f"one more run may cost {most:.6g} at most and the cheapest around what is known is predicted to cost "
        f"{cheapest:.6g}: raise max_cost or the budget, or stop here"
    )
