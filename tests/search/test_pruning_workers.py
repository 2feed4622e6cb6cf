"""Where runs are asked, and what a worker does: several processes report, answers stay, storages fail."""

import math
import multiprocessing
from pathlib import Path

import optuna
import pytest

from scalelab.errors import Refused
from scalelab.plan import PlannedRun, planned, swept
from scalelab.readers.optuna_study import open_study
from scalelab.search.loop import search
from scalelab.search.problem import problem_of
from scalelab.search.pruning import ANSWERS, PRUNING_FILE, pruning_of
from scalelab.search.rule import rule_of
from scalelab.search.works import Here
from scalelab.spec import Horizon, RunSpec
from scalelab.trials import RunFolder, run_folders
from tests.helpers import TINY
from tests.search.searching import LR, Searching

HYPERBAND = "hydra/sweeper/pruner=hyperband"


@pytest.mark.parametrize(
    ("config", "horizon", "rungs"),
    [
        ({"name": "hyperband", "min_resource": None, "reduction_factor": 3}, 2700, (100, 300, 900)),
        ({"name": "hyperband", "min_resource": None, "reduction_factor": 3}, 640, (24, 72, 216)),
        ({"name": "hyperband", "min_resource": "5e1", "reduction_factor": 4}, 1000, (50, 200, 800)),
        ({"name": "idhb", "min_resource": 64, "reduction_factor": 2, "variant": "efficient"}, 512, (64, 128, 256)),
        ({"name": "median", "rungs": [0.5, 0.25]}, 1001, (251, 501)),
        ({"name": "curve", "rungs": [0.1], "risk": 0.1, "min_trials": None}, 1000, (100,)),
        ({"name": "wilcoxon", "p_threshold": 0.1, "n_startup_steps": 2}, 1000, ()),
    ],
)
def test_rungs_are_tokens_below_the_horizon(config: dict[str, object], horizon: int, rungs: tuple[int, ...]) -> None:
    rule = rule_of(config, horizon)
    assert rule is not None and rule.rungs == rungs


def test_a_raised_horizon_leaves_the_lowest_rung_where_it_was() -> None:
    config = {"name": "idhb", "min_resource": None, "reduction_factor": 3, "variant": "preserving"}
    rule = rule_of(config, 5000, first=640)
    assert rule is not None and rule.rungs == (24, 72, 216, 648, 1944)


def test_a_run_is_asked_after_the_first_whole_step_at_or_beyond_a_rung() -> None:
    rule = rule_of({"name": "median", "rungs": [0.25, 0.5]}, 640)
    assert rule is not None
    trial, study = optuna.trial.create_trial(value=0.0), optuna.create_study()
    for batch, steps in ((64, {3: 160, 5: 320}), (160, {1: 160, 2: 320}), (320, {1: 320}), (640, {})):
        horizon = Horizon(tokens=640, batch_tokens=batch)
        assert rule.steps(horizon, trial, rule.pruner(), study) == steps


def test_between_seeds_as_many_begin_together_as_no_decision_needs() -> None:
    config = {"name": "wilcoxon", "p_threshold": 0.1, "n_startup_steps": 2}
    rule = rule_of(config, 640)
    assert rule is not None  # 2^−4 is the first below 0.1
    assert rule.stages(6) == (range(4), range(4, 5), range(5, 6))
    within = rule_of({"name": "median", "rungs": [0.5]}, 640)
    assert within is not None and within.stages(3) == (range(1), range(1, 3)) and within.stages(1) == (range(1),)


def begun(*overrides: str, storage: str = "null") -> tuple[RunFolder, RunSpec]:
    """A search under hyperband whose first trial is running: its run."""
    asked = swept(["hydra/sweeper=optuna", *TINY, "study=s", LR, HYPERBAND, "hydra/sweeper/sampler=random",
                   "hydra.sweeper.n_trials=1", f"hydra.sweeper.storage={storage}", *overrides])  # fmt: skip
    runs: list[PlannedRun] = []

    def pressed(jobs: list[list[str]]) -> None:
        runs.extend(planned(asked.job(job) for job in jobs).runs)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(problem_of(asked), Here(pressed), lambda line: None, most=1)
    return runs[0].folder, runs[0].spec


