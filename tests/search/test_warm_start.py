"""A search that begins with runs from elsewhere."""

import math
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from scalelab.plan import plan
from tests.helpers import TINY, write_trial
from tests.search.searching import LR, Searching, bowl, kept, trials


def test_a_search_begins_with_the_runs_of_a_folder_each_once(found: Searching) -> None:
    for given in (["lr=0.005,0.01,0.5", "seed=0,1"], ["lr=0.02", "width=64"], ["lr=0.02", "optimizer.beta1=0.8"]):
        for run in plan([*TINY, *given], multirun=True).runs:
            write_trial(Path("runs/old"), run.spec, bowl(run.spec))
    warm = ["hydra.sweeper.warm_start=[runs/old]", LR]
    text = found(*warm, n_trials=2)
    assert "warm start: 0 told, 2 to be told" in text
    assert "1 left out: outside the space of lr log 0.0001 to 0.1" in text
    assert "1 left out: another shape than the one that is searched" in text
    assert "1 left out: another hparams than the one that is searched" in text
    told = [t for t in trials() if "warm_start" in t.user_attrs]
    assert sorted(t.params["lr"] for t in told) == [0.005, 0.01]
    assert all(t.user_attrs["seeds"] == [0, 1] for t in told)
    assert len(found.specs) == 2 and len(trials()) == 4
    assert kept()["winner"]["params"]["lr"] == 0.01 and kept()["winner"]["warm_start"]
    assert "warm start: 2 told, 0 to be told" in found(*warm, n_trials=3)
    assert len(trials()) == 5


def test_a_search_begins_with_the_trials_of_another_study(found: Searching, folder: Path) -> None:
    found("study=a", LR, n_trials=3)
    found("study=b", LR, "context=32", n_trials=1)

    def objective(trial: optuna.Trial) -> float:
        return 3 + trial.suggest_float("lr", 1e-3, 1.0, log=True) + (math.nan if trial.number == 2 else 0)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    theirs = optuna.create_study(storage=f"sqlite:///{folder}/theirs.db", study_name="x", sampler=RandomSampler(0))
    theirs.optimize(objective, 5)
    inside = [t for t in theirs.trials if t.params["lr"] <= 0.1 and t.state is TrialState.COMPLETE]
    sources = f"runs/a/search.journal,runs/b/search.journal,'{folder}/theirs.db#x'"
    objectives = "hydra.sweeper.objectives=[loss_nats,cost_flops]"
    text = found(f"hydra.sweeper.warm_start=[{sources}]", LR, objectives, n_trials=1)
    assert f"{3 + len(inside)} to be told" in text
    assert "1 left out: another configuration than the one that is searched" in text
    told = {t.values[0]: t for t in trials() if "warm_start" in t.user_attrs}
    assert {t.values[0] for t in inside} | {t.values[0] for t in trials("runs/a")} == set(told)
    assert len({t.values[1] for t in told.values()}) == 1  # what a run of this problem costs
