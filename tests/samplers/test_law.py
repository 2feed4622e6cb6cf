"""LawSampler in studies: how it searches, what it must survive, and what it refuses."""

import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from scalelab.errors import Refused
from scalelab.samplers.law.choice import JUMP, SHARE
from scalelab.samplers.law.opening import OPENING
from scalelab.samplers.law.sampler import LawSampler
from tests.samplers.law_worlds import LAWFUL, SPACE, TARGET, cost, law_sampler, run, study_of, study_told, told

RUNS = 22  # of a study
FULL = TARGET["D"]  # FLOPs of the target, at one a token
WIDTHS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "width": CategoricalDistribution([32, 64, 128]),
    "tokens": IntDistribution(1, 64, log=True),
}


def phases(study: optuna.Study) -> list[str]:
    return [str(trial.system_attrs.get("scalelab:phase", "-")) for trial in study.trials]


def settings(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(trial.params.values()) for trial in study.trials]


def spent(study: optuna.Study) -> float:
    return float(sum(trial.params["D"] for trial in study.trials) / FULL)


@pytest.fixture(scope="module")
def searched() -> optuna.Study:
    study = study_of(seed=100)
    run(study, RUNS)
    return study


# how it searches


def test_the_start_comes_first_then_an_opening_about_it_then_the_law_with_guards(searched: optuna.Study) -> None:
    first, *rest = searched.trials
    assert first.params == {"lr": 1e-3, "D": 1e8}
    found = phases(searched)
    assert found[: 1 + OPENING] == ["-", *["opening"] * OPENING] and set(found[1 + OPENING :]) == {"law", "guard"}
    assert Counter(found)["law"] > Counter(found)["guard"] > 2
    assert all(trial.system_attrs["scalelab:why"] for trial in rest)
    assert all(trial.params["D"] <= 2e8 for trial in searched.trials[: 1 + OPENING])


@pytest.mark.parametrize("seed", [100, 101, 102])
def test_it_recommends_for_a_scale_that_it_never_ran(seed: int, searched: optuna.Study) -> None:
    study = searched if seed == 100 else study_of(seed=seed)
    run(study, RUNS - len(study.trials))
    found = law_sampler(study).recommend(study)
    assert found.params["D"] == FULL and LAWFUL.regret(found.params) < 0.005
    assert spent(study) < 0.6 and max(trial.params["D"] for trial in study.trials) <= FULL / 4
    assert found.low < LAWFUL.loss(found.params) < found.high


def test_no_run_costs_more_than_is_allowed(searched: optuna.Study) -> None:
    costs = [trial.params["D"] for trial in searched.trials]
    for number in range(1 + OPENING, len(costs)):
        before = costs[:number]
        assert costs[number] <= 1.0001 * min(max(SHARE * FULL, sum(before) / 4), JUMP * max(before))


