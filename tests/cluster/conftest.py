"""What tests of clusters share: a real SLURM, the same numbers wherever a run was trained, launchers to be killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest

from scalelab.claims import LEASE_SECONDS
from tests.cluster.slurm import Cluster, NotHere, running

CACHE = Path(os.environ.get("SCALELAB_TEST_CACHE", platformdirs.user_cache_dir("scalelab-tests")))
LAUNCH_SECONDS = 400.0


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


def wait_for(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
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
    status = process.wait(timeout=LAUNCH_SECONDS)
    said = (folder / "launcher.log").read_text()
    assert status == 0, said
    return said
