"""A command's run: how it ends, what is written down, and that nothing of it is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scalelab import command, stopping
from scalelab.command import CommandFailed, Place, process, supervisor
from scalelab.jobs import Job, run_job, run_jobs
from scalelab.spec import RunSpec
from scalelab.trials import Outcome, RunFolder, Trial
from tests.command.commanding import commanded, keys, wait_for
from tests.conftest import ROOT
from tests.helpers import metrics


def folder_of(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir(exist_ok=True)
    return RunFolder(tmp_path / "run")


def outcome(spec: RunSpec, folder: RunFolder) -> Trial:
    """The trial of a run that is to come to no result."""
    with pytest.raises(CommandFailed):
        run_job(spec, folder)
    return folder.read()


def log(folder: RunFolder) -> str:
    return (folder.path / "command.log").read_text()


def test_a_run_is_read_judged_and_kept(tmp_path: Path) -> None:
    spec, folder = commanded(tmp_path), folder_of(tmp_path)
    trial = run_job(spec, folder)
    assert trial is not None and trial.outcome is Outcome.OK
    assert trial.loss_nats == 3.0 + spec.hparams.lr
    assert trial.train_loss_nats == pytest.approx(4.1 + spec.hparams.lr)
    assert trial.loss_bits_per_byte == pytest.approx(trial.loss_nats / 0.693147 / 4, rel=1e-5)
    assert trial.tokens_seen == spec.horizon.tokens and trial.cost_flops == spec.cost_flops
    assert folder.read() == trial
    curve = folder.metrics()
    assert [at["step"] for at in curve] == [*range(10), 10]
    assert {"attempt", "step", "tokens", "loss_nats", "lr", "seconds", "time"} <= set(curve[0])
    assert curve[-1]["validation_loss_nats"] == trial.loss_nats
    assert "attempt 1 threads 1" in log(folder)
    assert supervisor.marked(str(folder.path)) == []


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    spec, folder = commanded(tmp_path), folder_of(tmp_path)
    first = run_job(spec, folder)
    (tmp_path / "trainer.py").write_text("raise SystemExit(9)")
    assert run_job(spec, folder) == first


def test_several_are_run_one_after_the_other(tmp_path: Path) -> None:
    specs = [commanded(tmp_path), commanded(tmp_path, argv=[*keys(tmp_path)["argv"], "more"])]
    jobs = [Job(spec=spec, folder=RunFolder(tmp_path / spec.fingerprint)) for spec in specs]
    assert [trial.outcome for trial in run_jobs(jobs) if trial] == [Outcome.OK, Outcome.OK]


def test_nan_is_a_result_and_ends_the_command(tmp_path: Path) -> None:
    folder, started = folder_of(tmp_path), time.monotonic()
    trial = run_job(commanded(tmp_path, "nan"), folder)
    assert trial is not None and trial.outcome is Outcome.DIVERGED
    assert trial.reason == "training loss nan at step 4" and trial.tokens_seen == 4 * 64
    assert time.monotonic() - started < 10
    assert metrics(folder.path)[-1]["loss_nats"] is None


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("crash", "exit status 1.*MemoryError: no memory for this"),
        ("exit7", "exit status 7"),
        ("killed", "ended by SIGKILL"),
        ("unvalidated", r"exit status 0, but no validation loss was found: looked for keys 'loss', 'validation_loss'"),
        ("silent", "which is not there"),
        ("early", "the last validation loss found is of step 7 of 10"),
    ],
)
def test_a_run_without_a_result_says_why(tmp_path: Path, how: str, said: str) -> None:
    trial = outcome(commanded(tmp_path, how), folder_of(tmp_path))
    assert trial.outcome is Outcome.FAILED and trial.loss_nats is None
    assert trial.reason is not None and "\n" not in trial.reason
    assert re.search(said, trial.reason), trial.reason


def test_an_exit_status_may_mean_something(tmp_path: Path) -> None:
    trial = run_job(commanded(tmp_path, "exit7", outcomes={"7": "diverged"}), folder_of(tmp_path))
    assert trial is not None and trial.outcome is Outcome.DIVERGED and "exit status 7" in str(trial.reason)


def test_an_exit_status_may_mean_ok(tmp_path: Path) -> None:
    trial = run_job(commanded(tmp_path, "exit7", outcomes={"7": "ok"}), folder_of(tmp_path))
    assert trial is not None and trial.outcome is Outcome.OK


def test_a_loss_far_above_the_start_has_diverged(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").write_text(
        "import sys; open(sys.argv[2] + '/log.jsonl', 'w').write("
        '\'{"step": 0, "loss": 2.0}\\n{"step": 10, "validation_loss": 3.5}\\n\')'
    )
    trial = run_job(commanded(tmp_path), folder_of(tmp_path))
    assert trial is not None and trial.outcome is Outcome.DIVERGED
    assert trial.reason == "loss 3.500 against 2.000 nats at the start"


def test_diverging_means_the_same_as_for_runs_of_scalelab() -> None:
    from scalelab.command.outcome import DIVERGED_ABOVE_START_NATS
    from scalelab.train import DIVERGED_ABOVE_START_NATS as OWN

    assert DIVERGED_ABOVE_START_NATS == OWN


@pytest.mark.parametrize("result", ["last_training", "min_training"])
def test_a_training_loss_is_the_result_where_that_is_said(tmp_path: Path, result: str) -> None:
    spec = commanded(tmp_path, "unvalidated", metrics={"result": result})
    trial = run_job(spec, folder_of(tmp_path))
    assert trial is not None and trial.loss_nats == pytest.approx(4.1 + spec.hparams.lr)


def test_what_it_prints_can_be_read(tmp_path: Path) -> None:
    patterns = [
        r"step=(?P<step>\d+) loss=(?P<loss>\S+)",
        r"step=(?P<step>\d+) validation_loss=(?P<validation_loss>\S+)",
    ]
    spec = commanded(tmp_path, metrics={"kind": "regex", "patterns": patterns, "unit": "bits_per_token"})
    trial = run_job(spec, folder_of(tmp_path))
    assert trial is not None and trial.loss_nats == pytest.approx((3.0 + spec.hparams.lr) * 0.693147, rel=1e-5)
    assert len(folder_of(tmp_path).metrics()) == 11


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    trial = outcome(commanded(tmp_path, argv=["no-such-program", "{lr}"]), folder_of(tmp_path))
    assert trial.reason is not None
    assert "cannot be started: no-such-program: No such file or directory" in trial.reason


def test_nothing_of_an_argument_is_run_by_a_shell(tmp_path: Path) -> None:
    words = [f"$(touch {tmp_path}/a)", f"; touch {tmp_path}/b", f"`touch {tmp_path}/c`", "a && b | c > d", "*", "~"]
    (tmp_path / "trainer.py").write_text(
        "import json, sys; open(sys.argv[2] + '/got', 'w').write(json.dumps(sys.argv[5:]))"
    )
    spec = commanded(tmp_path, argv=[*keys(tmp_path)["argv"], *words])
    folder = folder_of(tmp_path)
    outcome(spec, folder)
    assert json.loads((folder.path / "got").read_text()) == words
    assert not any((tmp_path / name).exists() for name in "abcd")


def test_its_environment_and_place(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").write_text(
        "import os, sys; open(sys.argv[2] + '/got', 'w').write("
        "'\\n'.join([os.getcwd(), os.environ['WIDTH'], os.environ['OMP_NUM_THREADS'], sys.argv[-1]]))"
    )
    given: dict[str, Any] = {"env": {"WIDTH": "w{width}"}, "cwd": str(tmp_path), "machine_argv": ["--on={device}"]}
    folder = folder_of(tmp_path)
    with pytest.raises(CommandFailed):
        run_job(commanded(tmp_path, **given), folder, threads=3)
    assert (folder.path / "got").read_text().split("\n") == [str(tmp_path), "w64", "3", "--on=cpu"]


def test_it_may_not_take_longer_than_it_may(tmp_path: Path) -> None:
    started = time.monotonic()
    trial = outcome(commanded(tmp_path, "slow", timeout_minutes=0.01), folder_of(tmp_path))
    assert trial.reason is not None
    assert trial.reason.startswith("it took longer than trainer.timeout_minutes=0.01; ended by SIGTERM")
    assert time.monotonic() - started < 10


@contextmanager
def asking_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Ask this process to stop once it is time."""
    thread = threading.Thread(target=lambda: (wait_for(condition), stopping.ask()))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_who_does_not_heed_sigterm_is_killed(tmp_path: Path) -> None:
    folder, started = folder_of(tmp_path), time.monotonic()
    with asking_when(lambda: len(metrics_of(folder)) > 3), pytest.raises(stopping.Stopped):
        run_job(commanded(tmp_path, "stubborn"), folder)
    assert time.monotonic() - started > 1.0  # its grace
    assert supervisor.marked(str(folder.path)) == []


