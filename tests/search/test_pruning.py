"""Runs that are stopped early: who is asked what, what a study is told of it, and what becomes of it when things break.

Of a formula: a run's loss comes down in a line to the formula's, from one nat above it.
"""

import json
import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from scalelab import readers
from scalelab.errors import Refused
from scalelab.plan import swept
from scalelab.readers.optuna_study import open_study
from scalelab.search.problem import problem_of
from scalelab.search.pruning import ANSWERS, PRUNING_FILE
from scalelab.search_views import view
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, run_folders
from tests.helpers import TINY, scalelab, squeezed, tree
from tests.search.searching import LR, Searching, bowl, kept, trials

HYPERBAND = "hydra/sweeper/pruner=hyperband"
WILCOXON = ("hydra/sweeper/pruner=wilcoxon", "hydra.sweeper.pruner.p_threshold=0.3")
SEEDS = "hydra.sweeper.tuning_seeds=[0,1,2]"
CURVE = ("hydra/sweeper/pruner=curve", "hydra.sweeper.pruner.risk=0.2")


def states() -> list[TrialState]:
    return [trial.state for trial in trials()]


def stopped() -> list[FrozenTrial]:
    return [trial for trial in trials() if trial.state is TrialState.PRUNED]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "nsgaii"])
def test_a_study_is_told_what_was_stopped_and_what_it_cost(found: Searching, sampler: str) -> None:
    text = found(LR, HYPERBAND, "hydra.sweeper.n_jobs=3", n_trials=9, sampler=sampler)
    runs = {run.path.name: run.read() for run in run_folders(Path("runs/s"))}
    assert stopped() and TrialState.COMPLETE in states() and len(states()) == 9
    for trial in stopped():
        run, said = runs[trial.user_attrs["fingerprint"]], trial.user_attrs
        assert run.outcome is Outcome.PRUNED and said["outcome"] == "PRUNED" and said["reason"] == run.reason
        assert (said["tokens"], said["cost_flops"]) == (run.tokens_seen, run.cost_flops)
        assert said["saved_flops"] == run.spec.cost_flops - run.cost_flops > 0 and "loss_nats" not in said
    assert kept()["outcomes"]["PRUNED"] == len(stopped())
    assert kept()["spent_flops"] == sum(run.cost_flops for run in runs.values())
    assert kept()["winner"]["values"]["loss_nats"] == min(
        t.values[0] for t in trials() if t.state is TrialState.COMPLETE
    )
    assert "pruned by Hyperband: " in text and f"{len(stopped())} PRUNED" in text


def test_the_answers_are_those_of_optunas_pruner(found: Searching) -> None:
    """The same trials in memory, asked by Optuna's own `Trial`, in the order of the search."""
    found(LR, HYPERBAND, n_trials=12)
    study = optuna.create_study(study_name="s", pruner=optuna.pruners.HyperbandPruner(24, 640, 3))
    for ours in trials():
        trial = study.ask()
        reports = [step for step in sorted(ours.intermediate_values) if step < 640]
        for rung in reports:
            trial.report(ours.intermediate_values[rung], rung)
            assert trial.should_prune() == (ours.state is TrialState.PRUNED and rung == reports[-1])
        if ours.state is TrialState.PRUNED:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, ours.values[0])


def test_launched_again_nothing_that_was_stopped_is_run_again(found: Searching, folder: Path) -> None:
    found(LR, HYPERBAND, n_trials=6)
    found(LR, HYPERBAND, n_trials=9)
    assert len(found.specs) == len(trials()) == 9
    before = tree(folder)
    assert "nothing is left to run" in found(LR, HYPERBAND, n_trials=9)
    assert tree(folder) == before


def test_a_setting_that_was_stopped_is_not_run_when_it_is_asked_again(found: Searching) -> None:
    lowest = "hydra.sweeper.pruner.min_resource=320"
    found("lr=0.01,0.0001,0.03,0.001", HYPERBAND, lowest, "hydra.sweeper.n_jobs=2", n_trials=14)
    assert len(found.specs) == 4 and len(trials()) == 14
    fates = {(trial.params["lr"], trial.state) for trial in trials()}
    assert len(fates) == 4 and TrialState.PRUNED in {state for _, state in fates}
    reports = {(trial.params["lr"], *trial.intermediate_values.items()) for trial in trials()}
    assert len(reports) == 4 and all(len(each) > 1 for each in reports)  # told with what the run had reported
    runs = [run.read() for run in run_folders(Path("runs/s"))]
    assert kept()["spent_flops"] == sum(run.cost_flops for run in runs)
    assert kept()["spent_flops"] + kept()["saved_flops"] == sum(run.spec.cost_flops for run in runs)


