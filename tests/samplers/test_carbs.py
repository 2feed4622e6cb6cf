"""CarbsSampler in studies: how it searches, what it must survive, and what it refuses."""

import itertools
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from scalelab.errors import Refused
from scalelab.samplers.carbs.sampler import CarbsSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "size": FloatDistribution(1.0, 1e3, log=True),
}
START = {"lr": 1e-2, "size": 3.0}

Objective = Callable[[dict[str, Any]], tuple[float, float]]


def valley(params: dict[str, Any]) -> tuple[float, float]:
    """The best learning rate falls with the size: 1e-3 at a size of 100."""
    off = math.log(params["lr"] / 1e-3) + 0.5 * math.log(params["size"] / 100)
    return params["size"] ** -0.3 + 0.03 * off**2, params["size"]


def study_of(**given: Any) -> optuna.Study:
    sampler = CarbsSampler(**{"seed": 0, "centres": START, **given})
    return optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)


def run(
    study: optuna.Study, count: int, objective: Objective = valley, space: dict[str, BaseDistribution] = SPACE
) -> list[FrozenTrial]:
    for _ in range(count):
        trial = study.ask(space)
        study.tell(trial, objective(trial.params))
    return study.trials


def phases(study: optuna.Study) -> list[str | None]:
    return [trial.system_attrs.get("scalelab:phase") for trial in study.trials]


def settings(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(trial.params.values()) for trial in study.trials]


# how it searches


def test_the_centre_comes_first_then_an_opening_around_it_then_the_search() -> None:
    study = study_of(resample_every=0)
    trials = run(study, 8)
    assert trials[0].params == START
    assert phases(study) == ["opening"] * 4 + ["search"] * 4
    assert trials[2].system_attrs["scalelab:why"] == "2 of 4 runs ended well that the search begins with"
    assert trials[5].system_attrs["scalelab:why"].startswith("predicted loss ")
    assert all(abs(math.log(trial.params["size"] / 3)) < 4 * math.log(2) for trial in trials[:4])


def test_it_finds_a_front_that_random_search_does_not() -> None:
    regrets = []
    for sampler in (CarbsSampler(seed=1, centres=START), optuna.samplers.RandomSampler(seed=1)):
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        trials = run(study, 40)
        best = [min(t.values[0] for t in trials if t.values[1] <= most) - most**-0.3 for most in (10, 100, 1000)]
        regrets.append(np.array(best))
    assert (regrets[0] < regrets[1] / 2).all() and regrets[0][-1] < 0.01


def test_where_runs_diverge_is_avoided_however_they_are_told() -> None:
    study, diverged = study_of(centres={"lr": 5e-2, "size": 3.0}), []
    for number in range(40):
        trial = study.ask(SPACE)
        diverged.append(trial.params["lr"] > 3e-2)
        if not diverged[-1]:
            study.tell(trial, valley(trial.params))
        elif number % 2:
            study.tell(trial, (math.inf, trial.params["size"]))
        else:
            trial.set_user_attr("outcome", "DIVERGED")
            study.tell(trial, state=TrialState.FAIL)
    assert any(diverged[:10]) and not any(diverged[-15:])


@pytest.mark.parametrize("way", ["constraints_func", "set_constraint"])
def test_constraints_are_kept(way: str) -> None:
    def memory(params: dict[str, Any]) -> float:
        return float(params["size"] - 30)

    study = study_of(constraints_func=(lambda trial: (memory(trial.params),)) if way == "constraints_func" else None)
    for _ in range(40):
        trial = study.ask(SPACE)
        if way == "set_constraint":
            trial.set_constraint("memory", memory(trial.params))
        study.tell(trial, valley(trial.params))
    broken = [max(trial.constraints.values()) > 0 for trial in study.trials]
    assert sum(broken[-15:]) <= 3
    assert 20 < max(trial.params["size"] for trial in study.best_trials) <= 30
    assert study.sampler.recommend(study)["size"] < 31  # type: ignore[attr-defined]


def test_a_start_that_breaks_its_constraint_is_left_for_where_it_is_kept() -> None:
    study = study_of(centres={"lr": 1e-2, "size": 300.0}, constraints_func=lambda trial: (trial.params["size"] - 30,))
    trials = run(study, 30)
    assert any(trial.params["size"] <= 30 for trial in trials)


def test_fronts_are_run_again_so_often_and_nothing_else_twice() -> None:
    study = study_of()
    rng = np.random.default_rng(0)
    run(study, 40, lambda params: (valley(params)[0] + 0.01 * rng.normal(), params["size"]))
    again = [phase == "resample" for phase in phases(study)]
    assert sum(again) == 6  # the first after five, then one in six
    assert "run again" in study.trials[again.index(True)].system_attrs["scalelab:why"]
    assert len(set(settings(study))) == 40 - 6