def test_a_cap_and_a_budget_are_kept() -> None:
    study = study_of(cap_flops=1e9, budget_flops=4e9)
    with pytest.raises(Refused, match=r"budget_flops=4e\+09 is spent: .* recommend\(study\) says what was found"):
        run(study, 60)
    costs = [trial.params["D"] for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert 5e8 < max(costs) <= 1.0001e9 and 3.9e9 < sum(costs) <= 4.0001e9
    assert law_sampler(study).recommend(study).params["D"] == FULL


def test_the_cap_is_kept_in_the_opening_too() -> None:
    study = study_of(cap_flops=1e8)
    assert {trial.params["D"] for trial in run(study, 6)} == {1e8}


def test_trials_of_another_sampler_are_its_own_too() -> None:
    study = study_told(told(20))
    run(study, 3)
    assert "opening" not in phases(study)[20:]


def test_the_best_scale_of_a_compute_is_recommended_too() -> None:
    space: dict[str, BaseDistribution] = {"N": FloatDistribution(1e6, 1e9, log=True),
                                          "C": FloatDistribution(1e15, 1e20, log=True), **WIDTHS}  # fmt: skip
    del space["width"], space["tokens"]

    def loss(params: Mapping[str, Any]) -> float:
        d = params["C"] / 6 / params["N"]
        floor = 1.7 + (params["N"] / 1e7) ** -0.34 + (d / 2e8) ** -0.28
        return float(floor + 0.02 * math.log(params["lr"] / 1e-3) ** 2)

    study = optuna.create_study(sampler=LawSampler(
        scales=["C", "N"], target={"C": 1e20}, cost=lambda params: params["C"], seed=0,
        sizes={"params": {"N": 1}, "tokens": {"C": 1, "N": -1}},
    ))  # fmt: skip
    for _ in range(18):
        trial = study.ask(space)
        study.tell(trial, loss(trial.params))
    found = law_sampler(study).recommend(study).params
    best = min(loss({"C": 1e20, "N": n, "lr": 1e-3}) for n in np.geomspace(1e6, 1e9, 200))
    assert found["C"] == 1e20 and loss(found) < 1.03 * best


def test_what_a_parametrization_claims_is_believed_as_far_as_runs_allow() -> None:
    exponents = {}
    for name in ("mup", "sp"):
        study = study_of(scales=["width"], target={"width": 1024}, cost=lambda p: p["width"] ** 2, parametrization=name)
        for _ in range(8):
            trial = study.ask({name: WIDTHS[name] for name in ("lr", "width")})
            study.tell(trial, trial.params["width"] ** -0.3 + 0.03 * math.log(trial.params["lr"] / 1e-3) ** 2)
        found = law_sampler(study).recommend(study)
        assert found.params["width"] == 1024
        exponents[name] = found.exponents["lr ~ width"]
    assert exponents["mup"].low < 0 < exponents["mup"].high
    assert exponents["mup"].high - exponents["mup"].low < exponents["sp"].high - exponents["sp"].low


# the same in any process, and with any number of workers


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.samplers.law_worlds import run, study_of
from tests.samplers.test_law import settings
study = study_of(seed=7)
run(study, 8)
found = study.sampler.recommend(study)
print(json.dumps([settings(study), found.params, found.expected_regret]))
"""


def test_a_seed_gives_the_same_study_in_another_process() -> None:
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run([sys.executable, "-c", SCRIPT, root], capture_output=True, text=True, check=True, timeout=120)
    study = study_of(seed=7)
    run(study, 8)
    found = law_sampler(study).recommend(study)
    theirs, params, regret = json.loads(ran.stdout)
    assert theirs == [list(row) for row in settings(study)]
    assert (params, regret) == (found.params, found.expected_regret)
    other = study_of(seed=8)
    run(other, 8)
    assert not set(settings(other)[1:]) & set(settings(study))
    fresh = [study_of(seed=None), study_of(seed=None)]
    assert len({settings(one)[1] for one in fresh if run(one, 2)}) == 2


def test_a_study_taken_up_again_goes_on_as_it_would_have(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    whole = study_of()
    run(whole, 9)
    optuna.create_study(study_name="s", storage=storage)
    for _ in range(3):
        part = optuna.load_study(study_name="s", storage=storage, sampler=study_of().sampler)
        run(part, 3)
    assert settings(part) == settings(whole) and phases(part) == phases(whole)


def test_a_suggestion_remembers_nothing_of_the_one_before(searched: optuna.Study) -> None:
    study = study_told(searched.trials, seed=100)
    assert study.ask(SPACE).params == study_told(searched.trials, seed=100).ask(SPACE).params
    law_sampler(study).recommend(study)
    law_sampler(study).reseed_rng()
    first = law_sampler(searched).recommend(searched)
    assert law_sampler(searched).recommend(searched) == first


def test_no_global_generator_is_touched() -> None:
    np.random.seed(3)
    random.seed(3)
    before = str(np.random.get_state()), random.getstate()
    run(study_of(), 6)
    assert (str(np.random.get_state()), random.getstate()) == before


@pytest.mark.parametrize("before", [0, 10])
def test_what_is_asked_in_parallel_is_not_repeated(before: int) -> None:
    study = study_of()
    run(study, before)
    asked = [study.ask(SPACE) for _ in range(8)]
    assert len(set(settings(study))) == before + 8
    assert np.ptp(np.log([trial.params["lr"] for trial in asked])) > 0.3


def test_runs_that_have_not_ended_are_counted_on() -> None:
    """A trial's number decides its randomness: what differs is that the other knows of a run at the best place."""
    found = []
    for state in (TrialState.FAIL, None):
        study = study_told(told(20))
        asked = study.ask(SPACE)
        if state is not None:
            study.tell(asked, state=state)
        found.append((asked.params, study.ask(SPACE).params))
    (first, again), (same, another) = found
    assert first == same and again != another


@pytest.mark.parametrize("before", [0, 6])
def test_a_trial_that_is_or_ends_between_two_parameters_stops_no_other(before: int) -> None:
    study = study_of()
    run(study, before)
    begun, crashed = study.ask(), study.ask()
    for trial in (begun, crashed):
        trial.suggest_float("lr", 1e-5, 1.0, log=True)
    study.tell(crashed, state=TrialState.FAIL)
    assert study.ask(SPACE).params.keys() == SPACE.keys()
    begun.suggest_float("D", 1e8, 1e11, log=True)
    study.tell(begun, 2.0)
    run(study, 4)
    assert phases(study)[-1] in ("law", "guard")
    assert law_sampler(study).recommend(study).params.keys() == SPACE.keys()


def test_workers_in_threads() -> None:
    study = study_of()

    def objective(trial: optuna.Trial) -> float:
        params = {
            "lr": trial.suggest_float("lr", 1e-5, 1.0, log=True),
            "D": trial.suggest_float("D", 1e8, 1e11, log=True),
        }
        return LAWFUL.loss(params)

    study.optimize(objective, n_trials=10, n_jobs=2)
    assert len(set(settings(study))) == 10


# what it must survive


def test_where_runs_diverge_is_left_however_they_are_told() -> None:
    study = study_of(start={"lr": 0.1})
    for number in range(14):
        trial = study.ask(SPACE)
        if trial.params["lr"] < 0.02:
            study.tell(trial, LAWFUL.loss(trial.params))
        elif number % 3 == 0:
            study.tell(trial, math.inf)
        elif number % 3 == 1:
            trial.set_user_attr("outcome", "DIVERGED")
            study.tell(trial, state=TrialState.FAIL)
        else:
            trial.report(math.nan, 1)
            study.tell(trial, state=TrialState.FAIL)
    diverged = [trial.params["lr"] >= 0.02 for trial in study.trials]
    assert diverged[0] and sum(diverged[-8:]) <= 1
    assert law_sampler(study).recommend(study).params["lr"] < 0.02


def test_an_opening_in_which_all_diverge_goes_down() -> None:
    study = study_of(start={"lr": 0.3})
    trials = [study.ask(SPACE)]
    for _ in range(6):
        study.tell(trials[-1], math.inf)
        trials.append(study.ask(SPACE))
    assert set(phases(study)[1:]) == {"opening"}
    assert math.log(trials[0].params["lr"] / trials[-1].params["lr"]) > 5


def test_a_study_that_only_fails_goes_on_and_recommends_nothing() -> None:
    study = study_of()
    for _ in range(8):
        study.tell(study.ask(SPACE), state=TrialState.FAIL)
    assert len(set(settings(study))) == 8
    with pytest.raises(Refused, match="has no trial that ended well: run more, from a lower lr"):
        law_sampler(study).recommend(study)


@pytest.mark.filterwarnings("ignore:The value nan is not acceptable")
@pytest.mark.parametrize(
    "objective",
    [
        lambda params: 1.0,
        lambda params: 0.0,
        lambda params: math.nan,
        lambda params: -math.inf,
        lambda params: params["lr"] * 1e300,
        lambda params: params["lr"] * 1e-300,
        lambda params: -LAWFUL.loss(params),
        lambda params: LAWFUL.loss(params) if params["lr"] > 1e-3 else math.nan,
        lambda params: 1.0 if params["lr"] > 1e-3 else 2.0,
    ],
    ids=["constant", "zero", "nan", "minus-infinity", "huge", "tiny", "negative", "half-nan", "step"],
)
def test_degenerate_objectives(objective: Callable[[Mapping[str, Any]], float]) -> None:
    study = study_of()
    for _ in range(8):
        trial = study.ask(SPACE)
        study.tell(trial, objective(trial.params))
    assert len(set(settings(study))) == 8
    if any(trial.state is TrialState.COMPLETE and math.isfinite(trial.values[0]) for trial in study.trials):
        found = law_sampler(study).recommend(study)
        assert math.isfinite(found.loss) and found.low <= found.loss <= found.high and found.expected_regret >= 0


@pytest.mark.parametrize(
    "space",
    [
        {"x": FloatDistribution(0.0, 1.0)},
        {"a": CategoricalDistribution(["p", None, 3]), "b": CategoricalDistribution([True, False])},
        {"n": IntDistribution(0, 40), "m": IntDistribution(1, 64, log=True), "one": IntDistribution(2, 2)},
        {"s": FloatDistribution(0.0, 1.0, step=0.25), "c": CategoricalDistribution("abc")},
        {"a ~ b": FloatDistribution(0.0, 1.0), "": FloatDistribution(0.0, 1.0), "λ": FloatDistribution(0.0, 1.0)},
    ],
    ids=["1-d", "categorical", "integers", "steps", "strange-names"],
)
def test_spaces_of_all_kinds(space: dict[str, BaseDistribution]) -> None:
    study = study_of(start={})
    space = {**space, "D": SPACE["D"]}
    random_then_law(study, space, own=3)
    found = law_sampler(study).recommend(study)
    assert found.params.keys() == {name for name, its in space.items() if not its.single()}
    assert {"law", "guard"} & set(phases(study))
    assert found.params["D"] == FULL


def test_twenty_hyperparameters() -> None:
    space: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(20)}
    study = study_of(start={})
    random_then_law(study, {**space, "D": SPACE["D"]}, own=1)
    assert phases(study)[-1] in ("law", "guard")


