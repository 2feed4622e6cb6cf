"""Independent search: a line of the learning rate, a line of each other hyperparameter there, the best of all together.

That of u-muP (Blake et al., arXiv:2407.17465), beside a random search of all, and the transfer errors that say whether
hyperparameters may be searched one by one. Tables are those of `Replication.runs`, of one parametrization; a
hyperparameter is a column of it, and 1 is what all but the learning rate are where they were not searched.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from scalelab.errors import Refused
from scalelab.replications.effects import infinite_where_lost, selected
from scalelab.replications.finding import Finding

DEFAULT = 1.0
LR = "lr"
FRESH = 10  # seeds from here on had no part in any choice; the first `CHOOSING` of them choose among finalists
CHOOSING = 2
SEARCHED: Mapping[str, tuple[str, ...]] = {  # beside the learning rate: the paper's of each table
    "u_mup": (
        "hparams.attention_multiplier",
        "hparams.activation_multiplier",
        "hparams.residual_multiplier",
        "hparams.residual_attention_ratio",
        "hparams.logits_multiplier",
    ),
    "mup": (
        "hparams.init_gain",
        "hparams.embedding_std",
        "hparams.embedding_multiplier",
        "hparams.attention_multiplier",
        "hparams.logits_multiplier",
    ),
}


def line(runs: pd.DataFrame, name: str, others: Sequence[str], lr: float | None = None) -> pd.Series:
    """Mean loss over seeds along one hyperparameter, in nats, all others at 1; infinite where a run diverged.

    Args:
        runs: of one parametrization.
        name: the hyperparameter, `lr` or one of `others`.
        others: all that were searched beside the learning rate.
        lr: that of the line, where it is not the line's own.

    Raises:
        Refused: where nothing was run there.
    """
    setting = {other: DEFAULT for other in others if other != name} | ({} if lr is None else {LR: lr})
    means: pd.Series = infinite_where_lost(selected(runs, setting)).groupby(name)["loss_nats"].mean()
    return means


def independent(runs: pd.DataFrame, others: Sequence[str]) -> dict[str, float]:
    """What the phases choose: the best learning rate of its line, and the best of each other's line at that rate."""
    lr = _lowest(line(runs, LR, others))
    return {LR: lr} | {other: _lowest(line(runs, other, others, lr)) for other in others}


def _lowest(losses: pd.Series) -> float:
    return float(losses.index.to_numpy(float)[losses.to_numpy(float).argmin()])


def finalists(
    runs: pd.DataFrame, trials: pd.DataFrame, others: Sequence[str], *, most: int = 2
) -> dict[str, dict[str, float]]:
    """The settings that are worth more seeds: `lr_only`, `combined`, and the best trials of a random search.

    Args:
        runs: of the lines.
        trials: of the random search; of them `most` are taken, `random_1` the best.
        others: all that were searched beside the learning rate.
    """
    chosen = independent(runs, others)
    best = trials[trials["outcome"] == "OK"].nsmallest(most, "loss_nats")
    return {
        "lr_only": {LR: chosen[LR]} | dict.fromkeys(others, DEFAULT),
        "combined": chosen,
        **{
            f"random_{place}": {name: float(row[name]) for name in (LR, *others)}
            for place, (_, row) in enumerate(best.iterrows(), start=1)
        },
    }


def transfer_errors(runs: pd.DataFrame, others: Sequence[str]) -> pd.DataFrame:
    """The transfer error of every pair with the learning rate, both ways: columns `fixed`, `transfer`, `nats`.

    Of the pair's mesh of losses, (f*, t*) is the best. For every other value f of the one that is fixed, its best t is
    taken to f*: nats lost there beside t*, on average over f. 0 is independence. Values of a mesh that were not run at
    every learning rate of it are left out.

    Raises:
        Refused: where a hyperparameter was run at one learning rate alone, or a value of a mesh diverged with all of
            the other's: it has no best one to take along.
    """
    rows = []
    for other in others:
        kept = infinite_where_lost(selected(runs, {each: DEFAULT for each in others if each != other}))
        mesh = kept.groupby([other, LR])["loss_nats"].mean().unstack(LR)
        wide = mesh.columns[mesh.notna().sum() > 1]  # learning rates that more than the default was run at
        mesh = mesh[wide].dropna()
        if min(mesh.shape) < 2:
            raise Refused(f"{other}: no mesh of it and lr, {mesh.shape[0]} values at {mesh.shape[1]} learning rates")
        for of_one, name in ((mesh, other), (mesh.T, LR)):
            if len(lost := of_one.index[np.isinf(of_one.to_numpy(float)).all(axis=1)]):
                raise Refused(f"{other} and lr: {name} {lost[0]:g} diverged with all of the other's: leave it out")
        loss_OL = mesh.to_numpy(float)
        rows += [(other, LR, _error(loss_OL)), (LR, other, _error(loss_OL.T))]
    return pd.DataFrame(rows, columns=["fixed", "transfer", "nats"])


def _error(loss_FT: np.ndarray) -> float:
    best_f, best_t = np.unravel_index(loss_FT.argmin(), loss_FT.shape)
    carried_F = loss_FT[best_f, loss_FT.argmin(axis=1)] - loss_FT[best_f, best_t]
    return float(np.delete(carried_F, best_f).mean())


def errors_apart(a: pd.DataFrame, b: pd.DataFrame, *, name: str, n: int) -> Finding:
    """The mean transfer error of `a` minus that of `b`; Welch's interval over pairs, both ways of one averaged."""
    of_a, of_b = (_by_pair(each) for each in (a, b))
    low, high = stats.ttest_ind(of_a, of_b, equal_var=False).confidence_interval(0.95)
    return Finding(name=name, value=float(of_a.mean() - of_b.mean()), low=low, high=high, unit="nats", n=n)


def _by_pair(errors: pd.DataFrame) -> np.ndarray:
    other = errors["fixed"].where(errors["fixed"] != LR, errors["transfer"])
    return errors["nats"].groupby(other).mean().to_numpy(float)