def test_a_history_from_elsewhere_is_searched_on_at_once() -> None:
    study = study_of()
    rng = np.random.default_rng(0)
    for x in rng.uniform(-1, 1, size=(60, 2)):
        params = {"lr": 1e-2 * math.exp(x[0]), "size": 3 * math.exp(x[1])}
        study.add_trial(create_trial(params=params, distributions=SPACE, values=valley(params)))
    run(study, 6)
    assert [t.system_attrs["scalelab:phase"] for t in study.trials[60:]] == ["resample"] + ["search"] * 5


def test_costs_stay_below_the_most_that_is_allowed() -> None:
    study = study_of(max_cost=20.0)
    trials = run(study, 30)
    assert 10 < max(trial.values[1] for trial in trials[4:]) < 22


def test_a_budget_is_kept_and_its_end_is_said() -> None:
    study = study_of(budget=300.0)
    with pytest.raises(Refused, match="raise") as refused:
        run(study, 300)
    assert "\n" not in str(refused.value)
    assert 250 < sum(trial.values[1] for trial in study.trials if trial.values) < 310
    spent = study_of(budget=5.0)
    with pytest.raises(Refused, match=r"the budget of 5 is spent, .* by \d trials: nothing more is suggested"):
        run(spent, 4)


def test_a_joint_objective_ends_where_its_trade_says() -> None:
    study = study_of(objective="joint", trade=0.06, resample_every=0)
    run(study, 50)
    # d/d ln size of size^-.3 + .06 ln size is 0 at size^-.3 = .2
    last = [math.log(trial.params["size"]) for trial in study.trials[-10:]]
    assert abs(np.median(last) - math.log(0.2) / -0.3) < 1.2


def test_what_is_recommended_is_near_the_cost_and_the_valleys_bottom() -> None:
    study = study_of()
    run(study, 40)
    sampler = study.sampler
    assert isinstance(sampler, CarbsSampler)
    for cost in (30.0, 300.0):
        params = sampler.recommend(study, cost)
        assert params["size"] == pytest.approx(cost, rel=0.15)
        assert params["lr"] == pytest.approx(1e-3 * (cost / 100) ** -0.5, rel=0.5)
    dearest = max(study.best_trials, key=lambda trial: trial.values[1])
    assert sampler.recommend(study)["size"] == pytest.approx(dearest.values[1], rel=0.15)
    assert sampler.recommend(study) == sampler.recommend(study)
    assert sampler.recommend(study, 1e9)["size"] == pytest.approx(1e3, rel=0.3)


def test_settings_are_run_again_where_all_were_tried_and_none_is_feasible() -> None:
    study = study_of(centres=None, constraints_func=lambda trial: (1.0 + trial.params["n"],))
    run(study, 12, lambda params: (1.0, 1.0 + params["n"]), {"n": IntDistribution(0, 4)})
    assert phases(study)[-3:] == ["resample"] * 3 and len(set(settings(study))) == 5
    assert "every setting" in study.trials[-1].system_attrs["scalelab:why"]


