"""Disks that are full or may not be written to: one clear line, nothing torn, and on it goes when there is space."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scalelab.claims import claim
from scalelab.jobs import CLAIM, run_job
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import ROOT, make_spec
from tests.faults.helpers import LAUNCHERS, launched, read_only, small_disk, trials
from tests.helpers import TINY, metrics, one_line, scalelab, sweep, tree, valley


def filled(folder: Path, *, leaving: int = 0) -> Path:
    """Write a file until the disk is full, but for some bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    if leaving:
        with ballast.open("rb+") as file:
            file.truncate(ballast.stat().st_size - leaving)
    return ballast


@pytest.mark.parametrize("leaving", [0, 4096, 12_288])  # pages: no claim, no spec, no trial can be written
def test_a_run_on_a_full_disk_fails_and_goes_on_when_there_is_space(leaving: int, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        folder = RunFolder(tmp_path / "disk" / "run")
        folder.path.mkdir()
        ballast = filled(tmp_path / "disk", leaving=leaving)
        with pytest.raises(OSError, match="No space left on device"):
            run_job(make_spec(width=32), folder)
        for file in folder.path.iterdir():  # nothing torn stands in the place of something whole
            assert not file.name.endswith(".tmp") and file.name != "checkpoint.pt"
            if file.suffix == ".json":
                json.loads(file.read_text())
        ballast.unlink()
        trial = run_job(make_spec(width=32), folder)
        whole = run_job(make_spec(width=32), RunFolder(tmp_path / "alone"))
        assert trial is not None and whole is not None and trial.loss_nats == whole.loss_nats
        curve = folder.metrics()
        assert [record["step"] for record in curve] == list(range(10))


def test_a_claim_on_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k"):
        filled(tmp_path / "disk")
        with pytest.raises(OSError, match="No space left"):
            claim(tmp_path / "disk" / CLAIM)
        assert [file.name for file in (tmp_path / "disk").iterdir()] == ["ballast"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launch_on_a_full_disk_says_so_in_a_line(launcher: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        (tmp_path / "disk" / "runs").mkdir()
        ballast = filled(tmp_path / "disk", leaving=32_768)
        process = launched(tmp_path / "disk", "seed=0,1,2,3", launcher=launcher)
        _, said = process.communicate(timeout=120)
        assert process.returncode in (1, 2), said
        assert "No space left on device" in said and "Traceback" not in said, said
        ballast.unlink()
        process = launched(tmp_path / "disk", "seed=0,1,2,3", launcher=launcher)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert {trial.outcome for trial in trials(tmp_path / "disk" / "runs" / "adhoc").values()} == {Outcome.OK}


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "scalelab.cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_store_that_is_read_only_can_be_looked_at_and_is_not_trained_into(tmp_path: Path) -> None:
    study = tmp_path / "store" / "study"
    sweep(study, valley())
    begun = RunFolder(study / "begun")
    begun.announce(make_spec(seed=9))
    before = tree(tmp_path / "store")
    with read_only(tmp_path / "store"):
        status = command("status", str(study))
        assert status.returncode == 0 and "42 of 43" in status.stdout, status.stderr
        fit = command("fit", str(study), "-o", str(tmp_path / "laws"), "--no-plots", "--draws", "100")
        assert fit.returncode == 0, fit.stderr
        for given in (("collect", str(study)), ("train", *TINY, f"out={tmp_path}/store")):
            refused = command(*given)
            assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
            assert "cannot read or write" in refused.stderr and "Read-only file system" in refused.stderr
    assert tree(tmp_path / "store") == before


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), ("-m",), ("-m", "hydra/launcher=fused")], ids=" ".join)
def test_a_run_that_is_there_and_may_not_be_written_to(launcher: tuple[str, ...], tmp_path: Path) -> None:
    from scalelab.plan import plan

    given = [*TINY, f"out={tmp_path}/store"]
    (run,) = plan(given, multirun=False).runs
    run.folder.announce(run.spec)  # of an earlier launch: nothing is left to be written before Hydra is asked
    with read_only(tmp_path / "store"):
        refused = command("train", *launcher, *given)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    assert "Read-only file system" in refused.stderr


@pytest.mark.parametrize("out", ["/dev/null/runs", "/proc/runs"])
def test_an_output_folder_that_cannot_be_is_refused_in_a_line(out: str) -> None:
    assert f"cannot read or write {out}" in one_line(scalelab("train", *TINY, f"out={out}"))


def test_a_failed_run_whose_trial_could_not_be_written_keeps_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunFolder, trial: Trial) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write", full)
    with pytest.raises(OSError, match="No space left"):
        run_job(make_spec(width=32), RunFolder(tmp_path))
    assert not (tmp_path / "trial.json").exists() and len(metrics(tmp_path)) == 10
