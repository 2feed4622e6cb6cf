"""Killed with -9, at the worst moment: nothing torn is taken for whole, and the next launch ends as if nothing was."""

import json
import signal
from pathlib import Path

import pytest

from scalelab.jobs import run_job
from scalelab.status import State, look
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import make_spec
from tests.faults.helpers import LAUNCHERS, launched, python, steps_of_attempts, trials, under_way
from tests.helpers import metrics, wait_for

# A worker that is killed in the middle of a write of its own.
WORKER = """
import os, signal, sys
from pathlib import Path
from scalelab import files, jobs, train
from scalelab.train import checkpoint, loop
from scalelab.trials import RunFolder
from tests.conftest import make_spec

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(*_):  # what torch writes, cut off
    Path(_[1]).write_bytes(b"PK\\x03\\x04 and no more")
    die()

where, folder = sys.argv[1], RunFolder(Path(sys.argv[2]))
if where == "trial":
    sync = os.fsync
    files.os.fsync = lambda file: die() if "trial.json" in os.readlink(f"/proc/self/fd/{file}") else sync(file)
elif where == "metrics":
    append = RunFolder.append
    def torn(self, record):
        if record["step"] == 5:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write('{"attempt": 1, "step": 5, "tok')
            die()
        append(self, record)
    RunFolder.append = torn
elif where == "checkpoint":
    loop.SAVE_SECONDS = 0.0
    checkpoint.torch.save = half
else:  # a second checkpoint, when there is a whole one
    loop.SAVE_SECONDS = 0.0
    save, saved = checkpoint.torch.save, []
    checkpoint.torch.save = lambda *given: half(*given) if len(saved) == 3 else (saved.append(1), save(*given))
jobs.run_job(make_spec(width=32), folder)
"""


def never_killed(tmp_path: Path) -> Trial:
    trial = run_job(make_spec(width=32), RunFolder(tmp_path / "alone"))
    assert trial is not None
    return trial


SLOW = [pytest.param(where, marks=pytest.mark.slow) for where in ("metrics", "checkpoint")]


@pytest.mark.parametrize("where", ["trial", "second checkpoint", *SLOW])
def test_a_worker_that_is_killed_in_the_middle_of_a_write(where: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "study" / "run")
    folder.path.mkdir(parents=True)
    process = python(WORKER, where, folder.path)
    _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said
    left = sorted(file.name for file in folder.path.iterdir() if file.name not in ("spec.json", "metrics.jsonl"))
    assert ".claim.1" in left and len(left) == (3 if where == "second checkpoint" else 2 if where != "metrics" else 1)
    assert look([tmp_path / "study"])[0].counts == {State.STOPPED: 1}  # nobody is at work on it, and it has no trial
    trial, whole = run_job(make_spec(width=32), folder), never_killed(tmp_path)
    assert trial is not None and trial.outcome is Outcome.OK and trial.loss_nats == whole.loss_nats
    assert sorted(file.name for file in folder.path.iterdir()) == ["metrics.jsonl", "spec.json", "trial.json"]
    curve, other = folder.metrics(), RunFolder(tmp_path / "alone").metrics()
    assert [(at["step"], at["loss_nats"]) for at in curve] == [(at["step"], at["loss_nats"]) for at in other]
    resumed = min(line["step"] for line in metrics(folder.path) if line["attempt"] == 2)
    assert (resumed > 0) is (where in ("second checkpoint", "trial")) or where == "trial"


def test_a_record_that_is_half_written_is_no_record(tmp_path: Path) -> None:
    run_job(make_spec(width=32), RunFolder(tmp_path))
    whole = RunFolder(tmp_path).metrics()
    text = (tmp_path / "metrics.jsonl").read_text()
    for cut in range(len(text) - 200, len(text), 7):
        (tmp_path / "metrics.jsonl").write_text(text[:cut])
        found = RunFolder(tmp_path).metrics()
        assert found == whole[: len(found)] and len(found) >= len(whole) - 3
    assert all(json.dumps(record) in text for record in whole)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_that_is_killed(launcher: str, tmp_path: Path) -> None:
    arguments = ["tokens=12800", "seed=0,1,2"]
    process, study = launched(tmp_path, *arguments, launcher=launcher), tmp_path / "runs" / "adhoc"
    wait_for(lambda: process.poll() is not None or len(under_way(study)) >= (2 if launcher == "fused" else 1))
    process.kill()
    process.communicate()
    begun = under_way(study)
    if launcher == "fused":  # its workers notice, save what they train, and end
        wait_for(lambda: all((run / "checkpoint.pt").exists() for run in begun), seconds=20)
        wait_for(lambda: look([study])[0].counts.get(State.RUNNING, 0) == 0, seconds=20)
    again = launched(tmp_path, *arguments, launcher=launcher)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    found = trials(study)
    alone = {k: run_job(t.spec, RunFolder(tmp_path / "alone" / k)) for k, t in found.items()}
    assert len(found) == 3 and {k: t.loss_nats for k, t in found.items()} == {
        k: t.loss_nats for k, t in alone.items() if t is not None
    }
    if launcher == "fused":
        for run in begun:
            assert min(steps_of_attempts(run)[2]) > 0, "it began anew"