def test_asked_to_stop_it_is_stopped_and_goes_on_when_launched_again(tmp_path: Path) -> None:
    spec, folder = commanded(tmp_path, "saving"), folder_of(tmp_path)
    with asking_when(lambda: len(metrics_of(folder)) > 4), pytest.raises(stopping.Stopped):
        run_job(spec, folder)
    assert not (folder.path / "trial.json").exists()
    assert (folder.path / "checkpoint" / "step").read_text() == "4"
    trial = run_job(spec, folder)
    assert trial is not None and trial.outcome is Outcome.OK and trial.provenance["attempt"] == "2"
    assert "attempt 2" in log(folder)
    assert sorted({at["step"] for at in folder.metrics()}) == list(range(11))  # the step that it saved is told twice


def metrics_of(folder: RunFolder) -> list[dict[str, Any]]:
    return metrics(folder.path) if (folder.path / "metrics.jsonl").exists() else []


class Rule:
    """A pruner that ends a run at a rung."""

    def __init__(self, at: int | None) -> None:
        self.at, self.rungs, self.told, self.trial = at, (2, 4, 6), [], None

    def stops(self, *, step: int, tokens: int, loss_nats: float) -> str | None:
        self.told.append((step, tokens, loss_nats))
        return f"bad at {step}" if step == self.at else None

    def ended(self, trial: Trial) -> None:
        self.trial = trial