def random_then_law(study: optuna.Study, space: dict[str, BaseDistribution], *, own: int) -> None:
    """As many runs as an opening has, and some more, on a bowl."""

    def loss(params: Mapping[str, Any]) -> float:
        numbers = [float(value) if isinstance(value, int | float) else len(str(value)) for value in params.values()]
        return sum(0.1 * min(number, 10.0) ** 2 for number in numbers)

    for sampler, count in ((optuna.samplers.RandomSampler(seed=0), len(space) + OPENING), (study.sampler, own)):
        study.sampler = sampler
        for _ in range(count):
            trial = study.ask(space)
            study.tell(trial, loss(trial.params))


def test_the_better_of_two_choices_is_found() -> None:
    space = {**SPACE, "optimizer": CategoricalDistribution(["adamw", "muon", "sgd"])}
    study = study_of(start={"lr": 1e-3, "optimizer": "sgd"})
    for _ in range(16):
        trial = study.ask(space)
        study.tell(trial, LAWFUL.loss(trial.params) * (0.95 if trial.params["optimizer"] == "muon" else 1.0))
    assert study.trials[0].params["optimizer"] == "sgd"
    assert law_sampler(study).recommend(study).params["optimizer"] == "muon"


def test_scales_may_be_whole_numbers_and_choices() -> None:
    study = study_of(
        scales=["width", "tokens"], target={"width": 256, "tokens": 512}, cost=lambda p: p["width"] ** 2 * p["tokens"]
    )
    for _ in range(11):
        trial = study.ask(WIDTHS)
        off = math.log(trial.params["lr"] / 1e-3) + 0.4 * math.log(trial.params["width"] / 64)
        study.tell(trial, trial.params["width"] ** -0.3 + trial.params["tokens"] ** -0.3 + 0.02 * off**2)
    assert {type(value) for trial in study.trials for name, value in trial.params.items() if name != "lr"} == {int}
    assert len({(trial.params["width"], trial.params["tokens"]) for trial in study.trials}) > 4
    found = law_sampler(study).recommend(study)
    assert (found.params["width"], found.params["tokens"]) == (256, 512) and "lr ~ tokens" in found.exponents


