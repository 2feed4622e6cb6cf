"""Studies on a real SLURM: whatever dies, every run is there once, and is the run that was trained here."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from scalelab import train
from scalelab.trials import Outcome, RunFolder
from tests.cluster.conftest import (
    check_once_and_as_here,
    finished,
    here,
    last_attempt,
    launcher,
    looking,
    numbers,
    wait_for,
)  # fmt: skip
from tests.cluster.slurm import Cluster
from tests.helpers import TINY

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.cluster]

SLURM = ("hydra/launcher=slurm", "hydra.launcher.partition=main", "hydra.launcher.poll_seconds=0.5")
MEMBERS = "hydra.launcher.members=3"


def runs_of(study: Path, job: str) -> list[Path]:
    """The folders of the runs that a job was given, by the study's book."""
    entries = json.loads((study / ".engine" / "tickets.json").read_text())
    return [study / name for entry in entries if entry["ticket"] == job for name in entry["runs"]]


def in_training(cluster: Cluster, study: Path, *, but: set[str] = frozenset()) -> str | None:  # type: ignore[assignment]
    """A job in the middle of training, with some way to go."""
    if not (study / ".engine" / "tickets.json").exists():
        return None
    for job, state in cluster.queue().items():
        runs = runs_of(study, job)
        if job in but or state != "RUNNING" or not runs or any((run / "trial.json").exists() for run in runs):
            continue
        steps = [records[-1]["step"] for run in runs if (records := RunFolder(run).metrics())]
        if steps and 0 < max(steps) < STEPS * 2 // 3:
            return job
    return None


STEPS = 900
TOKENS = f"tokens={64 * STEPS}"
STUDY = (*TINY, TOKENS, "lr=0.002,0.005,0.01,0.02,0.05,0.1", "seed=0,1,2,3")


