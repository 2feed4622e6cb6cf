"""Pruners that stop the runs of a study, each an Optuna pruner for studies that minimise one loss.

A run reports by `trial.report(loss_nats, step)` and asks `trial.should_prune()` after each report. What `step` is:

| pruner | `step` |
|---|---|
| hyperband, idhb, curve | tokens seen, a whole number; a full run's last report is at its horizon |
| median | tokens seen; runs are compared at the same step |
| wilcoxon | index of the tuning seed, its value that seed's final loss: runs are compared pairwise by seed |

A loss that is NaN: "hyperband" and "idhb" stop the run at the next rung, "median" if the run has reported nothing else,
"curve" at once; "wilcoxon" leaves it alone.
"""

from scalelab.named import class_named

PRUNERS: dict[str, str] = {
    "curve": "scalelab.pruners.curve:CurvePruner",
    "hyperband": "optuna.pruners:HyperbandPruner",
    "idhb": "scalelab.pruners.idhb:IdhbPruner",  # with a scalelab.pruners.idhb:IdhbSampler around the study's sampler
    "median": "optuna.pruners:MedianPruner",
    "wilcoxon": "optuna.pruners:WilcoxonPruner",
}


def pruner_class(name: str) -> type:
    """The class of a pruner by its name; Optuna is imported only now.

    Raises:
        Refused: on a name that is none of PRUNERS.
    """
    return class_named("pruner", name, PRUNERS)
