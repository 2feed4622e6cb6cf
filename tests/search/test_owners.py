"""Whose a trial is: clocks that differ, drivers that are gone, and a driver that was taken for dead."""

import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from optuna.trial import TrialState

from scalelab import claims
from scalelab.claims import holder
from scalelab.readers.optuna_study import AT_WORK
from scalelab.readers.optuna_trials import WORK
from scalelab.search.objectives import told
from scalelab.search.owners import Work, at_work, estates, living
from scalelab.search.study import Study, existing
from tests.search.searching import trials
from tests.search.test_rolling import Engine, problem, ran, searched

LEASE = 1.0
FOREIGN = claims.Holder(host="far", boot="x", pid=1, started="1", token="t", lease_seconds=LEASE)


def foreign_driver(study: Path, name: str, *, at: float) -> Path:
    """A driver of another node, whose claim says that it was touched then."""
    folder = study / AT_WORK
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.1"
    file.write_text(json.dumps(asdict(FOREIGN)))
    os.utime(file, (at, at))
    return file


class Beating:
    """Touches a file as a clock would that differs by so many seconds."""

    def __init__(self, file: Path, ahead: float) -> None:
        self.file, self.ahead, self.ended = file, ahead, threading.Event()
        self.thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        while not self.ended.wait(0.05):
            now = time.time() + self.ahead
            os.utime(self.file, (now, now))

    def __enter__(self) -> "Beating":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_driver_whose_clock_differs_keeps_its_trials_as_long_as_it_beats(ahead: float) -> None:
    study = Path("runs/s")
    file = foreign_driver(study, "far-1", at=time.time() + ahead)
    with Beating(file, ahead):
        assert list(estates(study, ["far-1"])) == []
    (found,) = _patiently(study)  # it beats no more
    assert found == "far-1"


def _patiently(study: Path) -> list[str]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if found := list(estates(study, ["far-1"])):
            for _, claim in found:
                claim.release(done=True)
            return [name for name, _ in found]
        time.sleep(0.1)
    return []


def test_a_trial_of_a_living_driver_is_left_alone_and_taken_when_it_is_gone() -> None:
    with pytest.raises(KeyboardInterrupt):
        searched(Engine(at_look=_pressed), n_trials=2, most=1)
    own(0, "far-1")
    study = Path("runs/s")
    beating = Beating(foreign_driver(study, "far-1", at=time.time()), 0.0)
    engine = Engine()

    def later(count: int) -> None:
        if count == 1:
            assert [trial.state for trial in trials()] == [TrialState.RUNNING] * 2
            assert trials()[0].user_attrs[WORK]["owner"] == "far-1"
            threading.Timer(1.0, beating.ended.set).start()

    engine.at_look = later
    with beating:
        searched(engine, n_trials=2, most=1)
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 2
    numbers = [trials()[1].user_attrs["fingerprint"], trials()[0].user_attrs["fingerprint"]]
    assert [run.spec.fingerprint for _, (run,) in engine.orders] == numbers  # its own first, then the dead one's


def _pressed(count: int) -> None:
    raise KeyboardInterrupt


def study_at() -> Study:
    found = existing(problem(n_trials=2))
    assert found is not None
    return Study(optuna=found, storage=found._storage, rule=None)


def own(number: int, owner: str) -> None:
    study_at().note(number, Work(owner=owner, since=time.time()))


def test_a_driver_that_was_taken_for_dead_tells_nothing_and_goes_on_under_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(looks=lambda number: 6)
    names: list[str] = []

    def taken(count: int) -> None:
        names.extend(name for name in living(Path("runs/s")) if name not in names)
        if count == 2:  # while this driver was stopped another one took its claim and its trial, and told it
            file = Path("runs/s") / AT_WORK / f"{names[0]}.2"
            file.write_text(json.dumps(asdict(FOREIGN)))
            os.utime(file, (0, 0))
            own(0, "far-1")
            ((_, (run,)),) = engine.orders
            ran(run, 1.5)
            study = study_at()
            study.tell(study.optuna.get_trials()[0], told([run.folder.read()]), ["loss_nats"])

    engine.at_look = taken
    said = searched(engine, n_trials=2, most=1)
    assert [line for line in said if line.startswith("taken for dead: goes on as ")] and len(names) == 2
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 2
    assert trials()[0].values == [1.5] and trials()[1].values != [1.5]


def test_who_is_at_work_is_seen_and_leaves_nothing_behind() -> None:
    with at_work(Path("runs/s")) as driver:
        seen = living(Path("runs/s"))
        assert list(seen) == [driver.name] and seen[driver.name].pid == os.getpid()
        assert driver.name.startswith(f"{holder.here()[0]}-{os.getpid()}-")
    assert living(Path("runs/s")) == {} and list((Path("runs/s") / AT_WORK).iterdir()) == []
