"""Ask, launch, tell: what a search runs, keeps and says, and what becomes of it when things go wrong."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from scalelab import readers
from scalelab.claims import claimed
from scalelab.errors import Refused
from scalelab.plan import plan, swept
from scalelab.search.outlook import outlook
from scalelab.search.problem import problem_of
from scalelab.search.study import CLAIM
from scalelab.spec import RunSpec
from scalelab.trials import run_folders
from tests.conftest import ROOT
from tests.helpers import TINY, tree, write_trial
from tests.search.searching import LR, Searching, bowl, kept, trials


def test_a_search_leaves_run_folders_a_study_and_a_result(found: Searching) -> None:
    text = found(LR, "width=tag(log,choice(32,64,128))", n_trials=8, sampler="tpe")
    assert "8/8" in text and "8 OK" in text and "scalelab fit runs/s" in text
    runs = {run.read().spec.fingerprint: run.read() for run in run_folders(Path("runs/s"))}
    assert len(runs) == len(found.specs) == 8
    for trial in trials():
        said = trial.user_attrs
        run = runs[said["fingerprint"]]
        assert trial.params == {"lr": run.spec.hparams.lr, "width": run.spec.shape.width}
        assert trial.values == [run.loss_nats] == [said["loss_nats"]]
        assert (said["outcome"], said["seconds"], said["tokens"]) == ("OK", 0.5, 640)
        assert said["cost_flops"] == run.spec.cost_flops and said["params_non_embedding"] > 0
    best = min(trials(), key=lambda trial: trial.values[0])
    result = kept()
    assert result["winner"]["params"] == best.params and result["winner"]["trial"] == best.number
    assert result["outcomes"]["OK"] == 8 and result["tested"] is None
    assert result["spent_flops"] == sum(run.spec.cost_flops for run in runs.values())


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_samplers_of_optuna_propose_in_batches(found: Searching, sampler: str) -> None:
    width = "width=tag(log,range(32,160,32))"
    found(LR, width, "optimizer=adamw,sgd", "hydra.sweeper.n_jobs=3", n_trials=12, sampler=sampler)
    assert len(trials()) == 12
    assert {trial.params["width"] for trial in trials()} <= {32, 64, 96, 128}
    assert {run.read().spec.shape.width for run in run_folders(Path("runs/s"))} == {
        trial.params["width"] for trial in trials()
    }


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_loss_and_cost_make_a_front_whose_dearest_is_the_winner(found: Searching, sampler: str) -> None:
    found.loss = lambda spec: None if spec.hparams.lr > 0.03 else bowl(spec)
    text = found(
        LR, "width=range(32,160,32)", "hydra.sweeper.objectives=[loss_nats,cost_flops]", n_trials=12, sampler=sampler
    )
    assert "Front" in text
    front = [(one["values"]["loss_nats"], one["values"]["cost_flops"]) for one in kept()["front"]]
    assert front == sorted(front) and [cost for _, cost in front] == sorted((cost for _, cost in front), reverse=True)
    assert kept()["winner"] == kept()["front"][0]
    assert kept()["winner"]["values"]["loss_nats"] == min(t.values[0] for t in trials())
    assert all(math.isfinite(loss) for loss, _ in front)


def test_carbs_searches_loss_and_cost_and_recommends(found: Searching) -> None:
    found.loss = lambda spec: None if spec.hparams.lr > 0.05 else bowl(spec)
    text = found(LR, "width=range(32,160,32)", "hydra.sweeper.n_jobs=2", n_trials=9, sampler="carbs")
    assert "CarbsSampler minimises loss_nats, cost_flops" in text and "CarbsSampler recommends lr=" in text
    assert len(found.specs) == len({spec.fingerprint for spec in found.specs}) == 9  # nothing is tried twice
    assert set(kept()["recommended"]["params"]) == {"lr", "width"}


def test_a_law_is_told_the_cost_of_its_target_and_recommends_there(found: Searching) -> None:
    given = ["width=range(32,160,32)", "tokens=range(320,1281,320)", "hydra.sweeper.sampler.seed=1"]
    target = "hydra.sweeper.sampler.target={width: 512, tokens: 6400}"
    text = found(LR, *given, target, n_trials=9, sampler="law")
    assert "LawSampler recommends" in text and "expected regret" in text
    assert kept()["recommended"]["params"] | {"lr": None} == {"width": 512, "tokens": 6400, "lr": None}


@pytest.mark.parametrize("study", ["search_carbs", "search_law"])
def test_the_searches_that_come_with_scalelab_can_be_begun(study: str) -> None:
    found = outlook(problem_of(swept([f"+sweep={study}"])))
    text = (ROOT / "sweeps" / f"{study}.yaml").read_text()
    assert f"Budget: {found.left} trials" in text
    assert str(found.problem.folder) == f"runs/{study}"


def test_run_folders_and_journal_are_the_same_table(found: Searching) -> None:
    found.loss = lambda spec: None if spec.hparams.lr > 0.03 else bowl(spec)
    found(LR, "width=range(32,160,32)", "tokens=range(320,1281,320)", n_trials=12, sampler="tpe")
    columns = ["parametrization", "width", "depth", "tokens", "batch_tokens", "lr", "loss_nats", "outcome"]
    folders, journal = (
        readers.read([source]).table[columns].sort_values(["lr", "width"]).reset_index(drop=True)
        for source in ("runs/s", "runs/s/search.journal")
    )
    assert set(folders["outcome"]) == {"OK", "DIVERGED"}
    pd.testing.assert_frame_equal(folders, journal, check_dtype=False)


def test_a_grid_is_gone_through_once(found: Searching) -> None:
    text = found("lr=0.01,0.02", "width=range(32,97,32)", n_trials=20, sampler="grid")
    assert "6 trials, the whole grid, of n_trials 20" in text
    assert len(found.specs) == len({spec.fingerprint for spec in found.specs}) == 6
    assert "nothing is left to run" in found("lr=0.01,0.02", "width=range(32,97,32)", n_trials=20, sampler="grid")


def test_launched_again_it_goes_on_and_then_has_nothing_to_do(found: Searching, folder: Path) -> None:
    found(LR, n_trials=3)
    found(LR, n_trials=5)
    assert len(trials()) == len(found.specs) == len({spec.hparams.lr for spec in found.specs}) == 5
    before = tree(folder)
    assert "nothing is left to run" in found(LR, n_trials=5)
    assert tree(folder) == before


def test_a_run_that_is_there_is_told_and_not_run_again(found: Searching) -> None:
    there = [run.spec for run in plan([*TINY, "width=32,64"], multirun=True).runs]
    for spec in there:
        write_trial(Path("runs/s"), spec, bowl(spec))
    found("width=32,64,96", n_trials=3, sampler="grid")
    assert len(found.specs) == 1 and len(trials()) == 3
    found("width=32,64,96", n_trials=12, sampler="random")  # asked again and again
    assert len(found.specs) == 1 and len(trials()) == 12
    assert kept()["spent_flops"] == sum(spec.cost_flops for spec in [*there, *found.specs])


def test_a_sampler_is_told_what_runs_cost_where_it_asks(found: Searching) -> None:
    target = f"hydra.sweeper.sampler._target_={__name__}.Asking"
    found(LR, "width=tag(log,range(32,160,32))", target, n_trials=1)
    (spec,) = found.specs
    assert Asking.costs == {"run": spec.cost_flops, "between": spec.cost_flops}


class Asking(RandomSampler):
    """Asks for the cost of a run as it is, and of one between two accepted widths."""

    costs: ClassVar[dict[str, float]] = {}

    def bind(self, *, cost: Callable[[dict[str, Any]], float]) -> None:
        self.cost = cost

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        self.costs |= {"run": self.cost({"width": 64, "lr": 0.01}), "between": self.cost({"width": 62})}
        return 62 if param_name == "width" else 0.01


def test_a_diverged_run_is_told_as_an_infinite_loss(found: Searching) -> None:
    found.loss = lambda spec: None if spec.hparams.lr > 0.005 else bowl(spec)
    text = found(LR, "hydra.sweeper.n_jobs=2", n_trials=12, sampler="gp")
    assert "diverged" in text and re.search(r"\d+ OK, \d+ DIVERGED", text)
    gone = [t for t in trials() if t.user_attrs["outcome"] == "DIVERGED"]
    assert gone and all(t.state is TrialState.COMPLETE and t.values == [math.inf] for t in gone)
    assert all("loss_nats" not in t.user_attrs and t.params["lr"] > 0.005 for t in gone)


def test_where_all_diverge_there_is_no_winner(found: Searching) -> None:
    found.loss = lambda spec: None
    text = found(LR, "hydra.sweeper.testing_seeds=[7]", n_trials=12, sampler="gp")
    assert "no trial of s ended well: 12 DIVERGED" in text
    assert kept()["winner"] is None and kept()["front"] == []


def test_a_crash_is_tried_again_and_teaches_nothing(found: Searching) -> None:
    broken: dict[str, int] = {}

    def twice(spec: RunSpec) -> float:
        broken[spec.fingerprint] = broken.get(spec.fingerprint, 0) + 1
        if broken[spec.fingerprint] < 3:
            raise RuntimeError("the disk is full")
        return bowl(spec)

    found.loss = twice
    found(LR, n_trials=2)
    assert set(broken.values()) == {3} and len(trials()) == 2


def test_trials_that_crash_are_given_up_and_made_up_for_by_another_launch(found: Searching) -> None:
    def always(spec: RunSpec) -> float:
        raise RuntimeError("the disk is full")

    found.loss = always
    text = found(LR, n_trials=5)
    assert found.status == 1
    assert "crashed: the disk is full" in text and "3 trials in a row crashed: the search ends here" in text
    assert [t.state for t in trials()] == [TrialState.FAIL] * 3
    assert {t.user_attrs["outcome"] for t in trials()} == {"FAILED"}
    found.loss = bowl
    assert "5 OK, 3 FAILED" in found(LR, n_trials=5)


def test_an_interrupted_search_takes_up_the_trial_that_was_running(found: Searching) -> None:
    def pressed(spec: RunSpec) -> float:
        if len(found.specs) == 3:
            raise KeyboardInterrupt
        return bowl(spec)

    found.loss = pressed
    with pytest.raises(KeyboardInterrupt):
        found(LR, n_trials=5)
    assert [t.state for t in trials()] == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING]
    (running,) = (t.params for t in trials() if t.state is TrialState.RUNNING)
    found.loss = bowl
    text = found(LR, n_trials=5)
    assert "2 told, 1 of them to take up again, 3 to do" in text
    assert [t.state for t in trials()] == [TrialState.COMPLETE] * 5
    assert trials()[2].params == running
    assert [spec.hparams.lr for spec in found.specs].count(running["lr"]) == 2  # once in vain
    assert len({spec.hparams.lr for spec in found.specs}) == 5


def test_one_process_asks_at_a_time(found: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs/s").mkdir(parents=True)
    monkeypatch.setattr("scalelab.search.study.PATIENCE_SECONDS", 0.1)
    with claimed(Path("runs/s") / CLAIM), pytest.raises(Refused, match=r"was held by another process for 0\.1 s"):
        found(LR)
    assert found.specs == []


def test_a_budget_is_not_exceeded_and_a_larger_one_goes_on(found: Searching) -> None:
    found(LR, n_trials=1)
    cost = found.specs[0].cost_flops
    text = found(LR, f"hydra.sweeper.budget_flops={3.5 * cost}", n_trials=9)
    assert "would exceed budget_flops" in text and "3 OK" in text
    found(LR, f"hydra.sweeper.budget_flops={3.5 * cost}", n_trials=9)
    assert len(found.specs) == 3 and len(trials()) == 4
    found(LR, f"hydra.sweeper.budget_flops={5.5 * cost}", n_trials=9)
    assert len(found.specs) == 5 and kept()["spent_flops"] == 5 * cost


def test_tuned_on_some_seeds_and_tested_on_others(found: Searching) -> None:
    found.loss = lambda spec: bowl(spec) + (0.3 if spec.seed >= 100 else 0.0) + spec.seed / 10_000
    seeds = ["hydra.sweeper.tuning_seeds=[0,1]", "hydra.sweeper.testing_seeds=[100,101,102]"]
    text = found(LR, *seeds, n_trials=3)
    assert "2 seeds a trial; the winner on 3 unseen ones" in text
    assert [spec.seed for spec in found.specs] == [0, 1] * 3 + [100, 101, 102]
    for trial in trials():
        of_trial = [spec for spec in found.specs if spec.fingerprint in trial.user_attrs["fingerprint"].split()]
        assert [spec.seed for spec in of_trial] == [0, 1] == trial.user_attrs["seeds"]
        assert trial.values[0] == pytest.approx(sum(map(found.loss, of_trial)) / 2)
    tested, winner = kept()["tested"], kept()["winner"]
    losses = [found.loss(spec) for spec in found.specs[-3:]]
    mean = sum(losses) / 3
    sd = math.sqrt(sum((loss - mean) ** 2 for loss in losses) / 2)
    assert tested["losses_nats"] == losses and tested["mean_nats"] == pytest.approx(mean)
    assert tested["high_nats"] - mean == pytest.approx(4.302652730 * sd / math.sqrt(3))  # Student's, 2 degrees
    assert tested["optimism_nats"] == pytest.approx(mean - winner["values"]["loss_nats"]) and "optimism +0.3" in text
    assert "nothing is left to run" in found(LR, *seeds, n_trials=3)


def test_testing_seeds_may_be_given_afterwards(found: Searching) -> None:
    found(LR, n_trials=2)
    found(LR, "hydra.sweeper.testing_seeds=[5]", n_trials=2)
    assert [spec.seed for spec in found.specs] == [0, 0, 5]
    assert kept()["tested"]["low_nats"] is None and kept()["tested"]["mean_nats"] is not None
