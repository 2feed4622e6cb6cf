"""Runs in processes of torchrun, from outside: stopped, killed, failed, orphaned; nothing is left behind by any."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scalelab.train import SHARDED
from scalelab.train.spread.group import Group
from scalelab.train.spread.loop import SpreadLoop
from scalelab.train.spread.torchrun import FAILURE_FILE, LOG_FILE
from scalelab.train.watch import Watch
from tests.conftest import make_spec
from tests.helpers import TINY, metrics
from tests.train.spreading import CUT, in_two

LONG = ("tokens=128000", "batch_tokens=128")  # 1,000 steps
PATIENCE_SECONDS = 600  # of a machine with more to do
ENVIRONMENT = {**os.environ, "SCALELAB_LEASE_SECONDS": "5"}


def command(out: Path, *asked: str, before: Sequence[str] = ()) -> list[str]:
    return [sys.executable, *before, "-m", "scalelab.train", *TINY, f"out={out}", "study=s", *asked]


def begun(out: Path, *asked: str, before: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """A command line that trains, when its run has got somewhere."""
    already = len(rows(out))
    process = subprocess.Popen(
        command(out, *LONG, *asked, before=before), env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    until(lambda: len(rows(out)) >= already + 4 or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    return process


def until(there: Callable[[], Any]) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not there():
        assert time.monotonic() < ends
        time.sleep(0.1)


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for folder in out.glob("s/*/metrics.jsonl") for row in metrics(folder.parent)]


def run_folder(out: Path) -> Path:
    (folder,) = (each for each in (out / "s").iterdir() if each.is_dir() and not each.name.startswith("."))
    return folder


def trial(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_folder(out) / "trial.json").read_text())
    return found


def ranks(out: Path) -> dict[int, int]:
    """The processes that train below a folder: their numbers, by rank. (Linux: another system has no /proc.)"""
    found = {}
    for place in Path("/proc").iterdir():
        try:
            if not place.name.isdecimal() or (place / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                continue
            variables = dict(line.split("=", 1) for line in (place / "environ").read_text().split("\0") if "=" in line)
        except (OSError, UnicodeDecodeError):
            continue
        if variables.get("SPREAD_TEST") == str(out) and "LOCAL_RANK" in variables:
            found[int(variables["RANK"])] = int(place.name)
    return found


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(ENVIRONMENT, "SPREAD_TEST", str(tmp_path))
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_asked_to_stop_it_is_saved_and_goes_on_elsewhere(out: Path) -> None:
    process = begun(out, "parallel=fsdp")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 143 and "is saved" in said, said
    assert (run_folder(out) / SHARDED / "current").exists() and not ranks(out)
    stopped = rows(out)[-1]["step"]
    # in one process
    subprocess.run(command(out, *LONG), env=ENVIRONMENT, timeout=PATIENCE_SECONDS, capture_output=True, check=True)
    again = [row["step"] for row in rows(out) if row["attempt"] == 2]
    assert again[0] > 0 and again[0] > stopped - 20  # between two rows of the curve
    assert trial(out)["outcome"] == "OK" and not (run_folder(out) / SHARDED).exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_killed_it_is_started_again_and_ends_well(out: Path) -> None:
    process = begun(out, "parallel=ddp", "parallel.max_restarts=3")
    os.kill(ranks(out)[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0 and trial(out)["outcome"] == "OK", said
    assert {row["attempt"] for row in rows(out)} >= {1, 2}
    assert not ranks(out)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_killed_for_good_it_has_failed_and_says_why(out: Path) -> None:
    process = begun(out, "parallel=fsdp")
    os.kill(ranks(out)[1], signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert trial(out)["outcome"] == "FAILED" and "lost" in trial(out)["reason"]
    assert (run_folder(out) / LOG_FILE).exists() and not ranks(out)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_nobody_trains_on_for_a_process_that_is_gone(out: Path) -> None:
    process = begun(out, "parallel=ddp")
    process.kill()
    process.communicate()
    until(lambda: not ranks(out))
    assert (run_folder(out) / SHARDED / "current").exists()


@pytest.mark.slow
def test_started_by_torchrun_it_is_one_of_several(out: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    asked = command(out, "-m", "seed=0,1", "parallel=fsdp", before=torchrun)
    first = subprocess.run(asked, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert first.stdout.count("2 runs: 2 OK") == 1  # rank 0 alone says it
    trials = sorted(out.glob("s/*/trial.json"))
    assert [json.loads(file.read_text())["provenance"]["processes"] for file in trials] == ["2", "2"]
    before = [file.stat().st_mtime_ns for file in trials]
    again = subprocess.run(asked, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert "2 finished, 0 to do" in again.stdout
    assert [file.stat().st_mtime_ns for file in trials] == before


@pytest.mark.slow
def test_warm_workers_train_runs_of_several_processes(out: Path) -> None:
    asked = command(out, "-m", "seed=0,1", "parallel=ddp", "hydra/launcher=fused")
    ran = subprocess.run(asked, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert "2 runs: 2 OK" in ran.stdout


def failing(group: Group, folder: Path) -> None:
    """Both processes, of which one has no memory."""
    from scalelab.train import spread

    watch = Watch(checkpoint=folder / "checkpoint.pt")
    with pytest.MonkeyPatch.context() as patch:
        if group.rank == 1:
            patch.setattr(SpreadLoop, "_step", _no_memory)
        leading = partial(spread.run, [make_spec()], watches=[watch], device="cpu", threads=1, parallel=CUT)
        with pytest.raises(RuntimeError) as raised:
            (leading if group.leads else spread.take_part)()
    (folder / f"{group.rank}").write_text(str(raised.value))
    os._exit(0)  # the group is broken


def _no_memory(*_: Any) -> None:
    raise MemoryError("DefaultCPUAllocator: can't allocate memory")


@pytest.mark.slow
def test_the_first_that_fails_says_why(tmp_path: Path) -> None:
    in_two(failing, tmp_path)
    assert "MemoryError" in (tmp_path / "1").read_text()
    assert (tmp_path / "0").read_text() == (tmp_path / FAILURE_FILE).read_text()
    assert "rank 1 of 2: MemoryError: DefaultCPUAllocator" in (tmp_path / "0").read_text()
