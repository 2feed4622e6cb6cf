"""Being asked to stop: noted, acted on between two steps, forgotten when it is done."""

import os
import signal
import threading
from pathlib import Path

import pytest

from scalelab.jobs import Job, run_jobs
from scalelab.stopping import Stopped, ask, asked, heeding
from scalelab.train.loop import Loop
from scalelab.trials import Outcome, RunFolder
from tests.conftest import make_spec
from tests.helpers import metrics


def test_a_signal_is_only_noted_until_somebody_looks() -> None:
    seen = []
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(asked())

    with pytest.raises(Stopped) as stopped, heeding(signal.SIGTERM):
        work()
    assert seen == [True] and stopped.value.code == 143
    assert not asked() and signal.getsignal(signal.SIGTERM) is before


def test_what_was_not_asked_to_stop_goes_on_and_an_error_stays_one() -> None:
    with heeding(signal.SIGTERM):
        pass
    with pytest.raises(KeyError), heeding(signal.SIGTERM):
        _fail_when_asked()
    assert not asked()


def _fail_when_asked() -> None:
    ask()
    raise KeyError


def test_beside_the_main_thread_no_signal_is_taken() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with heeding(signal.SIGTERM):
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def test_runs_are_saved_at_the_step_they_were_at_and_end_as_if_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [make_spec(width=32, seed=seed) for seed in range(3)]
    jobs = [Job(spec=spec, folder=RunFolder(tmp_path / "stopped" / spec.fingerprint)) for spec in specs]
    step = Loop._step

    def stopped_in_the_fifth(self: Loop, population: object) -> None:
        step(self, population)  # type: ignore[arg-type]
        if population.members[0].step == 5:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_step", stopped_in_the_fifth)
        with pytest.raises(Stopped):
            run_jobs(jobs, members=2)
    assert [(job.folder.path / "checkpoint.pt").exists() for job in jobs] == [True, True, False]
    assert not any((job.folder.path / "trial.json").exists() for job in jobs)
    trials = run_jobs(jobs, members=2)
    alone = run_jobs([Job(spec=spec, folder=RunFolder(tmp_path / "whole" / spec.fingerprint)) for spec in specs])
    for job, trial, whole in zip(jobs, trials, alone, strict=True):
        assert trial is not None and whole is not None and trial.outcome is Outcome.OK
        assert trial.loss_nats == whole.loss_nats
        steps = [line["step"] for line in metrics(job.folder.path)]
        assert steps == list(range(10)), "a step was trained twice, or is not on the curve"
