"""The benchmark of the search: its problems are what they are said to be, a search is repeatable, tables add up."""

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from scipy.optimize import minimize

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))  # a script's folder, as when it is run

from search import recovery, robustness, speed
from search.judged import GOOD, ROWS, judged
from search.problem import Problem, ends
from search.problems import PROBLEMS
from search.report import report, twice
from search.runs import Job, Record, finish, read
from search.samplers import SAMPLERS

MADE = ("synth5", "bent", "trap", "family")  # the problems that need no data
REFERENCE = ROOT.parent / "shared" / "bench"


def drawn(problem: Problem, rng: np.random.Generator) -> dict[str, object]:
    return {
        name: each.choices[int(rng.integers(len(each.choices)))]
        if isinstance(each, CategoricalDistribution)
        else float(np.exp(rng.uniform(*np.log(ends(each)))))
        for name, each in problem.space.items()
    }


def record(**changes: object) -> Record:
    usual = {
        "params": {}, "loss": 3.0, "spent": 1.0, "regret": 5.0, "raised": 2.0, "recommended": None, "seconds": 0.1,
        "recommending_seconds": 0.0,
    }  # fmt: skip
    return Record(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not (REFERENCE / "search_problems.py").exists():
        pytest.skip(f"no reference of the problems in {REFERENCE}")
    monkeypatch.syspath_prepend(REFERENCE)
    return importlib.import_module("search_problems")


@pytest.mark.parametrize(("name", "their_class"), [("synth5", "Synth5"), ("steplaw4", "StepLaw4")])
def test_a_published_problem_is_the_reference(
    name: str, their_class: str, reference: ModuleType, published: Path
) -> None:
    ours, theirs = PROBLEMS[name](0), getattr(reference, their_class)()
    ranges = [ends(each) for each in ours.space.values()]
    assert np.allclose(ranges, np.column_stack([theirs.lo, theirs.hi]), rtol=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(1_000):
        params = drawn(ours, rng)
        values = list(params.values())
        if math.isinf(loss := ours.truth(params)):
            assert theirs.diverged(values)
        else:
            assert loss == pytest.approx(theirs.true(values), abs=1e-7)
        assert ours.cost_flops(params) == pytest.approx(theirs.cost(values))
    # As the reference has it, whose grid over steplaw4's settings is coarser than ours.
    assert ours.best_nats == pytest.approx({"synth5": 2.94997, "steplaw4": 2.10036}[name], rel=5e-4)


@pytest.mark.parametrize("seed", range(100, 104))
@pytest.mark.parametrize("name", MADE)
def test_the_best_of_a_problem_is_reached_and_never_passed(name: str, seed: int) -> None:
    problem, rng = PROBLEMS[name](seed), np.random.default_rng(seed)
    assert min(problem.regret({**drawn(problem, rng), **problem.target}) for _ in range(300)) > -1e-9
    free = [name for name in problem.space if name not in problem.target and name != "schedule"]
    best = {"schedule": "linear"} if "schedule" in problem.space else {}  # of `trap` at full scale
    start = problem.raised(problem.start)

    def regret(logs: np.ndarray) -> float:
        return problem.regret({**start, **best, **dict(zip(free, np.exp(logs), strict=True))})

    found = minimize(regret, np.log([start[name] for name in free]), method="Nelder-Mead", options={"maxfev": 2_000})
    assert found.fun < 0.02
    low, high = np.log([ends(problem.space[name]) for name in free]).T
    assert (low <= found.x).all() and (found.x <= high).all()


def test_a_search_at_the_target_begins_with_the_start_raised() -> None:
    problem = PROBLEMS["synth5"](100)
    _, params = SAMPLERS["tpe-cmax"](problem, 100, 1).ask()
    assert params == problem.raised(problem.start)


def test_the_schedule_that_is_best_changes_with_scale() -> None:
    problem = PROBLEMS["trap"](0)
    for compute, best in ((1e17, "constant"), (1.2e19, "linear")):
        at = {**problem.start, "C": compute}
        assert min(("constant", "cosine", "linear"), key=lambda name: problem.truth({**at, "schedule": name})) == best


@pytest.mark.parametrize("name", MADE)
def test_scale_is_raised_and_shrunk_by_its_cost(name: str) -> None:
    problem = PROBLEMS[name](101)
    assert problem.cost_flops(problem.raised(problem.start)) == pytest.approx(problem.full_flops)
    shrunk = problem.cost_flops({**problem.start, **problem.at_share(0.01)})
    assert shrunk == pytest.approx(0.01 * problem.full_flops)
    assert problem.cost_flops(problem.start) < 0.01 * problem.full_flops


def test_a_search_is_cached_and_taken_up_again(tmp_path: Path) -> None:
    job = Job(problem="synth5", sampler="tpe", seed=100, trials=14)
    finish(job, tmp_path)
    path = job.path(tmp_path)
    first = read(path)
    assert len(first) == 14
    assert first[0].params == PROBLEMS["synth5"](100).start
    text = path.read_text()
    finish(Job(problem="synth5", sampler="tpe", seed=100, trials=10), tmp_path)
    assert path.read_text() == text
    path.write_text(text[: len(text) // 2])  # killed in the middle of a line
    assert 0 < len(read(path)) < 14
    finish(job, tmp_path)
    assert [(each.params, each.loss) for each in read(path)] == [(each.params, each.loss) for each in first]


@pytest.mark.parametrize(("sampler", "recommends"), [("law", True), ("carbs", True), ("random", False)])
def test_ours_recommend_and_others_leave_it_to_the_rule(sampler: str, recommends: bool, tmp_path: Path) -> None:
    job = Job(problem="bent", sampler=sampler, seed=100, trials=6)
    finish(job, tmp_path)
    assert (read(job.path(tmp_path))[-1].recommended is not None) == recommends


def test_a_search_is_judged_by_each_rule() -> None:
    records = [
        record(loss=3.0, regret=30.0, raised=0.2, recommended=0.2, spent=0.1),
        record(loss=None, regret=200.0, raised=200.0, recommended=0.6, spent=0.4),
        record(loss=2.9, regret=0.1, raised=0.5, recommended=0.3, spent=1.0),
        record(loss=3.1, regret=0.0, raised=0.0, recommended=0.1, spent=1.0),
    ]
    as_it_ran, raised, advised = (judged(records, rule) for rule in ("as it ran", "raised", "recommended"))
    assert as_it_ran.regret_T.tolist() == [30.0, 30.0, 0.1, 0.1]
    assert raised.regret_T.tolist() == [0.2, 0.2, 0.5, 0.5]
    assert advised.regret_T.tolist() == [0.2, 0.6, 0.3, 0.1]
    assert as_it_ran.after(3) == (0.1, 1.5) and math.isnan(as_it_ran.after(10)[0])
    assert as_it_ran.within(1) == 30.0 and as_it_ran.within(14) == 0.1 and math.isnan(as_it_ran.within(0.05))
    assert advised.spent_until_good(stays=False) == pytest.approx(0.1)
    assert advised.spent_until_good(stays=True) == pytest.approx(1.5)
    assert raised.spent_until_good(stays=True) == math.inf and raised.regret_T[0] < GOOD


def test_a_run_asked_for_twice_in_a_batch_is_counted() -> None:
    space = PROBLEMS["trap"](0).space
    one = dict(PROBLEMS["trap"](0).start)
    other = {**one, "schedule": "linear"}
    batches = [[one, other, one], [one, {**one, "lr": one["lr"] * 1.0001}]]
    found = [record(params=params) for batch in batches for params in batch]
    assert twice(found, space, 3) == pytest.approx(2 / 5)


def test_the_report_has_a_line_for_every_rule_and_names_what_is_missing(tmp_path: Path) -> None:
    for batch in (1, 8):
        finish(Job(problem="bent", sampler="random", seed=100, trials=10, batch=batch), tmp_path)
    text = report(tmp_path, ["bent", "trap"], list(SAMPLERS), [100, 101], 8)
    assert "## bent" in text and "## trap" not in text
    assert text.count("| random, raised |") == 3
    assert {row.sampler for row in ROWS} == set(SAMPLERS)
    assert report(tmp_path, ["trap"], list(SAMPLERS), [100], 1).startswith("nothing to report")


def test_an_interval_that_holds_the_truth_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "law", SAMPLERS["random"])
    given = {"lr by params": (-1.0, 0.0), "batch by tokens": (0.6, 0.7)}
    shares = recovery.held(PROBLEMS["synth5"](100), lambda search: given, [100, 101], trials=3)
    assert shares == {"lr by params": (1.0, 2), "batch by tokens": (0.0, 2)}


@pytest.mark.filterwarnings("ignore:The value nan is not acceptable")
@pytest.mark.parametrize("case", [name for name, case in robustness.CASES.items() if not case.known])
def test_a_sampler_that_looks_at_nothing_passes_every_case(case: str) -> None:
    assert robustness.outcome("random", robustness.CASES[case]).startswith("pass")


def test_suggestions_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "KNOWN", (5, 10))
    assert "| random |" in speed.speed(["random"])
