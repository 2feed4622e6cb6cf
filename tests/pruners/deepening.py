"""Studies of Iterative Deepening Hyperband, and what is due in them."""

import optuna
from optuna.pruners import HyperbandPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from scalelab.pruners.continuing import due, latest, place_of
from scalelab.pruners.idhb import IdhbPruner, IdhbSampler, Variant
from tests.pruners.curves import Trainer, study_of

VARIANTS: tuple[Variant, ...] = ("preserving", "efficient")


def idhb(storage: BaseStorage, maximum: int, seed: int = 0, variant: Variant = "preserving") -> optuna.Study:
    return study_of(IdhbPruner(max_resource=maximum, variant=variant), IdhbSampler(RandomSampler(seed=seed)), storage)


def pruner_of(study: optuna.Study) -> IdhbPruner:
    assert isinstance(study.pruner, IdhbPruner)
    return study.pruner


def bracket_of(trial: FrozenTrial) -> int:
    place = place_of(trial)
    assert place is not None
    return place.bracket


def at(bracket: int, maximum: int) -> dict[str, int]:
    return {"bracket": bracket, "min_resource": 1, "reduction_factor": 3, "max_resource": maximum}


def waiting(study: optuna.Study) -> list[FrozenTrial]:
    pruner = pruner_of(study)
    return due(study.trials, pruner.max_resource, study.direction, efficient=pruner.efficient)


def sizes(maximum: int) -> list[int]:
    """A round of Hyperband's brackets, as Optuna counts them."""
    pruner = HyperbandPruner(1, maximum, 3)
    pruner._try_initialization(optuna.create_study())
    return pruner._trial_allocation_budgets


def deepened(trainer: Trainer, study: optuna.Study, configurations: int) -> None:
    """Until a study has so many configurations and none goes on."""
    while len(latest(study.trials)) < configurations or waiting(study):
        trainer.one(study)
