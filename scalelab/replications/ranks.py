"""Whether small runs rank things (data recipes, say) as large ones do: rank correlations, with seeds resampled.

Losses are arrays [items, settings, seeds]; an item has the mean over seeds, at its best setting where it is tuned.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from scalelab.errors import Refused
from scalelab.laws.law import Array
from scalelab.replications.effects import infinite_where_lost
from scalelab.replications.finding import Finding

Indices = NDArray[np.intp]
RESAMPLES = 2000
LIMITS = (0.025, 0.975)
LEAST = 4  # items; of fewer a rank correlation says nothing


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Rank correlations of small runs with large ones, a setting of the small ones each, and their draws.

    `seen_L` are those of the settings `settings_L`, ascending; `drawn_LR` those of seeds resampled, together on all
    settings. `n` counts the runs.
    """

    settings_L: Array
    seen_L: Array
    drawn_LR: Array
    n: int

    def at(self, setting: float, *, name: str) -> Finding:
        """The correlation at one setting; `Refused` where it was not run."""
        place = self._place(setting)
        return _finding(name, self.seen_L[place], self.drawn_LR[place], self.n)

    def difference(self, setting: float, other: float, *, name: str) -> Finding:
        """The correlation at one setting minus that at another, on the same resampled seeds."""
        a, b = self._place(setting), self._place(other)
        return _finding(name, self.seen_L[a] - self.seen_L[b], self.drawn_LR[a] - self.drawn_LR[b], self.n)

    def table(self) -> pd.DataFrame:
        """A row a setting: the correlation and its interval."""
        low, high = np.quantile(self.drawn_LR, LIMITS, axis=1)
        return pd.DataFrame({"setting": self.settings_L, "correlation": self.seen_L, "low": low, "high": high})

    def _place(self, setting: float) -> int:
        near = np.flatnonzero(np.isclose(self.settings_L, setting, rtol=1e-6))
        if not len(near):
            raise Refused(f"nothing was run at {setting:g}: there are {', '.join(f'{x:g}' for x in self.settings_L)}")
        return int(near[0])


def ranking(
    small: pd.DataFrame,
    large: pd.DataFrame,
    *,
    of: str,
    over: str = "lr",
    kind: Literal["spearman", "pearson"] = "spearman",
    seed: int = 0,
) -> Ranking:
    """How the small runs' losses, at each value of `over`, go with those of the large runs at their best value of it.

    Args:
        small, large: runs, with columns `of`, `over`, seed, loss_nats and outcome; what diverged ranks last. Large ones
            need not have the same values of `over`.
        of: the column that names what is ranked.
        over: the setting that is fixed in small runs and tuned in large ones.
        kind: "spearman", of ranks, or "pearson", of losses.
        seed: of the resampling.

    Raises:
        Refused: on fewer than 4 things, different ones on the two sides, a missing run, or one seed; with "pearson"
            where a small run diverged.
    """
    items, settings, small_ILS = _losses(small, of, over, tuned=False)
    others, _, large_ILS = _losses(large, of, over, tuned=True)
    if items != others:
        given, asked = (", ".join(map(str, each)) for each in (items, others))
        raise Refused(f"small runs are of {given} and large ones of {asked}: give the same")
    if len(items) < LEAST:
        raise Refused(f"{len(items)} values of {of}: a rank correlation needs {LEAST} or more")
    if kind == "pearson" and not np.isfinite(small_ILS).all():
        raise Refused("a small run diverged: what is infinite has no correlation of losses; try kind='spearman'")
    correlation = {"spearman": _spearman, "pearson": _pearson}[kind]
    rng = np.random.default_rng(seed)

    def of_seeds(of_small_S: Indices, of_large_S: Indices) -> list[float]:
        tuned_I = large_ILS[:, :, of_large_S].mean(axis=-1).min(axis=-1)
        mean_IL = small_ILS[:, :, of_small_S].mean(axis=-1)
        return [correlation(mean_IL[:, place], tuned_I) for place in range(len(settings))]

    small_S, large_S = (np.arange(losses_ILS.shape[-1]) for losses_ILS in (small_ILS, large_ILS))
    drawn = [of_seeds(rng.choice(small_S, len(small_S)), rng.choice(large_S, len(large_S))) for _ in range(RESAMPLES)]
    return Ranking(
        settings_L=np.array(settings, dtype=float), seen_L=np.array(of_seeds(small_S, large_S), dtype=float),
        drawn_LR=np.array(drawn, dtype=float).T, n=len(small) + len(large),
    )  # fmt: skip


def _spearman(a_I: Array, b_I: Array) -> float:
    return _pearson(stats.rankdata(a_I), stats.rankdata(b_I))


def _pearson(a_I: Array, b_I: Array) -> float:
    return float(np.corrcoef(a_I, b_I)[0, 1])


def _losses(runs: pd.DataFrame, of: str, over: str, *, tuned: bool) -> tuple[list[str], list[float], Array]:
    """Items, settings, and losses in nats [items, settings, seeds]; infinite where a run diverged, or where what is
    tuned was not tried."""
    wide = infinite_where_lost(runs).pivot_table(index=of, columns=[over, "seed"], values="loss_nats", aggfunc="mean")
    settings, seeds = (sorted(runs[name].unique()) for name in (over, "seed"))
    if len(seeds) < 2:
        raise Refused(f"one seed: intervals need 2 or more for every {of} and {over}")
    wide = wide.reindex(columns=pd.MultiIndex.from_product([settings, seeds]))
    losses_ILS = wide.to_numpy(float).reshape(len(wide), len(settings), len(seeds))
    left_out_IL = np.isnan(losses_ILS).all(axis=-1)
    if np.isnan(losses_ILS[~left_out_IL]).any() or (left_out_IL.any() and not tuned):
        raise Refused(f"a run is missing: give every seed at every {over} of every {of}")
    return list(wide.index), settings, np.where(np.isnan(losses_ILS), np.inf, losses_ILS)


def _finding(name: str, value: float, drawn_R: Array, n: int) -> Finding:
    low, high = np.quantile(drawn_R, LIMITS)
    return Finding(name=name, value=float(value), low=min(float(low), value), high=max(float(high), value), n=n)
