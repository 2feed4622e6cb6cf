"""Many workers on one study: killed, stopped and cut off from their database, they tell every trial exactly once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from scalelab.readers.optuna_study import open_study
from scalelab.search.owners import living, work_of
from scalelab.trials import run_folders
from tests.conftest import ROOT
from tests.helpers import TINY
from tests.search.postgres import server
from tests.search.searching import LR

PATIENCE = 800.0  # on a machine that does much else


class Workers:
    """Processes of `tests.search.worker`, in this folder."""

    def __init__(
        self, overrides: Sequence[str], workers: Sequence[dict[str, Any]], *, n_trials: int, seconds: float,
        lease: float,
    ) -> None:  # fmt: skip
        whole = ["hydra/sweeper=optuna", *TINY, "study=s", f"hydra.sweeper.n_trials={n_trials}", *overrides]
        Path("config.json").write_text(json.dumps({"overrides": whole, "workers": workers, "seconds": seconds}))
        given = {"SCALELAB_LEASE_SECONDS": str(lease), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.search.worker", "config.json"]
        self.killed: set[str] = set()
        with Path("errors.txt").open("wb") as errors:
            self.process = subprocess.Popen(command, env={**os.environ, **given}, stderr=errors)

    def until(self, happens: Callable[[], bool]) -> None:
        """Wait; whoever says that it holds something is killed meanwhile."""
        end = time.monotonic() + PATIENCE
        while not happens():
            assert time.monotonic() < end, Path("errors.txt").read_text()
            assert self.process.poll() is None, f"all have ended before: {Path('errors.txt').read_text()}"
            for words in log():
                if words[0] == "holds" and words[-2] not in self.killed:
                    self.killed.add(words[-2])
                    os.kill(int(words[-2]), signal.SIGKILL)
            time.sleep(0.02)

    def pid(self, place: int) -> int:
        file = Path(f"pids/{place}")
        self.until(lambda: file.exists() and file.read_text() != "")
        return int(file.read_text())

    def signal(self, place: int, what: signal.Signals) -> None:
        os.kill(self.pid(place), what)

    def in_a_run(self, place: int) -> bool:
        """Whether that worker is in the middle of a run."""
        mine = [words for words in log() if words[-2] == str(self.pid(place)) and words[0] in ("begin", "end")]
        return bool(mine) and mine[-1][0] == "begin"

    def wait(self) -> dict[str, int]:
        """Until all have ended; how each did."""
        self.until(lambda: self.process.poll() is not None)
        codes: dict[str, int] = json.loads(Path("codes.json").read_text())
        return codes


@pytest.fixture
def begun() -> Iterator[Callable[..., Workers]]:
    there: list[Workers] = []

    def begin(*arguments: Any, **given: Any) -> Workers:
        there.append(Workers(*arguments, **given))
        return there[-1]

    yield begin
    for workers in there:
        if workers.process.poll() is None:
            for file in Path("pids").glob("*"):
                if (pid := file.read_text()).isdecimal():
                    os.kill(int(pid), signal.SIGKILL)  # a stopped one, too
            workers.process.kill()
            workers.process.wait()


def log() -> list[list[str]]:
    file = Path("log.txt")
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def check_all_told_once(trials: Sequence[FrozenTrial], n_trials: int, *, torn: Container[int] = (0,)) -> None:
    """Each trial has ended well, all differ, and what was trained is just what was told.

    `torn` is how many there may be whose asker was killed, or lost its database, in the middle of the ask.
    """
    whole = [trial for trial in trials if trial.params]
    assert [trial.state for trial in whole] == [TrialState.COMPLETE] * n_trials
    others = [trial.state for trial in trials if not trial.params]
    assert len(others) in torn and set(others) <= {TrialState.FAIL}
    assert len({json.dumps(trial.params, sort_keys=True) for trial in whole}) == n_trials
    runs = {name for trial in whole for name in trial.user_attrs["fingerprint"].split()}
    assert runs == {folder.read().spec.fingerprint for folder in run_folders(Path("runs/s"))} and len(runs) == n_trials
    ends = Counter(words[1] for words in log() if words[0] == "end")
    assert set(ends) == runs and set(ends.values()) == {1}
    assert not living(Path("runs/s"))
    result = json.loads(Path("runs/s/search.json").read_text())
    assert result["outcomes"]["OK"] == n_trials


def test_workers_share_one_study_and_a_killed_ones_trial_goes_on(begun: Callable[..., Workers]) -> None:
    given = [LR, "hydra/sweeper/sampler=random"]
    workers = begun(given, [{}, {}, {}], n_trials=9, seconds=0.2, lease=60)
    workers.until(lambda: workers.in_a_run(1))
    workers.signal(1, signal.SIGKILL)
    codes = workers.wait()
    assert (codes["0"], codes["1"], codes["2"]) == (0, signal.SIGKILL, 0), Path("errors.txt").read_text()
    trials = open_study("runs/s").get_trials()
    check_all_told_once(trials, 9)
    by = {work.owner for trial in trials if (work := work_of(trial.user_attrs)) is not None}
    assert len(by) >= 2


@pytest.mark.slow
@pytest.mark.cluster
def test_a_budget_is_that_of_all_workers_together(begun: Callable[..., Workers]) -> None:
    given = [LR, "hydra/sweeper/sampler=random", "hydra.sweeper.budget_flops=6.5e8"]  # of runs that cost 1.3e8 each
    begun(given, [{}] * 5, n_trials=50, seconds=0.1, lease=60).wait()
    states = Counter(trial.state for trial in open_study("runs/s").get_trials())
    assert states[TrialState.COMPLETE] == 4 and states[TrialState.RUNNING] <= 5
    assert json.loads(Path("runs/s/search.json").read_text())["spent_flops"] <= 6.5e8


def eight(tears: bool) -> list[dict[str, Any]]:
    """Three nodes: one of many workers, one of two, and single ones."""
    return [
        {"node": "a"}, {"node": "a"}, {"node": "a", "does": "hangs"}, {"node": "a"}, {"node": "b"}, {"node": "b"},
        {"node": "c"}, {"node": "d", "does": "tears"} if tears else {"node": "d"},
    ]  # fmt: skip


def disturb(workers: Workers) -> None:
    """Kill a worker in a run, and one of another node, and stop one for long."""
    for place, what in ((1, signal.SIGKILL), (4, signal.SIGKILL), (6, signal.SIGSTOP)):
        workers.until(lambda place=place: workers.in_a_run(place))  # type: ignore[misc]
        workers.signal(place, what)
    stopped = time.monotonic()
    workers.until(lambda: time.monotonic() > stopped + 10)  # beyond its lease, and until it was watched
    workers.signal(6, signal.SIGCONT)


def trials_in(url: str) -> list[FrozenTrial]:
    storage = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name="s", storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


CARBS = [LR, "width=range(32,160,32)", "hydra/sweeper/sampler=carbs"]


@pytest.mark.slow
@pytest.mark.cluster
def test_eight_workers_with_carbs_and_a_journal(begun: Callable[..., Workers]) -> None:
    workers = begun(CARBS, eight(tears=True), n_trials=32, seconds=1.0, lease=3)
    disturb(workers)
    codes = workers.wait()
    assert [codes[place] for place in "0356"] == [0] * 4, Path("errors.txt").read_text()
    assert len(workers.killed) == 2
    check_all_told_once(open_study("runs/s").get_trials(), 32, torn=(1,))


@pytest.mark.slow
@pytest.mark.cluster
def test_eight_workers_with_carbs_and_a_database_that_goes_away(
    begun: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    with server() as database:
        url = database.url("${oc.env:SEARCH_PASSWORD}")
        monkeypatch.setenv("SEARCH_PASSWORD", database.password)
        given = [*CARBS, f"hydra.sweeper.storage='{url}'"]
        workers = begun(
            given, eight(tears=False), n_trials=32, seconds=4.0, lease=3
        )  # longer than what is done to them
        disturb(workers)
        before = sum(words[0] == "end" for words in log())
        workers.until(lambda: sum(words[0] == "end" for words in log()) > before)
        database.stop()
        time.sleep(6)
        database.start()
        codes = workers.wait()
        assert [codes[place] for place in "03567"] == [0] * 5, Path("errors.txt").read_text()
        check_all_told_once(trials_in(database.url(database.password)), 32, torn=range(1, 10))
        said = " ".join(words[1] for words in log() if words[0] == "said")
        assert "is_away" in said and database.password not in said
    for file in Path().rglob("*"):
        assert file.is_dir() or database.password not in file.read_text(errors="replace"), file
