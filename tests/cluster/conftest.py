"""What tests of clusters share: a real SLURM, the same numbers wherever a run was trained, launchers to be killed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from scalelab.claims import LEASE_SECONDS
from scalelab.trials import RunFolder
from tests.cluster.slurm import Cluster, NotHere, running
from tests.helpers import scalelab

CACHE = Path(os.environ.get("SCALELAB_TEST_CACHE", platformdirs.user_cache_dir("scalelab-tests")))
LAUNCH_SECONDS = 900.0  # of a machine with much else to do


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slurm: starts a SLURM of Debian's packages on this machine")
    config.addinivalue_line("markers", "ray: starts a Ray of two nodes on this machine")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two nodes; skips where SLURM is not to be had."""
    try:
        with running(CACHE / "slurm", tmp_path_factory.mktemp("slurm") / "cluster") as cluster:
            yield cluster
    except NotHere as reason:
        pytest.skip(str(reason))


def wait_for(condition: Callable[[], object], what: str, seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited too long for {what}"
        time.sleep(0.1)


@contextmanager
def launcher(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """`scalelab train` in a process of its own, which is ended with the test if it has not ended before."""
    with (folder / "launcher.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scalelab.train", *arguments], cwd=folder, stdout=log, stderr=log, text=True,
            env={**environment, "SCALELAB_LEASE_SECONDS": str(min(8.0, LEASE_SECONDS))},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finished(process: subprocess.Popen[str], folder: Path) -> str:
    """What a launcher said that went to its end."""
    log = folder / "launcher.log"
    try:
        status = process.wait(timeout=LAUNCH_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"not at its end after {LAUNCH_SECONDS:g} s:\n{log.read_text()}")
    assert status == 0, log.read_text()
    return log.read_text()


def numbers(run: Path) -> tuple[dict[str, Any], list[tuple[int, float | None]]]:
    """All of a run that does not depend on when, where and in how many attempts it was trained."""
    trial = json.loads((run / "trial.json").read_text())
    kept = {k: v for k, v in trial.items() if k not in ("seconds", "energy_joules", "provenance")}
    return kept, [(line["step"], line["loss_nats"]) for line in RunFolder(run).metrics()]


def here(arguments: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same study trained by this machine's own workers."""
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    result = scalelab("train", "-m", "hydra/launcher=fused", *arguments)
    assert result.exit_code == 0, result.output
    return folder / "here" / "runs" / "adhoc"


class Seen:
    """Looks on, all the time: when each run's trial was written for the first time that it was final."""

    def __init__(self, study: Path) -> None:
        self.study, self.final, self.again = study, {}, []  # type: ignore[var-annotated]

    def look(self) -> None:
        for file in self.study.glob("*/trial.json"):
            with suppress(FileNotFoundError):
                if json.loads(file.read_text())["outcome"] in ("OK", "DIVERGED"):
                    written = file.stat().st_mtime_ns
                    if self.final.setdefault(file.parent.name, written) != written:
                        self.again.append(file.parent.name)


@contextmanager
def looking(study: Path) -> Iterator[Seen]:
    seen, stop = Seen(study), threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            seen.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def last_attempt(run: Path) -> int:
    return int(RunFolder(run).metrics()[-1]["attempt"])


def check_once_and_as_here(seen: Seen, local: Path) -> None:
    """Every run of a study was final once, and is the run of the same study that was trained here."""
    assert not seen.again, "a run that was finished was written again"
    assert {run.name for run in local.glob("*/")} == set(seen.final)
    for run in sorted(seen.final):
        assert numbers(seen.study / run) == numbers(local / run), run
