"""One job in one folder: finished work is kept, failed work is repeated, killed work is lost at most once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scalelab import files, jobs, train
from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.jobs import run_job
from scalelab.spec import RunSpec, as_plain
from scalelab.train.population import Population
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import ROOT, make_spec
from tests.helpers import metrics, tree, wait_for

LONG = 64 * 1500  # tokens of a run that takes seconds: long enough to be caught in the middle

WORKER = f"""
from pathlib import Path
import sys
from scalelab.jobs import run_job
from scalelab.trials import RunFolder
from tests.conftest import make_spec

trial = run_job(make_spec(width=32, tokens={LONG}), RunFolder(Path(sys.argv[1])))
print("in use" if trial is None else trial.outcome)
"""


def start_worker(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def has_started(folder: Path) -> bool:
    return (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").stat().st_size > 200


def failing(*args: Any, **kwargs: Any) -> list[Trial]:
    raise RuntimeError("out of memory: the machine's fault")


def test_a_job_writes_its_trial_and_its_curve(tmp_path: Path) -> None:
    spec = make_spec(width=32)
    trial = run_job(spec, RunFolder(tmp_path / "run"))
    assert trial is not None and trial.outcome is Outcome.OK
    assert RunFolder(tmp_path / "run").read() == trial
    plain = json.loads((tmp_path / "run" / "trial.json").read_text())
    assert plain["fingerprint"] == spec.fingerprint
    assert {"scalelab", "host", "python", "torch", "started", "threads"} <= set(plain["provenance"])
    curve = metrics(tmp_path / "run")
    assert [at["step"] for at in curve] == list(range(spec.horizon.steps))
    assert set(curve[0]) == {"attempt", "step", "tokens", "loss_nats", "lr", "seconds", "time"}
    assert curve == RunFolder(tmp_path / "run").metrics()


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, folder = make_spec(width=32, tokens=64), RunFolder(tmp_path)
    first = run_job(spec, folder)
    before = tree(tmp_path)
    monkeypatch.setattr(train, "run", failing)
    assert run_job(spec, folder) == first
    assert tree(tmp_path) == before


def test_a_diverged_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("sp", width=32, optimizer="sgd", hparams={"lr": 1e30, "clip_norm": None})
    first = run_job(spec, RunFolder(tmp_path))
    assert first is not None and first.outcome is Outcome.DIVERGED
    assert metrics(tmp_path)[-1]["step"] == first.tokens_seen // 64
    monkeypatch.setattr(train, "run", failing)
    assert run_job(spec, RunFolder(tmp_path)) == first


def test_a_failed_run_says_why_and_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, folder = make_spec(width=32), RunFolder(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Population, "validate", failing)  # after the last step: the curve is there
        with pytest.raises(RuntimeError, match="out of memory"):
            run_job(spec, folder)
    failed = folder.read()
    assert failed.outcome is Outcome.FAILED and folder.final(failed.spec) is None
    assert failed.reason == "RuntimeError: out of memory: the machine's fault"
    assert failed.loss_nats is None
    trial = run_job(spec, folder)
    assert trial is not None and trial.outcome is Outcome.OK
    assert {at["attempt"] for at in metrics(tmp_path)} == {1, 2}
    curve = folder.metrics()
    assert {at["attempt"] for at in curve} == {2} and len(curve) == spec.horizon.steps


def test_a_killed_run_starts_over_and_ends_once(tmp_path: Path) -> None:
    process = start_worker(tmp_path)
    wait_for(lambda: has_started(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "trial.json").exists()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"attempt": 1, "step": 9, "tok')  # what a kill in the middle of a write leaves
    trial = run_job(make_spec(width=32, tokens=LONG), RunFolder(tmp_path))
    assert trial is not None and trial.outcome is Outcome.OK
    attempts = [at["attempt"] for at in metrics(tmp_path)]
    assert attempts == sorted(attempts) and set(attempts) == {1, 2}
    curve = RunFolder(tmp_path).metrics()
    assert curve[0]["step"] == 0 and curve[-1]["step"] == 1499
    assert [file.name for file in tmp_path.rglob("trial.json")] == ["trial.json"]


def test_of_two_processes_only_one_trains(tmp_path: Path) -> None:
    process = start_worker(tmp_path)
    try:
        wait_for(lambda: has_started(tmp_path))
        assert run_job(make_spec(width=32, tokens=LONG), RunFolder(tmp_path)) is None
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert output.strip() == "OK"
    assert {at["attempt"] for at in metrics(tmp_path)} == {1}
    assert RunFolder(tmp_path).read().outcome is Outcome.OK


def test_a_run_that_ended_while_its_lock_was_awaited_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, folder = make_spec(width=32, tokens=64), RunFolder(tmp_path)
    finals = iter([None])  # not there at the first look; there under the lock
    trial = run_job(spec, folder)
    final = RunFolder.final
    monkeypatch.setattr(RunFolder, "final", lambda self, spec: next(finals, final(self, spec)))
    monkeypatch.setattr(jobs, "_run", failing)
    assert run_job(spec, folder) == trial


# --- the files --------------------------------------------------------------------------------------------------------


def test_a_write_leaves_the_whole_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "file.json", "one")
    write_atomically(tmp_path / "new" / "file.json", "two")
    assert os.listdir(tmp_path / "new") == ["file.json"]
    assert (tmp_path / "new" / "file.json").read_text() == "two"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError("no space left on device")

    write_atomically(tmp_path / "file.json", "old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "file.json", "new")
    assert os.listdir(tmp_path) == ["file.json"]
    assert (tmp_path / "file.json").read_text() == "old"


def _edited(of: RunSpec, /, **changes: Any) -> str:
    trial = as_plain(Trial(spec=of, outcome=Outcome.OK, loss_nats=3.0))
    return json.dumps(trial | {"version": 1, "fingerprint": of.fingerprint} | changes)


CORRUPT: dict[str, Callable[[RunSpec], bytes]] = {
    "empty": lambda spec: b"",
    "cut off": lambda spec: _edited(spec)[:300].encode(),
    "no text": lambda spec: b"\xff\xfe\x00\x80",
    "no mapping": lambda spec: b"[1, 2]",
    "another version": lambda spec: _edited(spec, version=99).encode(),
    "no loss": lambda spec: _edited(spec, loss_nats=None).encode(),
    "unknown outcome": lambda spec: _edited(spec, outcome="FINE").encode(),
    "no spec": lambda spec: _edited(spec, spec=3).encode(),
    "spec of another version": lambda spec: _edited(spec, spec={**as_plain(spec), "warp": 9}).encode(),
    "spec without shape": lambda spec: _edited(spec, spec={**as_plain(spec), "shape": {}}).encode(),
    "spec without data": lambda spec: _edited(spec, spec={**as_plain(spec), "data": {}}).encode(),
}


@pytest.mark.parametrize("how", CORRUPT)
def test_a_corrupt_trial_is_refused_in_one_line_and_left_alone(how: str, tmp_path: Path) -> None:
    spec = make_spec(width=32)
    (tmp_path / "trial.json").write_bytes(CORRUPT[how](spec))
    before = tree(tmp_path)
    with pytest.raises(Refused) as refused:
        run_job(spec, RunFolder(tmp_path))
    assert "trial.json" in str(refused.value) and "\n" not in str(refused.value)
    assert tree(tmp_path) == before


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run_job(make_spec(width=32, tokens=64), RunFolder(tmp_path))
    with pytest.raises(Refused, match="holds run"):
        run_job(make_spec(width=32, tokens=64, seed=1), RunFolder(tmp_path))
