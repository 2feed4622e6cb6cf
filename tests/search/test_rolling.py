"""One trial after another, trained elsewhere: by an engine that is slow, loses orders, is deaf, or takes nothing."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from scalelab.errors import Refused
from scalelab.plan import PlannedRun, swept
from scalelab.search.loop import search
from scalelab.search.orders import RETRIES
from scalelab.search.owners import ask_to_stop, living, work_of
from scalelab.search.problem import Problem, problem_of
from scalelab.search.works import Label, Ordered
from scalelab.trials import Outcome, Trial
from tests.helpers import TINY
from tests.search.searching import LR, Searching, bowl, trials


def ran(run: PlannedRun, loss: float | None) -> None:
    """A run that came to its end; a crash where there is no loss."""
    outcome, reason = (Outcome.OK, None) if loss is not None else (Outcome.FAILED, "the disk is full")
    run.folder.write(
        Trial(
            spec=run.spec, outcome=outcome, loss_nats=loss, reason=reason, seconds=1.0,
            cost_flops=run.spec.cost_flops, tokens_seen=run.spec.horizon.tokens,
        )
    )  # fmt: skip


@dataclass
class Engine:
    """An engine whose orders take as many looks as `looks` says by their number, in order; `lost` are the numbers of
    those that are gone by then without a trial. `at_look` and `at_submit` are called with its count, for mischief."""

    looks: Callable[[int], int] = lambda number: 2
    lost: Callable[[int], bool] = lambda number: False
    loss: Callable[[PlannedRun], float | None] = lambda run: bowl(run.spec)
    at_look: Callable[[int], None] = lambda count: None
    at_submit: Callable[[int], None] = lambda count: None
    deaf: Collection[int] = ()  # looks at which it cannot be asked
    orders: list[tuple[Label, list[PlannedRun]]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    count: int = 0
    events: list[str] = field(default_factory=list)

    def submit(self, orders: Mapping[Label, Sequence[Ordered]]) -> Mapping[Label, str]:
        found = {}
        for label, runs in orders.items():
            number = len(self.orders)
            self.orders.append((label, [order.run for order in runs]))
            self.left[str(number)] = self.looks(number)
            self.events.append(f"submit {number}")
            found[label] = str(number)
            self.at_submit(number)
        return found

    def recall(self, label: Label) -> str | None:
        return next((str(number) for number, (theirs, _) in enumerate(self.orders) if theirs == label), "")

    def alive(self, tickets: Collection[str]) -> set[str]:
        self.count += 1
        self.at_look(self.count)
        for ticket in [ticket for ticket, left in self.left.items() if left == 1]:
            for run in [] if self.lost(int(ticket)) else self.orders[int(ticket)][1]:
                ran(run, self.loss(run))
            self.events.append(f"end {ticket}")
        self.left = {ticket: left - 1 for ticket, left in self.left.items() if left > 1}
        return set(tickets) if self.count in self.deaf else set(tickets) & set(self.left)

    def why(self, ticket: str) -> str:
        return f"order {ticket} ran out of memory"

    def cancel(self, tickets: Collection[str]) -> None:
        self.cancelled |= set(tickets)


def problem(*overrides: str, n_trials: int = 4) -> Problem:
    return problem_of(
        swept(["hydra/sweeper=optuna", *TINY, "study=s", "hydra/sweeper/sampler=random", LR,
               f"hydra.sweeper.n_trials={n_trials}", *overrides])
    )  # fmt: skip


def searched(engine: Engine, *overrides: str, n_trials: int = 4, most: int = 2) -> list[str]:
    said: list[str] = []
    search(problem(*overrides, n_trials=n_trials), engine, said.append, most=most, poll_seconds=0.001)
    return said


def states() -> list[TrialState]:
    return [trial.state for trial in trials()]


def test_the_next_trial_is_asked_as_soon_as_one_has_ended() -> None:
    engine = Engine(looks=lambda number: 30 if number == 0 else 2)
    said = searched(engine, n_trials=4, most=2)
    assert engine.events == [
        "submit 0", "submit 1", "end 1", "submit 2", "end 2", "submit 3", "end 3", "end 0",
    ]  # fmt: skip
    assert states() == [TrialState.COMPLETE] * 4 and len(said) == 4 and said[-1].startswith("4/4 · ")
    assert not living(Path("runs/s"))


def test_what_is_lost_is_handed_over_again_and_given_up_in_the_end() -> None:
    engine = Engine(lost=lambda number: number in (0, 2))  # the first order and its second try
    searched(engine, n_trials=1, most=1)
    assert states() == [TrialState.COMPLETE] and len(engine.orders) == 2
    gone = Engine(lost=lambda number: True)
    said = searched(gone, n_trials=2, most=1)
    assert states() == [TrialState.COMPLETE, TrialState.FAIL] and len(gone.orders) == 1 + RETRIES
    assert trials()[1].user_attrs["reason"] == "3 times: order 2 ran out of memory"
    assert "crashed: 3 times: order 2 ran out of memory" in said[0]


def test_an_engine_that_cannot_be_asked_is_waited_for() -> None:
    engine = Engine(deaf=range(2, 40))
    searched(engine, n_trials=2, most=2)
    assert len(engine.orders) == 2 and states() == [TrialState.COMPLETE] * 2


def test_a_driver_that_was_killed_is_followed_by_one_that_adopts_its_trials() -> None:
    def killed(count: int) -> None:
        if count == 3:
            raise KeyboardInterrupt

    engine = Engine(looks=lambda number: 10, at_look=killed)
    with pytest.raises(KeyboardInterrupt):
        searched(engine, n_trials=3, most=2)
    assert states() == [TrialState.RUNNING] * 2 and engine.events == ["submit 0", "submit 1"]
    kept = [work_of(trial.user_attrs) for trial in trials()]
    assert [list(work.tickets.values()) for work in kept if work is not None] == [["0"], ["1"]]
    before = [trial.params for trial in trials()]
    searched(engine, n_trials=3, most=2)
    assert states() == [TrialState.COMPLETE] * 3 and len(engine.orders) == 3
    assert [trial.params for trial in trials()][:2] == before


def test_what_ended_while_nobody_looked_is_told_and_not_trained_again() -> None:
    def killed(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    engine = Engine(looks=lambda number: 3, at_look=killed)
    with pytest.raises(KeyboardInterrupt):
        searched(engine, n_trials=2, most=2)
    for _, runs in engine.orders:
        for run in runs:
            ran(run, 2.0)
    after = Engine()
    searched(after, n_trials=2, most=2)
    assert after.orders == [] and [trial.values for trial in trials()] == [[2.0], [2.0]]


def test_a_ticket_that_was_not_noted_is_recalled() -> None:
    def killed(number: int) -> None:
        if number == 0:
            raise KeyboardInterrupt

    engine = Engine(at_submit=killed)
    with pytest.raises(KeyboardInterrupt):
        searched(engine, n_trials=1)
    (work,) = [work_of(trial.user_attrs) for trial in trials()]
    assert work is not None and work.label == engine.orders[0][0] and not work.tickets
    searched(engine, n_trials=1)
    assert len(engine.orders) == 1 and states() == [TrialState.COMPLETE]


def test_an_engine_that_takes_nothing_is_one_line_at_first_and_waited_for_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(number: int) -> None:
        if number in refusing:
            engine.orders.pop()
            engine.left.pop(str(number))
            refusing.remove(number)
            raise Refused("sbatch: the queue is full")

    refusing = [0]
    engine = Engine(at_submit=full)
    with pytest.raises(Refused, match="the queue is full"):
        searched(engine, n_trials=3, most=1)
    refusing = [1, 1]
    said = searched(engine, n_trials=3, most=1)
    assert [line for line in said if "not taken, to be tried again" in line] and states() == [TrialState.COMPLETE] * 3


def test_asked_to_stop_a_driver_leaves_its_trials_to_others() -> None:
    def stopped(count: int) -> None:
        if count == 3:
            (name,) = living(Path("runs/s"))
            ask_to_stop(Path("runs/s"), name)

    engine = Engine(looks=lambda number: 100, at_look=stopped)
    searched(engine, n_trials=3, most=2)
    assert states() == [TrialState.RUNNING] * 2 and not living(Path("runs/s"))
    assert not list(Path("runs/s/.at_work").glob("*.stop"))


def test_a_budget_holds_for_trials_under_way_and_what_waits_goes_on_when_one_was_cheaper() -> None:
    cost = problem().spec({}).cost_flops
    engine = Engine(looks=lambda number: 4)
    said = searched(engine, f"hydra.sweeper.budget_flops={2.5 * cost}", n_trials=9, most=4)
    assert len(engine.orders) == 2 and states() == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING]
    assert "would exceed budget_flops" in said[-1]


def test_crashes_are_tried_again_and_three_trials_in_a_row_end_it() -> None:
    engine = Engine(loss=lambda run: None, looks=lambda number: 1)
    said = searched(engine, n_trials=9, most=1)
    assert len(engine.orders) == 3 * (1 + RETRIES) and states() == [TrialState.FAIL] * 3
    assert said[-1].startswith("3 trials in a row crashed")
    assert {trial.user_attrs["reason"] for trial in trials()} == {"the disk is full"}


def test_wilcoxon_goes_on_seed_by_seed_while_other_trials_do() -> None:
    given = ["hydra/sweeper/pruner=wilcoxon", "hydra.sweeper.tuning_seeds=[0,1,2,3,4]"]

    def loss(run: PlannedRun) -> float:
        return 2 + abs(math.log(run.spec.hparams.lr / 0.01)) + 0.001 * run.spec.seed

    engine = Engine(loss=loss)
    searched(engine, *given, n_trials=5, most=3)
    outcomes = {trial.state for trial in trials()}
    assert outcomes == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials():
        seeds = trial.user_attrs["seeds"]
        assert seeds == list(range(len(seeds))) and (len(seeds) == 5) == (trial.state is TrialState.COMPLETE)
    made = [run.spec.fingerprint for _, runs in engine.orders for run in runs]
    assert len(made) == len(set(made)) == sum(len(trial.user_attrs["seeds"]) for trial in trials())


@pytest.mark.parametrize("pruner", ["idhb", "median"])
def test_runs_ask_the_pruner_in_a_rolling_search(found: Searching, pruner: str) -> None:
    found.together = False
    steady = ["schedule=constant", "warmup_fraction=0", "warmup_tokens=64"] if pruner == "idhb" else []
    given = [LR, f"hydra/sweeper/pruner={pruner}", *steady]
    text = found(*given, n_trials=12)
    told: list[FrozenTrial] = trials()
    assert {trial.state for trial in told} == {TrialState.COMPLETE, TrialState.PRUNED} and len(told) == 12
    assert {number for number, _ in found.asked} <= {trial.number for trial in told} and "PRUNED" in text


def test_the_winner_is_tested_by_the_engine_too() -> None:
    engine = Engine()
    searched(engine, "hydra.sweeper.testing_seeds=[7,8]", n_trials=2)
    assert [run.spec.seed for run in engine.orders[-1][1]] == [7, 8] and '"diverged": 0' in Path(
        "runs/s/search.json"
    ).read_text()