def test_the_median_and_the_curve_stop_only_what_they_know_enough_of(found: Searching) -> None:
    found(LR, "hydra/sweeper/pruner=median", n_trials=12)
    assert states()[:5] == [TrialState.COMPLETE] * 5 and stopped()
    text = found(LR, *CURVE, "study=c", n_trials=12)
    told = trials("runs/c")
    assert [t.state for t in told[:4]] == [TrialState.COMPLETE] * 4  # ⌈1 / 0.2⌉ − 1 of them calibrate
    best = min(t.values[0] for t in told[:4])
    for trial in told[4:]:  # all curves fall by the same: there is nothing to be wrong about
        falls = trial.intermediate_values[320] - 0.5
        assert (trial.state is TrialState.PRUNED) == (falls > best + 1e-9)
        best = min(best, falls if trial.state is TrialState.COMPLETE else math.inf)
    assert "calibrates on the first 4 trials" in text and "nothing will be stopped" not in text
    few = found(LR, "hydra/sweeper/pruner=curve", "study=few", n_trials=2)
    assert "calibrates on the first 19 trials" in few and "nothing will be stopped" in few


def test_a_setting_is_stopped_between_its_seeds(found: Searching) -> None:
    text = found(LR, *WILCOXON, SEEDS, n_trials=10)
    assert "pruner wilcoxon may stop them, between seeds" in text
    assert stopped() and len(found.specs) == 30 - len(stopped()) and found.asked == []
    best = math.inf
    for trial in trials():
        seeds = trial.user_attrs["seeds"]
        losses = [trial.intermediate_values[place] for place in range(len(seeds)) if place in trial.intermediate_values]
        if trial.state is TrialState.PRUNED:
            assert seeds == [0, 1] and sum(losses) / 2 + 0.005 > best  # bowl: a third seed is 0.015 above the first two
            assert trial.user_attrs["saved_flops"] == found.specs[0].cost_flops
            assert trial.user_attrs["reason"] == "Wilcoxon: worse than the best on 2 of 3 seeds"
        else:
            assert seeds == [0, 1, 2]
            best = min(best, trial.values[0])
    assert "nothing is left to run" in found(LR, *WILCOXON, SEEDS, n_trials=10)


def test_with_several_seeds_a_trial_is_judged_by_its_first(found: Searching) -> None:
    text = found(LR, HYPERBAND, SEEDS, "hydra.sweeper.n_jobs=4", n_trials=10)
    assert "judged by its first seed; the other 2 are run if it goes on" in text and stopped()
    assert len(found.specs) == 30 - 2 * len(stopped())
    for trial in trials():
        assert trial.user_attrs["seeds"] == ([0] if trial.state is TrialState.PRUNED else [0, 1, 2])
    whole = found.specs[0].cost_flops * 30
    assert kept()["spent_flops"] + kept()["saved_flops"] == whole


def test_after_a_seed_that_diverged_no_other_is_run(found: Searching) -> None:
    found.loss = lambda spec: None if spec.hparams.lr > 0.01 and spec.seed == 0 else bowl(spec)
    found(LR, *WILCOXON, SEEDS, n_trials=8)
    gone = [t for t in trials() if t.user_attrs["outcome"] == "DIVERGED"]
    assert gone and all(t.state is TrialState.COMPLETE and t.values == [math.inf] for t in gone)
    assert all(t.user_attrs["seeds"] == [0, 1] for t in gone)  # two begin together
    assert len(found.specs) == sum(len(t.user_attrs["seeds"]) for t in trials())