def test_a_study_is_whole_whatever_dies(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("-m", *SLURM, MEMBERS, "hydra.launcher.workers=4", *STUDY)
    study = tmp_path / "runs" / "adhoc"
    hit: set[str] = set()
    started = time.monotonic()

    def a_job() -> str:
        def look() -> bool:
            assert running.poll() is None, (tmp_path / "launcher.log").read_text()
            found.update({job} if (job := in_training(slurm, study, but=hit)) else ())
            return bool(found)

        found: set[str] = set()
        wait_for(look, "a job in training")
        hit.update(found)
        return found.pop()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s {what}", slurm.queue())  # noqa: T201

    with looking(study) as seen, launcher(arguments, tmp_path, slurm.environment) as running:
        saved: list[Path] = []
        for what, tell in {
            "warning": slurm.signal,
            "requeue": lambda job: slurm.call("scontrol", "requeue", job),
            "cancel": lambda job: slurm.call("scancel", job),
        }.items():
            job = a_job()
            say(f"{what} {job}")
            saved += runs_of(study, job)
            tell(job)
            wait_for(lambda job=job: slurm.queue()[job] not in ("RUNNING", "COMPLETING"), f"the end of {job}")
        job = a_job()
        node = slurm.call("squeue", "--noheader", f"--job={job}", "--format=%N").strip()
        say(f"kill {node} {job}")
        slurm.kill(node)
        for pid in slurm.steps(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        slurm.start(node)
        say("kill slurmctld")
        slurm.kill("slurmctld")
        time.sleep(3)
        slurm.start("slurmctld")
        slurm.wait_for_controller()
        a_job()
        say("kill launcher")
        running.send_signal(signal.SIGKILL)
        running.wait()
        with launcher(arguments, tmp_path, slurm.environment) as second:
            said = finished(second, tmp_path)
        seen.look()
        say("done")
    assert said.rstrip().endswith("24 runs: 24 OK")
    assert len(seen.final) == 24
    check_once_and_as_here(seen, here(STUDY, tmp_path, monkeypatch))
    for folder in saved:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        first, second = ([line["step"] for line in lines if line["attempt"] == attempt] for attempt in (1, 2))
        assert first and second and second[0] > first[-1], "a run was not gone on with where it had been saved"


def submitted(study: Path) -> list[str]:
    return sorted(file.name.removesuffix("_submitted.pkl") for file in study.glob(".submitit/*_submitted.pkl"))


def test_a_run_longer_than_the_time_limit_goes_on_where_it_was(slurm: Cluster, tmp_path: Path) -> None:
    study = (*TINY, "tokens=1024000", "seed=0")  # 16 000 steps; SLURM warns 8 to 38 s after the start
    (tmp_path / "here").mkdir()
    limit = ("hydra.launcher.minutes=1", "hydra.launcher.signal_seconds=22")
    with (
        launcher(("-m", *SLURM, *limit, *study), tmp_path, slurm.environment) as there,
        launcher(("-m", *study), tmp_path / "here", slurm.environment) as local,
    ):
        finished(there, tmp_path)
        finished(local, tmp_path / "here")
    (run,) = (tmp_path / "runs" / "adhoc").glob("*/trial.json")
    (other,) = (tmp_path / "here" / "runs" / "adhoc").glob("*/trial.json")
    assert numbers(run.parent) == numbers(other.parent)
    (job,) = submitted(tmp_path / "runs" / "adhoc")
    log = (tmp_path / "runs" / "adhoc" / ".submitit" / f"{job}_0_log.err").read_text()
    assert "this job is timed-out" in log and last_attempt(run.parent) > 1
    steps = [json.loads(line)["step"] for line in (run.parent / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "steps were trained again after the warning"


def test_two_launchers_queue_nothing_twice(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    arguments = ("-m", *SLURM, MEMBERS, "hydra.launcher.workers=2", *TINY, "seed=0,1,2,3,4,5", f"out={tmp_path}/runs")
    with (
        launcher(arguments, tmp_path, slurm.environment) as one,
        launcher(arguments, tmp_path / "other", slurm.environment) as two,
    ):
        finished(one, tmp_path)
        finished(two, tmp_path / "other")
    assert len(submitted(tmp_path / "runs" / "adhoc")) == 2
    assert len(list((tmp_path / "runs" / "adhoc").glob("*/trial.json"))) == 6


def test_a_search_is_trained_there_batch_by_batch(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = (
        "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2",
        *TINY, "lr=tag(log,interval(1e-3,1e-1))",
    )  # fmt: skip
    with launcher(("-m", *SLURM, "hydra.launcher.workers=1", *search), tmp_path, slurm.environment) as process:
        finished(process, tmp_path)
    local = here(search, tmp_path, monkeypatch)
    study = tmp_path / "runs" / "adhoc"
    assert len(submitted(study)) == 2
    runs = {file.parent.name for file in study.glob("*/trial.json")}
    assert runs == {file.parent.name for file in local.glob("*/trial.json")} and len(runs) == 4
    for run in runs:
        assert numbers(study / run) == numbers(local / run)


def search(*arguments: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What `scalelab search` says, run to its end in a shell of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "scalelab.cli", "search", *arguments], cwd=folder, env={**environment}, text=True,
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_search_goes_on_without_its_shell_and_in_another_one(slurm: Cluster, tmp_path: Path) -> None:
    asked = (
        "hydra/sweeper=optuna", "hydra/sweeper/sampler=carbs", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=3",
        "hydra.sweeper.objectives=[loss_nats,cost_flops]", *TINY, "lr=tag(log,interval(1e-3,1e-1))",
    )  # fmt: skip
    study = tmp_path / "runs" / "adhoc"
    said = search("run", *SLURM, *asked, "--detach", folder=tmp_path, environment=slurm.environment)
    driver = int(re.findall(r"in process (\d+)", said)[0])
    wait_for(lambda: list(study.glob("*/trial.json")), "a run to end")
    os.kill(driver, signal.SIGKILL)
    ended = search("attach", str(study), folder=tmp_path, environment=slurm.environment)
    assert "6 OK" in ended
    runs = [RunFolder(file.parent) for file in study.glob("*/trial.json")]
    assert len(runs) == 6 == len({run.read().spec.hparams.lr for run in runs})
    assert [last_attempt(run.path) for run in runs] == [1] * 6 and len(submitted(study)) <= 6


def test_a_task_trains_a_run_in_several_processes(slurm: Cluster, tmp_path: Path) -> None:
    with launcher(("-m", *SLURM, *TINY, "seed=0,1", "parallel=ddp"), tmp_path, slurm.environment) as process:
        finished(process, tmp_path)
    trials = [RunFolder(file.parent).read() for file in (tmp_path / "runs" / "adhoc").glob("*/trial.json")]
    assert len(trials) == 2 and {trial.outcome for trial in trials} == {Outcome.OK}
    for trial in trials:
        assert trial.loss_nats == pytest.approx(train.run([trial.spec])[0].loss_nats, rel=1e-5)


def test_a_partition_that_there_is_not_is_refused_in_a_line(slurm: Cluster, tmp_path: Path) -> None:
    arguments = ("-m", "hydra/launcher=slurm", "hydra.launcher.partition=nowhere", *TINY, "seed=0,1")
    with launcher(arguments, tmp_path, slurm.environment) as process:
        assert process.wait(timeout=120) == 2
    said = (tmp_path / "launcher.log").read_text()
    assert "SLURM does not take the jobs of" in said.splitlines()[-1] and "partition" in said.splitlines()[-1]
    assert "Traceback" not in said
