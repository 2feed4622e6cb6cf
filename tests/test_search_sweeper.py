"""A search from the command line, through Hydra's launchers and with runs that train."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from scalelab import train
from scalelab.readers.optuna_study import open_study
from scalelab.spec import RunSpec
from scalelab.trials import Trial
from tests.helpers import TINY, metrics, one_line, scalelab, squeezed

LR = "lr=tag(log,interval(1e-4,1e-1))"
SEARCH = ("train", "-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", *TINY, "study=s", LR)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def states() -> list[TrialState]:
    return [trial.state for trial in open_study("runs/s").get_trials()]


def test_hydra_finds_the_sweeper_and_optuna_waits() -> None:
    code = (
        "import sys\n"
        "from hydra.core.plugins import Plugins\n"
        "from hydra.plugins.sweeper import Sweeper\n"
        "names = {found.__name__ for found in Plugins.instance().discover(Sweeper)}\n"
        "assert {'OptunaSweeper', 'PlannedSweeper'} <= names, names\n"
        "assert 'optuna' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_dry_run_shows_space_sampler_and_cost_and_creates_nothing(folder: Path) -> None:
    given = ["width=range(32,160,32)", "hydra.sweeper.n_trials=7", "hydra/sweeper/sampler=tpe"]
    result = scalelab(*SEARCH, *given, "--dry-run")
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert "TPESampler minimises loss_nats over width 32 < 64 < 96 < 128 lr log 0.0001 to 0.1" in text
    low, high = re.findall(r"costs (\S+) to (\S+) training FLOPs", text)[0]
    assert float(high) > 4 * float(low)
    assert "plan: 7 trials, 0 told" in text and "7 to do" in text
    assert not list(folder.iterdir())


def test_an_interrupted_search_trains_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    train_run = train.run
    begun: list[float] = []

    def pressed(specs: Sequence[RunSpec], **kwargs: Any) -> list[Trial]:
        begun.append(specs[0].hparams.lr)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train_run(specs, **kwargs)

    with monkeypatch.context() as pressing:
        pressing.setattr(train, "run", pressed)
        interrupted = scalelab(*SEARCH, "hydra.sweeper.n_trials=3")
    assert interrupted.exit_code == 130
    assert states() == [TrialState.COMPLETE, TrialState.RUNNING]
    result = scalelab(*SEARCH, "hydra.sweeper.n_trials=3")
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert "1 told, 1 of them to take up again, 2 to do" in text and "3 OK" in text
    assert states() == [TrialState.COMPLETE] * 3
    assert open_study("runs/s").trials[1].params["lr"] == begun[1]
    assert "nothing is left to run" in scalelab(*SEARCH, "hydra.sweeper.n_trials=3").stdout


def test_batches_in_joblib_killed_in_the_middle_go_on_and_nothing_is_run_twice(folder: Path) -> None:
    arguments = [*SEARCH, "tokens=6400", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2"]
    command = [sys.executable, "-m", "scalelab.cli", *arguments, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(folder.glob("runs/s/*/trial.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with Path("runs/s/search.journal").open("ab") as journal:
        journal.write(b'{"op_code":6,"wor')  # what a writer leaves that is killed while it writes
    before = {file.parent.name: file.stat().st_mtime_ns for file in folder.glob("runs/s/*/trial.json")}
    assert 2 <= len(before) < 6
    result = scalelab(*arguments)
    assert result.exit_code == 0, result.output
    assert states() == [TrialState.COMPLETE] * 6
    names = {trial.user_attrs["fingerprint"] for trial in open_study("runs/s").trials}
    assert names == {file.parent.name for file in folder.glob("runs/s/*/trial.json")} and len(names) == 6
    for name, mtime in before.items():
        assert (folder / "runs/s" / name / "trial.json").stat().st_mtime_ns == mtime
        assert {line["attempt"] for line in metrics(folder / "runs/s" / name)} == {1}


def test_a_folder_that_cannot_be_written_to_is_refused(folder: Path) -> None:
    (folder / "file").write_text("")
    result = scalelab(*SEARCH, "out=file")
    assert result.exit_code == 2
    assert "cannot be written to: Not a directory" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output


def test_a_refusal_is_one_line_before_the_launch_and_during_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert "n_trials=0" in one_line(scalelab(*SEARCH, "hydra.sweeper.n_trials=0"))
    said = one_line(scalelab("train", "-m", *TINY, LR))
    assert "a grid has no values from an interval; list them, or search it with hydra/sweeper=optuna" in said
    assert not list(folder.iterdir())
    # No two ends of it are at odds, only a batch of 128 with 3 × 64 tokens is.
    given = ["batch_tokens=range(64,129,64)", "tokens=range(128,257,64)", "hydra/sweeper/sampler=grid"]
    result = scalelab(*SEARCH, "lr=0.01", *given)
    assert result.exit_code == 2
    assert "the run with tokens=192, batch_tokens=128 is not accepted" in result.stderr.splitlines()[-1]
    assert len(result.stderr.splitlines()) == 1