def test_a_loss_that_is_no_number_at_a_rung_stops_the_run(found: Searching) -> None:
    found.loss = lambda spec: math.nan if spec.hparams.lr > 0.01 else bowl(spec)
    found(LR, HYPERBAND, "hydra.sweeper.pruner.min_resource=320", n_trials=8)  # one bracket with one rung
    gone = [trial for trial in trials() if trial.params["lr"] > 0.01]
    assert gone and all(trial.state is TrialState.PRUNED and trial.values is None for trial in gone)


def test_a_crash_between_rungs_is_tried_again_and_changes_no_answer(found: Searching) -> None:
    def seen(folder: str) -> list[object]:
        return [(t.params, t.state, t.intermediate_values, t.system_attrs.get(ANSWERS)) for t in trials(folder)]

    found(LR, HYPERBAND, "out=whole", n_trials=6)
    broken: list[str] = []

    def once(spec: RunSpec) -> float:
        if len(found.asked) == 4 and not broken:
            broken.append(spec.fingerprint)
            raise RuntimeError("the disk is full")
        return bowl(spec)

    found.asked.clear()
    found.loss = once
    found(LR, HYPERBAND, n_trials=6)
    assert len(broken) == 1 and len(found.specs) == 6 + 7
    assert seen("runs/s") == seen("whole/s")


def test_a_budget_counts_what_was_spent_and_not_what_was_asked_for(found: Searching) -> None:
    cost = problem_of(swept(["hydra/sweeper=optuna", *TINY, LR])).spec({}).cost_flops
    found(LR, HYPERBAND, f"hydra.sweeper.budget_flops={6 * cost}", n_trials=40)
    assert kept()["spent_flops"] <= 6 * cost and len(found.specs) > 6 and len(stopped()) > 2


def test_status_shows_how_many_were_stopped_and_what_that_saved(found: Searching) -> None:
    found(LR, HYPERBAND, n_trials=9)
    seen = view(open_study("runs/s"))
    assert seen.counts("outcome") == {"OK": 9 - len(stopped()), "PRUNED": len(stopped())}
    assert seen.spent == kept()["spent_flops"] and seen.saved == kept()["saved_flops"]
    assert seen.trend[-1].spent == seen.spent
    text = squeezed(scalelab("search", "status", "runs/s").stdout)
    assert f"{len(stopped())} PRUNED" in text and f"saved by stopping {len(stopped())} early" in text


def test_what_was_stopped_is_no_result_for_laws_and_other_searches(found: Searching) -> None:
    found(LR, HYPERBAND, n_trials=9)
    table = readers.read(["runs/s/search.journal"]).table
    assert (table["outcome"] == "FAILED").sum() == len(stopped()) and table["loss_nats"].notna().sum() == 9 - len(
        stopped()
    )
    said = found(LR, "study=t", "hydra.sweeper.warm_start=[runs/s]", n_trials=1)
    assert f"{9 - len(stopped())} to be told" in said


def test_a_raised_horizon_keeps_the_first_rungs_and_only_it_wins(found: Searching) -> None:
    given = (LR, "hydra/sweeper/pruner=idhb", "schedule=constant", "warmup_fraction=0", "hydra.sweeper.n_jobs=2")
    found(*given, n_trials=12, sampler="tpe")
    spec = found.specs[0]
    plain = json.loads((Path("runs/s") / PRUNING_FILE).read_text())
    assert plain["rule"]["rungs"] == [24, 72, 216]
    text = found(*given, "tokens=1920", n_trials=12, sampler="tpe")
    plain = json.loads((Path("runs/s") / PRUNING_FILE).read_text())
    assert plain["rule"]["rungs"] == [24, 72, 216, 648] and plain["rule"]["horizon"] == 1920
    won = trials()[kept()["winner"]["trial"]]
    assert won.user_attrs["tokens"] == 1920 and "told ones go on to 1920 tokens" in text
    # Trials without a checkpoint to begin with pay for all of it; there is none in a formula.
    assert kept()["outcomes"]["OK"] + kept()["outcomes"]["PRUNED"] == len(trials()) > 12
    assert view(open_study("runs/s")).best is not None
    best = view(open_study("runs/s")).best
    assert best is not None and best.number == won.number
    with pytest.raises(Refused, match="came to tokens=1920, not 640: accepted are as many or more"):
        found(*given, n_trials=12, sampler="tpe")
    assert spec.horizon.tokens == 640