def test_conditional_parameters_are_drawn_on_their_own() -> None:
    study = study_of(scales=(), target={}, cost=lambda params: 1.0)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        if trial.suggest_categorical("optimizer", ["adamw", "sgd"]) == "sgd":
            return lr + trial.suggest_float("momentum", 0.0, 1.0)
        return lr

    study.optimize(objective, n_trials=14)
    momenta = [trial.params["momentum"] for trial in study.trials if "momentum" in trial.params]
    assert len(momenta) > 2 and np.ptp(momenta) > 0.1


def test_enqueued_trials_are_run_and_counted() -> None:
    study = study_of()
    study.enqueue_trial({"lr": 2e-3, "D": 5e8})
    study.enqueue_trial({"lr": 1e-3})
    trials = run(study, 8)
    assert trials[0].params == {"lr": 2e-3, "D": 5e8} and trials[1].params["lr"] == 1e-3
    assert "law" in phases(study)


def test_two_objectives_are_a_loss_and_a_cost() -> None:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=study_of().sampler)
    for _ in range(6):
        trial = study.ask(SPACE)
        study.tell(trial, (LAWFUL.loss(trial.params), trial.params["D"]))
    assert law_sampler(study).recommend(study).params["D"] == FULL
    one = study_of()
    for _ in range(6):
        trial = one.ask(SPACE)
        one.tell(trial, LAWFUL.loss(trial.params))
    assert settings(one) == settings(study)


