"""Claims: one holder at a time, whatever dies, sleeps, or has another clock."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from scalelab.claims import Claim, Holder, claim, claimed, holder, is_free, last, looks_alive
from scalelab.claims import leases as room
from scalelab.jobs import CLAIM, run_job
from scalelab.trials import Outcome, RunFolder
from tests.conftest import ROOT, make_spec
from tests.helpers import metrics

HOUR = 3600.0


def elsewhere(mark: Path, number: int = 1, *, age: float = 0.0, lease: float = 0.4) -> Path:
    """A claim of a process on another node, last touched `age` seconds ago."""
    who = Holder(host="node7", boot="b", pid=os.getpid(), started="1", token="t", lease_seconds=lease)
    file = mark.with_name(f"{mark.name}.{number}")
    file.write_text(json.dumps(asdict(who)))
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def got(mark: Path) -> Claim:
    found = claim(mark)
    assert found is not None
    return found


# --- on one machine ---------------------------------------------------------------------------------------------------


def test_a_claim_is_had_once_and_released_it_is_free_again(tmp_path: Path) -> None:
    first = got(tmp_path / CLAIM)
    assert first.held and claim(tmp_path / CLAIM) is None and looks_alive(first.file, now=time.time() + 1e9)
    first.release()
    assert not first.held and is_free(first.file) and not looks_alive(first.file, now=0.0)
    second = got(tmp_path / CLAIM)
    first.release()  # again: of no account
    assert second.held and second.number == 2 and claim(tmp_path / CLAIM) is None
    second.release(done=True)
    assert files(tmp_path) == []


def test_old_claims_do_not_pile_up(tmp_path: Path) -> None:
    for _ in range(20):
        got(tmp_path / CLAIM).release()
    assert files(tmp_path) == [".claim.19", ".claim.20"]


def test_claims_are_waited_for(tmp_path: Path) -> None:
    first = got(tmp_path / CLAIM)
    with pytest.raises(TimeoutError, match=r"\.claim was held by another process for 0\.1 s"):
        claimed(tmp_path / CLAIM, patience_seconds=0.1).__enter__()
    threading.Timer(0.2, first.release).start()
    with claimed(tmp_path / CLAIM, patience_seconds=10.0) as second:
        assert second.held
    assert not second.held


ROUNDS = 1_500


def racing(folder: Path, rounds: int) -> None:
    """Count up in a file, one process at a time: a second one inside finds the file `inside`."""
    while True:
        mine = claim(folder / CLAIM)
        if mine is None:
            continue
        inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
        done = int((folder / "count").read_text())
        if done < rounds:
            (folder / "count").write_text(str(done + 1))
        assert mine.held
        os.close(inside)
        os.unlink(folder / "inside")
        mine.release()
        if done >= rounds:
            return


def started(target: Callable[..., None], *arguments: Any) -> Any:
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def test_of_processes_that_race_for_it_thousands_of_times_one_has_it(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    dead = started(lambda: (claim(tmp_path / CLAIM), os._exit(0)))  # begin with a takeover
    dead.join()
    processes = [started(racing, tmp_path, ROUNDS) for _ in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == str(ROUNDS)


def test_a_killed_holders_claim_is_free_at_once(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from scalelab.claims import claim\n"
    code += "claim(Path(sys.argv[1])); print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / CLAIM)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    assert claim(tmp_path / CLAIM) is None
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":  # dead, not waited for
        time.sleep(0.01)
    began = time.monotonic()
    mine = got(tmp_path / CLAIM)
    assert time.monotonic() - began < 0.5 and mine.number == 2 and files(tmp_path) == [".claim.1", ".claim.2"]
    process.communicate()
    mine.release()


def test_another_process_with_the_number_of_the_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    mine = got(tmp_path / CLAIM)
    who = asdict(mine.holder)
    mine.release(done=True)
    file = elsewhere(tmp_path / CLAIM)
    file.write_text(json.dumps(who | {"started": "1"}))  # our number and our machine, and began when it booted
    assert is_free(file) and not looks_alive(file, now=time.time())


def test_a_process_that_is_hidden_is_judged_by_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = got(tmp_path / CLAIM)
    monkeypatch.setattr(holder, "_started", lambda pid: None)  # another user's, under hidepid
    assert mine.holder.alive is None and not is_free(mine.file)
    mine.release()


def test_a_forked_child_holds_nothing_of_its_parents(tmp_path: Path) -> None:
    mine = got(tmp_path / CLAIM)

    def child() -> None:
        mine.release()
        os._exit(int(mine.held or claim(tmp_path / CLAIM) is not None))

    process = started(child)
    process.join(10)
    assert process.exitcode == 0 and mine.held
    own = started(lambda: os._exit(int(not got(tmp_path / "other").held)))  # touched by a thread of its own
    own.join(10)
    assert own.exitcode == 0
    mine.release()


def test_a_fork_during_a_touch_does_not_hang(tmp_path: Path) -> None:
    mine = got(tmp_path / CLAIM)
    with room.TOUCHING.lock:
        process = started(lambda: (got(tmp_path / "other").release(), os._exit(0)))
    process.join(10)
    assert process.exitcode == 0
    mine.release()


def test_a_claim_is_touched_as_long_as_it_is_held(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from scalelab.claims import claim\n"
    code += "mine = claim(Path(sys.argv[1])); print(1, flush=True); time.sleep(0.5); mine.release(); time.sleep(0.5)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / CLAIM)], cwd=ROOT, stdout=subprocess.PIPE,
        env={**os.environ, "SCALELAB_LEASE_SECONDS": "0.4"},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline()
    file = tmp_path / ".claim.1"
    os.utime(file, (1.0, 1.0))
    until = time.monotonic() + 10
    while file.stat().st_mtime == 1.0:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.communicate()
    assert file.stat().st_mtime == 0.0  # no touch came after the release


# --- on other nodes ---------------------------------------------------------------------------------------------------


def test_another_nodes_claim_is_free_after_its_lease_and_a_watch(tmp_path: Path) -> None:
    elsewhere(tmp_path / CLAIM)
    began = time.monotonic()
    assert claim(tmp_path / CLAIM) is None and time.monotonic() - began < 0.1  # within its lease: no waiting
    time.sleep(0.45)
    began = time.monotonic()
    mine = got(tmp_path / CLAIM)
    assert 0.12 < time.monotonic() - began < 2.0  # 2.5 of 8 touches of a lease of 0.4 s
    mine.release()


def test_the_lease_is_the_holders_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LEASE_SECONDS", 0.1)
    file = elsewhere(tmp_path / CLAIM, age=60.0, lease=120.0)
    assert claim(tmp_path / CLAIM) is None and looks_alive(file, now=time.time())
    assert not looks_alive(file, now=time.time() + 120.0)


@pytest.mark.parametrize("text", ["", '{"host": "node7", "bo', "[]", '{"host": 1}', "\x00\x00"])
def test_a_torn_claim_is_somebodys_until_its_lease_is_over(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LEASE_SECONDS", 0.4)
    file = tmp_path / ".claim.1"
    file.write_text(text)
    assert claim(tmp_path / CLAIM) is None and looks_alive(file, now=time.time())
    os.utime(file, (time.time() - 5, time.time() - 5))
    mine = got(tmp_path / CLAIM)
    assert mine.number == 2
    mine.release()


@pytest.mark.parametrize("skew", [-5 * HOUR, 5 * HOUR])
def test_a_living_holder_with_another_clock_keeps_its_claim(skew: float, tmp_path: Path) -> None:
    room._AHEAD.clear()
    file, ended = elsewhere(tmp_path / CLAIM, lease=4.0), threading.Event()

    def touch() -> None:
        while not ended.wait(0.5):
            os.utime(file, (time.time() + skew, time.time() + skew))

    touching = threading.Thread(target=touch)
    touching.start()
    try:
        while abs(file.stat().st_mtime - time.time()) < HOUR:
            time.sleep(0.01)
        assert claim(tmp_path / CLAIM) is None  # watched, and seen to move
        began = time.monotonic()
        assert claim(tmp_path / CLAIM) is None and time.monotonic() - began < 0.3  # its clock is known from then on
    finally:
        ended.set()
        touching.join()
    os.utime(file, (time.time() + skew - 4.1, time.time() + skew - 4.1))
    mine = got(tmp_path / CLAIM)  # and when it is dead its lease is over by its own clock
    assert mine.number == 2
    mine.release()


@pytest.mark.parametrize("skew", [-5 * HOUR, 5 * HOUR])
def test_a_dead_holder_with_another_clock_is_found_out(skew: float, tmp_path: Path) -> None:
    room._AHEAD.clear()
    elsewhere(tmp_path / CLAIM, age=-skew)
    began = time.monotonic()
    mine = got(tmp_path / CLAIM)
    assert time.monotonic() - began < 2.0
    mine.release()


NODE = """
import fcntl, os, random, sys, time
from pathlib import Path
from scalelab.claims import claim, holder
from scalelab.claims import leases as room
number, skew, mark, enough = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
holder.here = lambda: (f"node{number}", "boot")
stamped, utime = os.utime, os.utime  # a file system whose files are stamped by the node's own clock
os.utime = lambda file, times=None: utime(file, times or (time.time() + skew,) * 2)
room._clock = lambda folder: time.time() + skew
turns, oracle = 0, os.open(mark.with_name("oracle"), os.O_CREAT | os.O_RDWR)
while turns < enough:
    mine = room.claim(mark)
    if mine is None:
        time.sleep(random.uniform(0, 0.02))
        continue
    fcntl.flock(oracle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where another holds the claim at the same time
    print("in", flush=True)
    turns += 1
    time.sleep(random.uniform(0, 0.05))
    fcntl.flock(oracle, fcntl.LOCK_UN)
    mine.release()
"""


@pytest.mark.slow
def test_nodes_with_clocks_hours_apart_are_never_in_at_once_also_when_one_is_killed(tmp_path: Path) -> None:
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", NODE, str(number), str(skew), str(tmp_path / CLAIM), "20"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "SCALELAB_LEASE_SECONDS": "4"},
        )
        for number, skew in enumerate((0.0, 2 * HOUR, -3 * HOUR))
    ]  # fmt: skip
    killed = nodes[2]
    assert killed.stdout is not None and killed.stdout.readline()
    killed.kill()
    killed.communicate()
    came = [node.communicate(timeout=60) for node in nodes[:2]]
    assert [node.returncode for node in nodes] == [0, 0, -signal.SIGKILL], came
    assert [out.count("in") for out, _ in came] == [20, 20]


def test_a_listing_that_misses_the_newest_gives_nobody_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [got(tmp_path / CLAIM)]
    mine[0].release()
    mine.append(got(tmp_path / CLAIM))
    (tmp_path / ".claim.1").unlink()
    stale = iter([0])  # the first look: nothing is there
    monkeypatch.setattr(room, "last", lambda mark: next(stale, last(mark)))
    assert claim(tmp_path / CLAIM) is None and mine[1].held
    assert files(tmp_path) == [".claim.2"]
    mine[1].release()


WORKER = """
import sys
from pathlib import Path
from scalelab.claims import holder
from scalelab.jobs import run_job
from scalelab.trials import RunFolder
from tests.conftest import make_spec

holder.here = lambda: ("node7", "boot")
run_job(make_spec(width=32, tokens=64 * 400), RunFolder(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_holder_that_slept_and_was_taken_over_writes_nothing_when_it_wakes(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SCALELAB_LEASE_SECONDS": "0.8"},
    )  # fmt: skip
    curve, until = tmp_path / "metrics.jsonl", time.monotonic() + 60
    while not (curve.exists() and curve.stat().st_size > 400):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1.0)
        trial = run_job(make_spec(width=32, tokens=64 * 400), RunFolder(tmp_path))
        assert trial is not None and trial.outcome is Outcome.OK
        before = (tmp_path / "trial.json").stat().st_mtime_ns
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert (tmp_path / "trial.json").stat().st_mtime_ns == before and RunFolder(tmp_path).read() == trial
    attempts = [line["attempt"] for line in metrics(tmp_path)]
    assert attempts == sorted(attempts) and set(attempts) == {1, 2}
    assert not list(tmp_path.glob(".claim*")) and not list(tmp_path.glob("*checkpoint*"))


# --- what happens to the folder ---------------------------------------------------------------------------------------


def test_a_folder_that_is_removed_ends_the_claim_without_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    mine = got(folder / CLAIM)
    mine.file.unlink()
    folder.rmdir()
    assert not mine.held
    mine.release()
    with pytest.raises(FileNotFoundError):
        claim(folder / CLAIM)


def test_a_disk_that_is_full_leaves_no_claim_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(room.json, "dumps", full)
        with pytest.raises(OSError, match="No space left"):
            claim(tmp_path / CLAIM)
    assert files(tmp_path) == []
    got(tmp_path / CLAIM).release(done=True)


def test_what_file_systems_and_editors_leave_is_no_claim(tmp_path: Path) -> None:
    for name in (".nfs000000000012ab", ".claim.7~", ".claim.x", ".claim", ".claim.8.nfs01", ".lock", ".claimed.9"):
        (tmp_path / name).touch()
    mine = got(tmp_path / CLAIM)
    assert mine.number == 1 and mine.held
    mine.release(done=True)


def test_a_claim_costs_next_to_nothing(tmp_path: Path) -> None:
    folders = [tmp_path / str(index) for index in range(200)]
    for folder in folders:
        folder.mkdir()
    began = time.process_time()
    for folder in folders:
        got(folder / CLAIM).release(done=True)
    assert (time.process_time() - began) / len(folders) < 2e-3  # 160 µs on an idle core