def test_a_trial_that_does_not_run_is_refused(found: Searching, tmp_path: Path) -> None:
    found(LR, HYPERBAND, n_trials=1)
    folder = next(iter(run_folders(Path("runs/s"))))
    for number, state in ((0, "COMPLETE"), (7, "absent")):
        with pytest.raises(Refused, match=f"trial {number} of study 's' is {state}, accepted is one that runs"):
            pruning_of(folder, number, found.specs[0])
    with pytest.raises(Refused, match=r"has no search\.pruning\.json: it is for a search's runs, leave it out"):
        pruning_of(RunFolder(tmp_path / "elsewhere" / "run"), 0, found.specs[0])
    (Path("runs/s") / PRUNING_FILE).write_text("{")
    with pytest.raises(Refused, match=r"search.pruning.json is corrupt .*: launch its search again"):
        pruning_of(folder, 0, found.specs[0])


def test_an_answer_is_the_same_when_it_is_asked_for_again() -> None:
    folder, spec = begun()
    pruner = pruning_of(folder, 0, spec).pruner
    assert pruner is not None
    first, *_ = pruner.rungs
    assert pruner.stops(step=first, tokens=64, loss_nats=math.nan) == "Hyperband: nan nats after 64 tokens"
    again = pruning_of(folder, 0, spec).pruner
    assert again is not None
    assert again.stops(step=first, tokens=64, loss_nats=1.0) == "Hyperband: nan nats after 64 tokens"
    for step in pruner.rungs[1:]:  # of a run that was killed before it had ended, and came there
        assert again.stops(step=step, tokens=64 * step, loss_nats=1.0) == "Hyperband: nan nats after 64 tokens"


def test_a_storage_of_ones_own_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spec = begun(storage="'sqlite:///all.db'")
    folder = RunFolder(folder.path.absolute())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pruner = pruning_of(folder, 0, spec).pruner
    assert pruner is not None and pruner.stops(step=pruner.rungs[0], tokens=64, loss_nats=2.0) is None


def test_a_storage_that_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spec = begun()
    pruner = pruning_of(folder, 0, spec).pruner
    assert pruner is not None
    monkeypatch.setattr("scalelab.search.pruning.PAUSES_SECONDS", (0.0, 0.0))
    Path("runs/s/search.journal").rename("runs/s/away")
    with pytest.raises(Refused, match=r"storage .*search.journal cannot be used: No such file") as said:
        pruner.stops(step=pruner.rungs[0], tokens=64, loss_nats=2.0)
    assert "\n" not in str(said.value)
    Path("runs/s/away").rename("runs/s/search.journal")
    assert pruner.stops(step=pruner.rungs[0], tokens=64, loss_nats=2.0) is None


def report(folder: Path, spec: RunSpec, numbers: list[int]) -> None:
    for number in numbers:
        pruner = pruning_of(RunFolder(folder), number, spec).pruner
        for step in () if pruner is None else pruner.rungs:
            assert pruner is not None
            pruner.stops(step=step, tokens=64 * step, loss_nats=2.0 + number / 100)


@pytest.mark.parametrize("storage", ["null", "'sqlite:///all.db'"])
def test_several_processes_report_at_the_same_time(storage: str) -> None:
    folder, spec = begun(storage=storage)
    study = open_study("all.db" if storage != "null" else "runs/s")
    writing = optuna.load_study(study_name="s", storage="sqlite:///all.db") if storage != "null" else study
    for _ in range(11):
        writing.ask(study.trials[0].distributions)
    context = multiprocessing.get_context("spawn")
    numbers = [list(range(start, 12, 2)) for start in range(2)]
    working = [context.Process(target=report, args=(folder.path.absolute(), spec, each)) for each in numbers]
    for process in working:
        process.start()
    for process in working:
        process.join(60)
    assert [process.exitcode for process in working] == [0, 0]
    told = open_study("all.db" if storage != "null" else "runs/s").trials
    assert all(trial.system_attrs.get(ANSWERS, {}).keys() == {*map(str, trial.intermediate_values)} for trial in told)
    assert sum(bool(trial.intermediate_values) for trial in told) > 6