def test_ten_thousand_trials() -> None:
    many: list[FrozenTrial] = told(7_000, seed=1)
    for lr in np.exp(np.random.default_rng(2).uniform(-3, 0, 3_000)):
        params = {"lr": float(lr), "D": 1e9}
        many.append(create_trial(params=params, distributions=SPACE, value=math.inf))
    study = study_told(many)
    begun = time.perf_counter()
    study.ask(SPACE)
    assert time.perf_counter() - begun < 20
    assert phases(study)[-1] in ("law", "guard")


# what it refuses


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"scales": "D"}, "scales='D': accepted is a list of parameters, each once"),
        ({"scales": ["D", "D"]}, "each once"),
        ({"cap_flops": 0}, "cap_flops=0: accepted is a positive number"),
        ({"budget_flops": math.nan}, "budget_flops=nan: accepted is a positive number"),
        ({"overhead_flops": -1.0}, "overhead_flops=-1.0: accepted is a number from 0"),
        ({"parametrization": "mupp"}, "did you mean 'mup'"),
        ({"priors": {"lr ~ D": 0.3}}, "prior lr ~ D=0.3: accepted is a pair, mean and standard deviation"),
        ({"priors": {"lr ~ D": (0.3,)}}, "accepted is a pair"),
        ({"priors": {"lr ~ D": "no"}}, "accepted is a pair"),
        ({"seed": -1}, "seed=-1: accepted is a whole number from 0"),
        ({"seed": 1.5}, "seed=1.5"),
    ],
)
def test_arguments_that_are_none(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused) as refused:
        study_of(**given)
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"scales": ["N"], "target": {"N": 1.0}}, "unknown scale 'N': accepted are D, lr"),
        ({"scales": ["D", "lr"], "sizes": {"D": {"D": 1}}}, "sizes D do not tell the scales D, lr apart"),
        ({"target": {"N": 1e9}}, "unknown scale in the target 'N': accepted are D"),
        ({"target": {}}, "the target names no scale: give one or more of D"),
        ({"target": {"D": -1.0}}, "target D=-1.0: accepted is a positive number"),
        ({"cost": lambda params: -1.0}, "is -1.0: accepted is a positive number of FLOPs"),
        ({"cost": lambda params: params["N"]}, "the cost reads 'N' and is asked for scales alone, D="),
        ({"cap_flops": 9e7}, "cap_flops=9e+07: the cheapest run of the space costs 1e+08, give that or more"),
        ({"cost": None}, "what a run costs is not known: give cost=lambda params: FLOPs"),
        ({"start": {"lr": 7.0}}, "start lr=7.0 is outside its bounds: accepted is FloatDistribution("),
        ({"start": {"lr": 0.0}}, "start lr=0.0 is outside its bounds"),
        ({"start": {"lr": "fast"}}, "start lr='fast' is outside its bounds"),
        ({"start": {"D": 1e12}}, "start D=1000000000000.0 is outside its bounds"),
        ({"priors": {"lr ~ N": (0.0, 1.0)}}, "unknown prior 'lr ~ N': accepted are "),
        ({"priors": {"lr ~ D": (0.0, 0.0)}}, "prior lr ~ D: accepted are a mean and a positive standard deviation"),
    ],
)
def test_what_does_not_suit_the_space_is_refused_at_a_suggestion(given: dict[str, Any], says: str) -> None:
    study = study_of(**given)
    with pytest.raises(Refused) as refused:
        run(study, 6)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_start_that_cannot_be_is_refused_before_a_run_is_paid_for() -> None:
    study = study_of(start={"optimizer": "adamx"})
    with pytest.raises(Refused, match="start optimizer='adamx' is outside its bounds"):
        study.ask({"optimizer": CategoricalDistribution(["adamw", "muon"])})


def test_a_study_that_is_maximised() -> None:
    study = optuna.create_study(direction="maximize", sampler=study_of().sampler)
    with pytest.raises(Refused, match="is maximised: accepted is a loss, which is minimised"):
        study.ask(SPACE)


def test_the_cost_may_be_given_later() -> None:
    study = study_of(cost=None)
    study.tell(study.ask(SPACE), 1.0)
    law_sampler(study).bind(cost=cost)
    assert study.ask(SPACE).params.keys() == SPACE.keys()


def test_recommending_from_nothing() -> None:
    study = study_of()
    with pytest.raises(Refused, match="has no trials with parameters in common: run some first"):
        law_sampler(study).recommend(study)
    study.tell(study.ask(SPACE), math.inf)
    with pytest.raises(Refused, match="no trial that ended well"):
        law_sampler(study).recommend(study)
