"""The launcher of engines, with one that is no cluster: what is handed over, how often, and what is returned."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus

from scalelab.claims import claim
from scalelab.config import config_dir
from scalelab.engines import book, engine_of
from scalelab.engines.launching import launched
from scalelab.engines.settings import Settings, settings_of
from scalelab.errors import Refused
from scalelab.jobs import CLAIM
from scalelab.plan import PlannedRun, plan
from scalelab.trials import Outcome
from scalelab.workers.serve import Order, trained
from tests.helpers import TINY

Fate = Callable[[Order], object]


class Killed(BaseException):
    """The launcher is killed here."""


def train(order: Order) -> None:
    with suppress(Exception):  # a task that fails ends; its folders say why
        trained(order)


def die(order: Order) -> None:
    """Nothing comes of it."""


@dataclass
class Double:
    """An engine: an order meets the next of the fates, which is to be trained by default, when it is asked after.

    `away`: how often it does not answer.
    """

    fates: list[Fate] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    queue: dict[str, Fate] = field(default_factory=dict)
    away: int = 0
    kill: str = ""

    def submit(self, orders: Sequence[Order]) -> list[str]:
        return self.submit_as(f"label{len(self.labels)}", orders)

    def submit_as(self, label: str, orders: Sequence[Order]) -> list[str]:
        if self.kill == "before":
            raise Killed
        tickets = [f"{len(self.orders) + place}" for place in range(len(orders))]
        self.labels[label] = tickets
        for ticket, order in zip(tickets, orders, strict=True):
            self.orders[ticket] = order
            self.queue[ticket] = self.fates.pop(0) if self.fates else train
        if self.kill == "after":
            raise Killed
        return tickets

    def submitted_as(self, label: str) -> dict[int, str] | None:
        if self.away:
            self.away -= 1
            return None
        return dict(enumerate(self.labels.get(label, [])))

    def alive(self, tickets: Collection[str]) -> set[str]:
        if self.kill == "while waiting" and tickets:
            raise Killed
        if self.away:
            self.away -= 1
            return set(tickets)
        for ticket in sorted(set(tickets) & set(self.queue)):
            self.queue.pop(ticket)(self.orders[ticket])
        return set()

    def why(self, ticket: str) -> str:
        return f"job {ticket} died"

    def cancel(self, tickets: Collection[str]) -> None:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    GlobalHydra.instance().clear()


def runs(*swept: str) -> tuple[PlannedRun, ...]:
    return plan([*TINY, *swept], multirun=True).runs


def launch(planned: Sequence[PlannedRun], engine: Any, extra: Sequence[str] = (), **settings: Any) -> list[JobReturn]:
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="train"):
        return launched(
            [[*run.task_overrides, *extra] for run in planned],
            engine,
            Settings(**{"workers": 1, "poll_seconds": 0.01, **settings}),
            name="double",
            loader=GlobalHydra.instance().config_loader(),
            config=compose("train", [*TINY], return_hydra_config=True),
            first=0,
        )


def losses(planned: Sequence[PlannedRun]) -> list[float | None]:
    return [run.folder.read().loss_nats for run in planned]


def entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path("runs/adhoc/.engine/tickets.json").read_text())
    return found


def test_runs_of_one_program_are_an_order_and_what_came_of_them_is_returned() -> None:
    planned = runs("width=32,64", "seed=0,1,2")
    engine = Double()
    found = launch(planned, engine, members=2)
    assert [each.return_value for each in found] == losses(planned) and None not in losses(planned)
    assert {each.status for each in found} == {JobStatus.COMPLETED}
    sizes = sorted((order.jobs[0].spec.shape.width, len(order.jobs)) for order in engine.orders.values())
    assert sizes == [(32, 1), (32, 2), (64, 1), (64, 2)] and len(engine.labels) == 1
    assert entries() == []
    assert (planned[0].folder.path / ".hydra" / "overrides.yaml").exists()


def test_what_dies_is_handed_over_again_half_as_many_at_a_time_then_alone_and_no_more_often_than_asked() -> None:
    planned = runs("seed=0,1,2")
    engine = Double(fates=[die, die])
    assert [each.return_value for each in launch(planned, engine, retries=2)] == losses(planned)
    assert [(order.halvings, len(order.jobs)) for order in engine.orders.values()] == [(0, 3), (1, 3), *[(2, 1)] * 3]
    others = runs("seed=4,5")
    engine = Double(fates=[die] * 9)
    found = launch(others, engine, retries=1)
    assert len(engine.orders) == 3
    assert {each.status for each in found} == {JobStatus.FAILED}
    for run in others:
        assert run.folder.read().outcome is Outcome.FAILED
        assert "died" in (run.folder.read().reason or "")
    assert entries() == []
    assert launch(others, Double()) and None not in losses(others), "launched again, they are trained"


def test_one_that_fails_does_not_take_its_population_along() -> None:
    planned = runs("seed=0,1,2")
    planned[1].folder.path.mkdir(parents=True)
    (planned[1].folder.path / ".hydra").write_text("where a folder is to be")
    engine = Double()
    found = launch(planned, engine)
    assert [each.status for each in found] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    with pytest.raises(RuntimeError, match="job"):
        _ = found[1].return_value
    assert planned[0].folder.read().outcome is planned[2].folder.read().outcome is Outcome.OK


@pytest.mark.parametrize(("kill", "handed"), [("before", 0), ("after", 2), ("while waiting", 2)])
def test_a_launcher_that_was_killed_goes_on_and_hands_nothing_over_twice(kill: str, handed: int) -> None:
    planned = runs("seed=0,1,2")
    engine = Double(kill=kill)
    with pytest.raises(Killed):
        launch(planned, engine, members=2)
    assert len(engine.orders) == handed and len(entries()) == 2
    engine.kill = ""
    found = launch(planned, engine, members=2)
    assert [each.return_value for each in found] == losses(planned) and None not in losses(planned)
    assert len(engine.orders) == 2
    assert entries() == []


def test_an_engine_that_does_not_answer_is_waited_for() -> None:
    planned = runs("seed=0")
    engine = Double(kill="after")
    with pytest.raises(Killed):
        launch(planned, engine)
    engine.kill, engine.away = "", 5
    assert launch(planned, engine)[0].return_value == losses(planned)[0]
    assert len(engine.orders) == 1 and engine.away == 0


def test_what_somebody_else_is_at_is_waited_for_and_not_handed_over() -> None:
    planned = runs("seed=0,1")
    planned[0].folder.path.mkdir(parents=True)
    mine = claim(planned[0].folder.path / CLAIM)
    assert mine is not None

    def end_beside(order: Order) -> None:
        train(order)
        mine.release()

    engine = Double(fates=[end_beside])
    assert [each.return_value for each in launch(planned, engine)] == losses(planned)
    assert [[asked.spec.seed for asked in order.jobs] for order in engine.orders.values()] == [[1], [0]]


def test_a_run_that_was_pruned_has_ended_where_it_was_asked_with_a_pruner_alone() -> None:
    planned = runs("seed=0")

    def prune(order: Order) -> None:
        train(order)
        (job,) = order.jobs
        job.folder.write(replace(job.folder.read(), outcome=Outcome.PRUNED, loss_nats=None))

    engine = Double(fates=[prune, train])
    assert launch(planned, engine)[0].return_value == losses(planned)[0]
    assert len(engine.orders) == 2


def test_a_folder_of_another_run_is_said_and_left_alone() -> None:
    first, second = runs("seed=0,1")
    launch([first], Double())
    second.folder.path.mkdir(parents=True)
    (second.folder.path / "trial.json").write_bytes((first.folder.path / "trial.json").read_bytes())
    engine = Double()
    (found,) = launch([second], engine)
    with pytest.raises(Refused, match="holds run"):
        _ = found.return_value
    assert not engine.orders


def test_a_refusal_of_the_engines_leaves_nothing_noted() -> None:
    class Refusing(Double):
        def submit_as(self, label: str, orders: Sequence[Order]) -> list[str]:
            raise Refused("no such partition")

    with pytest.raises(Refused, match="no such partition"):
        launch(runs("seed=0"), Refusing())
    assert entries() == []


def test_a_book_that_is_corrupt_is_refused(folder: Path) -> None:
    (folder / ".engine").mkdir()
    (folder / ".engine" / "tickets.json").write_text("[{]")
    with pytest.raises(Refused, match="corrupt"):
        book.read(folder)


@pytest.mark.parametrize(
    "given", [{"workers": 0}, {"members": "many"}, {"retries": -1}, {"poll_seconds": 0}, {"poll_seconds": "nan"}]
)
def test_settings_that_are_not_accepted_are_named(given: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=rf"hydra.launcher.{next(iter(given))}="):
        settings_of(given)
    with pytest.raises(Refused, match=rf"hydra.launcher.{next(iter(given))}="):
        engine_of({"engine": "slurm", **given})


def test_an_engine_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Refused, match=r"'slurmm': accepted are .*slurm.*did you mean 'slurm'"):
        engine_of({"engine": "slurmm"})
    with pytest.raises(Refused, match="without engine"):
        engine_of({"retries": 1})


def test_whoever_is_in_the_book_of_another_engine_is_left_there(folder: Path) -> None:
    planned = runs("seed=0,1")
    study = planned[0].folder.path.parent.absolute()
    study.mkdir(parents=True)
    other = book.Entry(engine="another", label="x", place=0, runs={"run": None}, ticket="7")
    book.write(study, {"run": other})
    launch(planned, Double())
    assert book.read(study) == {"run": other}
    assert None not in losses(planned)


def test_a_run_that_was_handed_to_another_engine_is_not_waited_for_there() -> None:
    (planned,) = runs("seed=0")
    study = planned.folder.path.parent.absolute()
    name = planned.folder.path.name
    book.write(study, {name: book.Entry(engine="another", label="x", place=0, runs={name: None}, ticket="7")})
    launch([planned], Double())
    assert None not in losses([planned]) and book.read(study) == {}
