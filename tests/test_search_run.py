"""`search run`, `attach`, `stop`: from the command line, with runs that train, and processes that are killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
from optuna.trial import TrialState

from scalelab.errors import Refused
from scalelab.readers.optuna_study import open_study
from scalelab.search.owners import living
from scalelab.searching import engines
from scalelab.searching.working import LEFT_ALONE
from scalelab.trials import run_folders
from scalelab.workers.serve import Order, trained
from tests.conftest import ROOT
from tests.helpers import TINY, one_line, scalelab, squeezed

SEARCH = ("hydra/sweeper=optuna", "hydra/sweeper/sampler=random", *TINY, "study=s", "lr=tag(log,interval(1e-4,1e-1))")
STUDY = Path("runs/s")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def states() -> list[TrialState]:
    return [trial.state for trial in open_study("runs/s").get_trials()]


def told() -> int:
    try:
        return states().count(TrialState.COMPLETE)
    except Refused:  # it has not begun
        return 0


def until(happens: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.1)


def command(*arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path("output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "scalelab.cli", *arguments], stdout=output, stderr=output, env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip


class Local:
    """An engine that trains in this process what it is given, and knows of nothing afterwards."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def submit(self, orders: Sequence[Order]) -> list[str]:
        for order in orders:
            self.orders.append(order)
            trained(order)
        return [str(len(self.orders))] * len(orders)

    def alive(self, tickets: Collection[str]) -> set[str]:
        return set()

    def why(self, ticket: str) -> str:
        return "it ended"

    def cancel(self, tickets: Collection[str]) -> None: ...


def test_an_engine_is_given_orders_that_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Local()
    monkeypatch.setattr(engines, "engine_of", lambda launcher: engine)
    given = ["hydra/launcher=ray", "hydra.launcher.poll_seconds=0.01", "hydra.sweeper.tuning_seeds=[3,4]"]
    result = scalelab("search", "run", *SEARCH, *given, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    assert result.exit_code == 0, result.output
    assert "2/2 · lr=" in result.stdout and states() == [TrialState.COMPLETE] * 2
    assert [[job.spec.seed for job in order.jobs] for order in engine.orders] == [[3, 4], [3, 4]]
    for run in run_folders(STUDY):
        assert "hydra.sweeper.n_trials" not in (run.path / ".hydra/overrides.yaml").read_text()
        assert f"seed: {run.read().spec.seed}" in (run.path / ".hydra/config.yaml").read_text()


def test_what_cannot_be_run_is_one_line(folder: Path) -> None:
    assert "accepted is a search, add hydra/sweeper=optuna" in one_line(scalelab("search", "run", "lr=0.1,0.2"))
    assert "--workers 0: accepted is a whole number" in one_line(scalelab("search", "run", *SEARCH, "--workers", "0"))
    engine = [*SEARCH, "hydra/launcher=ray", "--workers", "2"]
    assert "with an engine, which trains elsewhere" in one_line(scalelab("search", "run", *engine))
    for what in ("attach", "stop"):
        assert "has no search.request.json" in one_line(scalelab("search", what, "runs/s"))
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_a_search_runs_here_and_is_seen(folder: Path) -> None:
    arguments = [*SEARCH, "hydra.sweeper.n_trials=3"]
    result = scalelab("search", "run", *arguments)
    assert result.exit_code == 0, result.output
    assert "3/3" in result.stdout and "3 OK" in squeezed(result.stdout) and states() == [TrialState.COMPLETE] * 3
    again = scalelab("search", "attach", "runs/s")
    assert again.exit_code == 0 and "nothing is left to run" in again.stdout


@pytest.mark.slow
def test_a_killed_search_is_attached_to_and_goes_on(folder: Path) -> None:
    driver = command("search", "run", *SEARCH, "tokens=12800", "hydra.sweeper.n_trials=4")
    until(lambda: told() >= 1 and TrialState.RUNNING in states())
    driver.kill()
    driver.wait()
    result = scalelab("search", "attach", "runs/s")
    assert result.exit_code == 0, result.output
    assert states() == [TrialState.COMPLETE] * 4
    assert len(list(run_folders(STUDY))) == 4


@pytest.mark.slow
def test_detached_workers_are_seen_stopped_and_gone_on_with(folder: Path) -> None:
    arguments = [*SEARCH, "tokens=25600", "hydra.sweeper.n_trials=5"]
    result = scalelab("search", "run", *arguments, "--workers", "2", "--detach")
    assert result.exit_code == 0, result.output
    assert "scalelab search stop runs/s" in result.stdout
    (pid,) = re.findall(r"process (\d+)", squeezed(result.stdout))
    until(lambda: told() >= 1 and len(living(STUDY)) == 2)
    seen = scalelab("search", "status", "runs/s")
    assert all(name in squeezed(seen.stdout) for name in living(STUDY)), seen.output
    stopped = scalelab("search", "stop", "runs/s")
    assert stopped.exit_code == 0 and "2 of 2 drivers ended" in squeezed(stopped.stdout), stopped.output
    assert living(STUDY) == {} and TrialState.RUNNING in states()
    (background,) = [process for process in LEFT_ALONE if process.pid == int(pid)]
    until(lambda: background.poll() is not None)
    result = scalelab("search", "attach", "runs/s")
    assert result.exit_code == 0, result.output
    assert states() == [TrialState.COMPLETE] * 5 and len(list(run_folders(STUDY))) == 5


@pytest.mark.slow
def test_ctrl_c_leaves_everything_to_be_gone_on_with(folder: Path) -> None:
    driver = command("search", "run", *SEARCH, "tokens=25600", "hydra.sweeper.n_trials=3")
    until(lambda: told() >= 1)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(120) == 130
    assert "scalelab search attach runs/s" in squeezed(Path("output.txt").read_text()) and living(STUDY) == {}
    assert scalelab("search", "run", *SEARCH, "tokens=25600", "hydra.sweeper.n_trials=3").exit_code == 0
    assert states() == [TrialState.COMPLETE] * 3