# what it draws is its own


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.samplers.test_carbs import run, settings, study_of
study = study_of(seed=7)
run(study, 12)
print(json.dumps(settings(study)))
"""


def test_a_seed_gives_the_same_study_in_another_process() -> None:
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run([sys.executable, "-c", SCRIPT, root], capture_output=True, text=True, check=True, timeout=120)
    study = study_of(seed=7)
    run(study, 12)
    assert json.loads(ran.stdout) == [list(row) for row in settings(study)]
    other = study_of(seed=8)
    run(other, 12)
    assert not set(settings(other)[1:5]) & set(settings(study))
    fresh = [study_of(seed=None), study_of(seed=None)]
    assert len({settings(one)[1] for one in fresh if run(one, 2)}) == 2


def test_a_study_taken_up_again_goes_on_as_it_would_have(tmp_path: Path) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log")))
    whole = study_of()
    run(whole, 16)
    optuna.create_study(study_name="s", storage=storage, directions=["minimize"] * 2)
    for _ in range(4):
        part = optuna.load_study(study_name="s", storage=storage, sampler=CarbsSampler(seed=0, centres=START))
        run(part, 4)
    assert settings(part) == settings(whole)


def test_hyperparameters_are_fitted_anew_only_as_the_study_grows() -> None:
    study = study_of(resample_every=0)
    run(study, 60)
    fitted = [trial.number for trial in study.trials if "scalelab:carbs:fit:0" in trial.system_attrs]
    assert fitted[0] == 4 and 10 < len(fitted) < 25
    assert all(later >= 1.1 * number for number, later in itertools.pairwise(fitted))


def test_no_global_generator_is_touched() -> None:
    np.random.seed(3)
    random.seed(3)
    before = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[union-attr]
    run(study_of(), 8)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # type: ignore[union-attr]


@pytest.mark.parametrize("told", [0, 10])
def test_what_is_asked_in_parallel_is_not_repeated(told: int) -> None:
    space = {**SPACE, "layers": IntDistribution(1, 3)}
    study = study_of(resample_every=0)
    run(study, told, space=space)
    asked = [study.ask(space) for _ in range(8)]
    assert len(set(settings(study))) == told + 8
    x = np.log([[trial.params["lr"], trial.params["size"]] for trial in asked])
    assert np.ptp(x, axis=0).min() > 0.3


def test_in_batches_it_gets_as_far_as_one_at_a_time() -> None:
    regrets = []
    for batch in (1, 8):
        study = study_of(resample_every=0)
        run(study, 8)
        for _ in range(24 // batch):
            asked = [study.ask(SPACE) for _ in range(batch)]
            for trial in asked:
                study.tell(trial, valley(trial.params))
        assert len(set(settings(study))) == 32
        regrets.append(min(trial.values[0] for trial in study.trials) - 1e3**-0.3)
    assert regrets[1] < 1.2 * regrets[0] + 0.005


def test_what_is_recommended_far_beyond_what_was_run_is_no_leap() -> None:
    study = study_of(resample_every=0, max_cost=12.0)
    run(study, 16)
    params = study.sampler.recommend(study, 1e3)  # type: ignore[attr-defined]
    tried = [trial.params["lr"] for trial in study.trials]
    assert min(tried) / 4 < params["lr"] < 4 * max(tried)


# what it must survive


@pytest.mark.parametrize(
    "objective",
    [
        lambda params: (1.0, 1.0),
        lambda params: (math.inf, 1.0),
        lambda params: (math.inf if params["lr"] > 5e-3 else 1.0, params["size"]),
        lambda params: (params["lr"] * 1e300, params["size"]),
        lambda params: (-params["lr"], 1e-30 * params["size"] ** 20),
        lambda params: (-math.inf, 1.0),
    ],
    ids=["constant", "all-diverged", "half-diverged", "huge", "negative", "minus-infinity"],
)
def test_degenerate_objectives(objective: Objective) -> None:
    study = study_of()
    run(study, 15, objective)
    assert len(set(settings(study))) == 15 - phases(study).count("resample") >= 12


def test_an_opening_that_keeps_diverging_stays_finite_where_there_are_no_bounds() -> None:
    space: dict[str, BaseDistribution] = {"lr": FloatDistribution(1e-300, math.inf, log=True)}
    study = study_of(scales={"lr": 1.0}, centres={"lr": 1.0})
    tried = [math.exp(x) for x in np.random.default_rng(0).normal(size=3000)]
    study.add_trials([create_trial(params={"lr": lr}, distributions=space, values=(math.inf, 1.0)) for lr in tried])
    run(study, 1, lambda params: (math.inf, 1.0), space)
    assert math.isfinite(study.trials[-1].params["lr"])


def test_runs_that_all_crash_teach_nothing_and_stop_nothing() -> None:
    study = study_of()
    for _ in range(10):
        study.tell(study.ask(SPACE), state=TrialState.FAIL)
    assert phases(study) == ["opening"] * 10 and len(set(settings(study))) == 10


@pytest.mark.parametrize(
    ("space", "different"),
    [
        ({"x": FloatDistribution(0.0, 1.0)}, 16),
        ({f"x{i}": FloatDistribution(0.0, 1.0) for i in range(20)}, 16),
        ({"a": CategoricalDistribution(["p", None, 3]), "b": CategoricalDistribution([True, False])}, 6),
        ({"a": CategoricalDistribution(["p"]), "b": IntDistribution(2, 2)}, 1),
        ({"n": IntDistribution(0, 4), "m": IntDistribution(1, 4, log=True)}, 16),
        ({"s": FloatDistribution(0.0, 1.0, step=0.25), "c": CategoricalDistribution("abc")}, 15),
    ],
    ids=["1-d", "20-d", "categorical", "constant", "integers", "steps"],
)
def test_spaces_of_all_kinds_are_searched_without_repeating(space: dict[str, BaseDistribution], different: int) -> None:
    study = study_of(centres=None, resample_every=0)

    def objective(params: dict[str, Any]) -> tuple[float, float]:
        numbers = [float(value) if isinstance(value, int | float) else len(str(value)) for value in params.values()]
        return sum(numbers), 1 + sum(numbers)

    run(study, 16, objective, space)
    points = settings(study)
    fresh = [point for point, phase in zip(points, phases(study), strict=True) if phase != "resample"]
    assert len(set(fresh)) == len(fresh) or different == 1  # Optuna asks no sampler for what has one value
    assert len(set(points)) == different


def test_conditional_parameters_are_drawn_on_their_own_between_their_bounds() -> None:
    study = study_of(centres=None)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        if trial.suggest_categorical("optimizer", ["adamw", "sgd"]) == "sgd":
            return lr + trial.suggest_float("momentum", 0.0, 1.0), 1.0
        return lr, 2.0

    study.optimize(objective, n_trials=40)
    momenta = [trial.params["momentum"] for trial in study.trials[4:] if "momentum" in trial.params]
    assert len(momenta) > 4 and np.ptp(momenta) > 0.4
    assert "search" in phases(study)


def test_without_a_shared_parameter_each_is_drawn_on_its_own() -> None:
    study = study_of(centres=None)
    for number in range(30):
        trial = study.ask({f"x{number % 2}": FloatDistribution(0.0, 1.0)})
        study.tell(trial, (1.0, 1.0))
    assert phases(study) == ["opening"] * 4 + ["search"] * 26
    assert np.ptp([next(iter(trial.params.values())) for trial in study.trials[4:]]) > 0.7


def test_ten_thousand_trials() -> None:
    study = study_of()
    rng = np.random.default_rng(0)
    trials = []
    for x in rng.normal(size=(10_000, 2)):
        params = {"lr": 1e-2 * math.exp(x[0] / 2), "size": 3 * math.exp(abs(x[1]) / 2)}
        loss = valley(params)[0] + 0.01 * rng.normal() if x[0] < 1.5 else math.inf
        trials.append(create_trial(params=params, distributions=SPACE, values=(loss, params["size"])))
    study.add_trials(trials)
    assert len(run(study, 2)) == 10_002


# what it refuses


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"opening": 0}, "opening is 0: accepted is a whole number from 1"),
        ({"resample_every": 1.5}, "resample_every is 1.5"),
        ({"max_cost": 0}, "max_cost is 0: accepted is a positive number"),
        ({"budget": math.nan}, "budget is nan"),
        ({"objective": "jiont"}, "did you mean 'joint'"),
        ({"objective": "joint"}, "trade=0.05"),
        ({"trade": 1.0}, "a front takes none"),
        ({"objective": "joint", "trade": -1.0}, "trade is -1.0"),
    ],
)
def test_arguments_that_cannot_be_met(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused) as refused:
        CarbsSampler(**given)
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"], ["minimize"] * 3])
def test_studies_of_other_directions(directions: list[str]) -> None:
    study = optuna.create_study(directions=directions, sampler=CarbsSampler())
    with pytest.raises(Refused, match="try create_study\\(directions=\\['minimize', 'minimize'\\]\\)"):
        study.ask(SPACE)


def test_what_does_not_fit_a_space_is_refused_before_a_run_is_paid_for() -> None:
    CarbsSampler(centres=START).check(SPACE)
    with pytest.raises(Refused, match="unknown parameter in scales 'rl'"):
        CarbsSampler(scales={"rl": 1.0}).check(SPACE)


def test_names_that_no_trial_has_and_bad_centres_are_refused_at_the_suggestion() -> None:
    study = study_of(centres={"rl": 1e-2})
    with pytest.raises(Refused, match="unknown parameter in centres 'rl': accepted are lr, size"):
        run(study, 6)
    with pytest.raises(Refused, match="centre of 'lr' is 7"):
        run(study_of(centres={"lr": 7.0}), 1)


def test_recommending_from_nothing_or_for_no_cost() -> None:
    study = study_of()
    sampler = study.sampler
    assert isinstance(sampler, CarbsSampler)
    with pytest.raises(Refused, match="no trial to recommend from"):
        sampler.recommend(study)
    run(study, 1)
    assert sampler.recommend(study).keys() == SPACE.keys()
    with pytest.raises(Refused, match="cost is -1"):
        sampler.recommend(study, -1.0)


def test_costs_that_are_all_too_high() -> None:
    study = study_of(max_cost=1e-3)
    with pytest.raises(Refused, match=r"one more run may cost 0\.001 at most and the cheapest"):
        run(study, 6)