def test_a_pruner_is_asked_at_its_rungs(tmp_path: Path) -> None:
    spec, folder, rule = commanded(tmp_path, "validating"), folder_of(tmp_path), Rule(at=4)
    trial = command.run(spec, Place(folder=folder.path), pruner=rule)
    assert trial.outcome is Outcome.PRUNED and trial.reason == "bad at 4" and rule.trial is not None
    assert [(step, tokens) for step, tokens, _ in rule.told] == [(2, 128), (4, 256)]
    assert rule.told[0][2] == pytest.approx(3.9)  # what is told after that step
    assert trial.tokens_seen < spec.horizon.tokens


def test_rungs_that_were_passed_are_asked_once_each(tmp_path: Path) -> None:
    rule = Rule(at=None)
    trial = command.run(commanded(tmp_path), Place(folder=folder_of(tmp_path).path), pruner=rule)
    assert trial.outcome is Outcome.OK
    assert [step for step, _, _ in rule.told] == [2, 4, 6]


def guard_of(folder: RunFolder) -> int:
    """The supervisor of a command that runs there."""
    (guard,) = [
        pid
        for pid in supervisor.marked(str(folder.path))
        if supervisor.__file__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    return guard


WORKER = """
import sys
from pathlib import Path
from scalelab.jobs import run_job
from scalelab.trials import RunFolder
from tests.command.commanding import commanded

trial = run_job(commanded(Path(sys.argv[1]), sys.argv[2]), RunFolder(Path(sys.argv[1]) / "run"))
print("in use" if trial is None else trial.outcome)
"""


def worker(tmp_path: Path, how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), how], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
@pytest.mark.parametrize("how", ["slow", "stubborn"])
def test_nothing_is_left_when_scalelab_is_killed(tmp_path: Path, how: str) -> None:
    folder, running = folder_of(tmp_path), worker(tmp_path, how)
    wait_for(lambda: len(metrics_of(folder)) > 3)
    assert len(supervisor.marked(str(folder.path))) == 2  # the supervisor and the command
    running.kill()
    running.communicate()
    wait_for(lambda: supervisor.marked(str(folder.path)) == [])


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
def test_an_orphan_is_ended_before_the_command_is_launched_again(tmp_path: Path) -> None:
    folder, running = folder_of(tmp_path), worker(tmp_path, "slow")
    wait_for(lambda: len(metrics_of(folder)) > 3)
    guard = guard_of(folder)
    (orphan,) = set(supervisor.marked(str(folder.path))) - {guard}
    os.kill(running.pid, signal.SIGSTOP)  # it would notice
    os.kill(guard, signal.SIGKILL)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert supervisor.marked(str(folder.path)) == [orphan]
    (folder.path / "checkpoint" / "step").write_text("4")
    trial = run_job(commanded(tmp_path, "slow"), folder)
    assert trial is not None and trial.outcome is Outcome.OK
    assert supervisor.marked(str(folder.path)) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
