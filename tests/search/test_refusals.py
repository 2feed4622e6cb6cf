"""What a search refuses, in one line, before anything is run."""

import importlib.util
import re
from pathlib import Path

import optuna
import pytest

from scalelab.errors import Refused
from tests.search.searching import LR, Searching, trials


def refused(found: Searching, *overrides: str) -> str:
    before = len(found.specs)
    with pytest.raises(Refused) as said:
        found(*overrides)
    assert "\n" not in str(said.value) and len(found.specs) == before
    return str(said.value)


IDHB = (LR, "hydra/sweeper/pruner=idhb", "schedule=constant", "warmup_fraction=0")
REFUSED: dict[str, tuple[list[str], str]] = {
    "nothing searched": ([], "nothing to search"),
    "empty interval": (["lr=interval(1,1)"], "the lower first"),
    "log of nothing": (["lr=tag(log,interval(0,1))"], "above 0"),
    "unknown key": (["widht=interval(1,2)"], "unknown key 'widht'|unknown key widht"),
    "an end that is no run": (["width=int(interval(32,50))"], "the run with width=50 is not accepted: head_dim"),
    "two ends that are no run": (
        ["tokens=range(640,6401,640)", "batch_tokens=64,256"],
        "the run with tokens=640, batch_tokens=256 is not accepted",
    ),
    "no trials": ([LR, "hydra.sweeper.n_trials=0"], "n_trials=0: accepted is a whole number of at least 1"),
    "n_trials no number": ([LR, "hydra.sweeper.n_trials=many"], "n_trials='many'"),
    "no jobs": ([LR, "hydra.sweeper.n_jobs=0"], "n_jobs=0"),
    "no budget": ([LR, "hydra.sweeper.budget_flops=-1"], "budget_flops=-1"),
    "unknown setting": ([LR, "hydra.sweeper.n_trails=3"], "hydra.sweeper.n_trails"),
    "unknown objective": ([LR, "hydra.sweeper.objectives=[loss_nats,money]"], "unknown objective 'money'"),
    "no loss": ([LR, "hydra.sweeper.objectives=[cost_flops]"], "accepted is loss_nats as the first"),
    "no objectives": ([LR, "hydra.sweeper.objectives=[]"], "objectives=.*accepted are different ones"),
    "objectives no list": ([LR, "hydra.sweeper.objectives=loss_nats"], "accepted is a list"),
    "unknown sampler": ([LR, "hydra/sweeper/sampler=tpee"], "sampler/tpee.*accepted are .*tpe"),
    "no sampler": ([LR, "hydra.sweeper.sampler._target_=scalelab.nowhere.Sampler"], "scalelab.nowhere"),
    "not a sampler": ([LR, "hydra.sweeper.sampler._target_=builtins.dict"], "is no sampler of Optuna's"),
    "unknown argument": ([LR, "+hydra.sweeper.sampler.colour=red"], "colour"),
    "one objective for two": (
        [LR, "hydra/sweeper/sampler=carbs", "hydra.sweeper.objectives=[loss_nats]"],
        "CarbsSampler minimises a loss and a cost",
    ),
    "a refused argument": ([LR, "hydra/sweeper/sampler=carbs", "hydra.sweeper.sampler.opening=0"], "opening is 0"),
    "no target of a law": ([LR, "hydra/sweeper/sampler=law"], "hydra.sweeper.sampler.target is not given"),
    "params that are none": ([LR, "hydra.sweeper.params=3"], "params=3: accepted are keys below it"),
    "names by pattern": (["optimizer=glob(a*)"], "accepted are the names themselves"),
    "a grid of an interval": ([LR, "hydra/sweeper/sampler=grid"], "a grid takes range"),
    "seeds on both sides": (
        [LR, "hydra.sweeper.tuning_seeds=[0,1]", "hydra.sweeper.testing_seeds=[1]"],
        "seed 1 is tuned on and in testing_seeds",
    ),
    "the search's own seed tested": (
        [LR, "hydra.sweeper.testing_seeds=[0]"],
        "seed 0 is tuned on and in testing_seeds",
    ),
    "a seed that is none": ([LR, "hydra.sweeper.tuning_seeds=[-1]"], "tuning_seeds=.*accepted are different"),
    "a seed searched": (["seed=0,1", "hydra.sweeper.testing_seeds=[7]"], "seed is searched"),
    "no warm start": ([LR, "hydra.sweeper.warm_start=[nowhere]"], "nowhere does not exist"),
    "storage that is no URL": ([LR, "hydra.sweeper.storage=study.db"], "storage=study.db: accepted is a URL"),
    "storage out of reach": (
        [LR, "hydra.sweeper.storage='sqlite:////nowhere/at/all.db'"],
        "storage=sqlite:////nowhere/at/all.db: there is no folder /nowhere/at",
    ),
    "storage without a driver": ([LR, "hydra.sweeper.storage='mysql://u@h/d'"], "storage mysql://u@h/d"),
    "unknown pruner": ([LR, "hydra/sweeper/pruner=hyper"], "pruner/hyper.*accepted are curve, hyperband, idhb"),
    "no pruner": ([LR, "hydra.sweeper.pruner=hyperband"], "pruner='hyperband': accepted is a choice of"),
    "a pruner by its name alone": (
        [LR, "hydra.sweeper.pruner.name=median"],
        "pruner median without rungs: accepted is",
    ),
    "an argument of no pruner": (
        [LR, "hydra/sweeper/pruner=hyperband", "+hydra.sweeper.pruner.colour=red"],
        "pruner hyperband: .*'colour'",
    ),
    "a rung that is the end": (
        [LR, "hydra/sweeper/pruner=hyperband", "hydra.sweeper.pruner.min_resource=640"],
        "min_resource=640: accepted are tokens from 1 to below the horizon of 640",
    ),
    "no halving": ([*IDHB, "hydra.sweeper.pruner.reduction_factor=1"], "reduction_factor=1: accepted is"),
    "rungs beyond the end": (
        [LR, "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.rungs=[0.5,2]"],
        "rungs=.*accepted are different fractions",
    ),
    "a risk that few trials cannot carry": (
        [LR, "hydra/sweeper/pruner=curve", "hydra.sweeper.pruner.min_trials=5"],
        "min_trials=5: accepted are at least 19",
    ),
    "a pruner of two objectives": (
        [LR, "hydra/sweeper/pruner=median", "hydra.sweeper.objectives=[loss_nats,seconds]"],
        "Optuna stops trials of one objective only",
    ),
    "a pruner under carbs": (
        [LR, "hydra/sweeper/pruner=hyperband", "hydra/sweeper/sampler=carbs"],
        "CarbsSampler with pruner hyperband: it learns a loss and a cost of every run",
    ),
    "a pruner under a law": (
        [
            LR,
            "width=range(32,97,32)",
            "hydra/sweeper/pruner=median",
            "hydra/sweeper/sampler=law",
            "hydra.sweeper.sampler.scales=[width]",
            "hydra.sweeper.sampler.target={width: 512}",
        ],
        "LawSampler with pruner median: it learns from what small runs end at",
    ),
    "a raise under a law": (
        [*IDHB, "hydra/sweeper/sampler=law", "hydra.sweeper.sampler.scales=[]", "hydra.sweeper.sampler.target={}"],
        "LawSampler with pruner idhb: it takes the losses of all horizons for those of one",
    ),
    "a pruner of several horizons": (
        [LR, "tokens=range(640,1921,640)", "hydra/sweeper/pruner=hyperband"],
        "pruner hyperband with horizons of 640 to 1920 tokens",
    ),
    "one seed to compare": ([LR, "hydra/sweeper/pruner=wilcoxon"], "with 1 tuning seed: accepted are at least 5 at"),
    "too few seeds to compare": (
        [LR, "hydra/sweeper/pruner=wilcoxon", "hydra.sweeper.tuning_seeds=[0,1,2,3]"],
        "with 4 tuning seeds: accepted are at least 5 at p_threshold=0.1",
    ),
    "a chance that is none": (
        [LR, "hydra/sweeper/pruner=wilcoxon", "hydra.sweeper.pruner.p_threshold=1"],
        "p_threshold=1.0: accepted is a chance",
    ),
    "a raise after a decay": ([*IDHB, "schedule=linear"], "idhb with schedule=linear: .* try horizon=branch"),
    "a raise that moves the warmup": (
        [*IDHB, "warmup_fraction=0.2"],
        "a run to 1920 tokens begins otherwise than one to 640.*try warmup_fraction=0",
    ),
    "unknown launcher": ([LR, "hydra/launcher=sub"], "launcher/sub.*accepted are"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line_before_anything_is_run(what: str, found: Searching, folder: Path) -> None:
    arguments, expected = REFUSED[what]
    said = refused(found, *arguments)
    assert re.search(expected, said), said
    assert not list(folder.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("cmaes") is not None, reason="cmaes is installed")
def test_a_sampler_says_which_package_it_needs(found: Searching) -> None:
    assert "needs the package cmaes: pip install cmaes" in refused(found, LR, "hydra/sweeper/sampler=cmaes")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            ["lr=tag(log,interval(1e-4,1))"],
            "space: lr is lr log 0.0001 to 0.1 there and lr log 0.0001 to 1.0 here",
        ),
        ([LR, "width=32,64"], "other space: width is absent there"),
        ([LR, "hydra.sweeper.objectives=[loss_nats,seconds]"], "other objectives: 1 is absent there and seconds here"),
        ([LR, "depth=3"], "other fixed: shape.depth is 2 there and 3 here"),
        ([LR, "hydra/sweeper/pruner=median"], "other pruner: name is absent there and median here"),
        ([LR, "seed=1"], "other tuning seeds: 0 is 0 there and 1 here"),
    ],
)
def test_a_study_of_another_problem_is_refused(changed: list[str], said: str, found: Searching) -> None:
    found(LR, n_trials=1)
    line = refused(found, *changed)
    assert said in line and "warm_start" in line
    assert len(trials()) == 1


def test_a_storage_of_ones_own(found: Searching, folder: Path) -> None:
    url = f"hydra.sweeper.storage='sqlite:///{folder}/all.db'"
    found(LR, url, n_trials=2)
    found(LR, url, n_trials=3)
    assert len(trials(f"{folder}/all.db")) == 3 and not Path("runs/s/search.journal").exists()
    assert "keeps its runs in" in refused(found, LR, url, "out=elsewhere")
    optuna.create_study(storage=f"sqlite:///{folder}/all.db", study_name="t").enqueue_trial({"lr": 1})
    assert "was not begun by scalelab" in refused(found, LR, url, "study=t")


def test_a_journal_that_is_none_is_refused(found: Searching) -> None:
    Path("runs/s").mkdir(parents=True)
    Path("runs/s/search.journal").write_text("what\nis\nthis\n")
    assert "cannot be used" in refused(found, LR)