def test_what_a_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").write_text(
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)"
    )
    folder = folder_of(tmp_path)
    trial = outcome(commanded(tmp_path), folder)
    assert trial.reason is not None and "exit status 0" in trial.reason
    assert supervisor.marked(str(folder.path)) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
def test_a_killed_supervisor_is_noticed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)

    def kill() -> None:
        wait_for(lambda: len(metrics_of(folder)) > 3)
        os.kill(guard_of(folder), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    trial = outcome(commanded(tmp_path, "slow"), folder)
    thread.join()
    assert trial.reason is not None and "its supervisor was killed" in trial.reason
    assert supervisor.marked(str(folder.path)) == []


def test_a_process_that_does_not_end_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.supervisor, "ended", lambda *_, **__: False)
    monkeypatch.setattr(process.supervisor, "marked", lambda *_: [4711])
    with pytest.raises(ValueError, match="process 4711 of an earlier launch still runs there"):
        run_job(commanded(tmp_path), folder_of(tmp_path))


def test_a_run_that_was_taken_over_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalelab.command.running.HELD_SECONDS", 0.0)
    folder = folder_of(tmp_path)
    with pytest.raises(CommandFailed, match="another process has taken this run over"):
        command.run(commanded(tmp_path, "slow"), Place(folder=folder.path), held=lambda: False)
    assert supervisor.marked(str(folder.path)) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
def test_a_folder_is_the_same_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    folder, running = folder_of(tmp_path), worker(tmp_path / "link", "slow")
    try:
        wait_for(lambda: len(metrics_of(folder)) > 3)
        assert len(supervisor.marked(str(folder.path))) == 2
    finally:
        running.kill()
        running.communicate()
    wait_for(lambda: supervisor.marked(str(folder.path)) == [])


@pytest.mark.slow
def test_a_command_that_logs_to_wandb(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / "trainer.py").write_text(
        "import wandb\nrun = wandb.init(project='theirs')\n"
        "for step in range(10): run.log({'loss': 5.0 - step / 10}, step=step)\n"
        "run.log({'val/loss': 3.25}, step=10)\nrun.finish()\n"
    )
    folder = folder_of(tmp_path)
    spec = commanded(tmp_path, metrics={"kind": "wandb", "keys": {"validation_loss": "val/loss"}}, grace_seconds=20.0)
    trial = run_job(spec, folder)
    assert trial is not None and trial.loss_nats == 3.25
    assert [at["loss_nats"] for at in folder.metrics()][:10] == pytest.approx([5.0 - step / 10 for step in range(10)])
    assert supervisor.marked(str(folder.path)) == []
