"""What `scalelab doctor` says of an environment: this one as it is, and broken ones that are made up."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from scalelab import doctor
from scalelab.doctor import extras, folders, machine, packages, project, torches
from scalelab.doctor.finding import Finding, State, broken, fine, warning
from tests.conftest import ROOT
from tests.helpers import scalelab

FIXED = {"threads": 2, "devices": [], "built_for_cuda": None, "mps": False}


def states(found: Any) -> dict[str, State]:
    """The worst state of everything that was looked at."""
    order = list(State)
    kept: dict[str, State] = {}
    for each in found:
        kept[each.about] = max(kept.get(each.about, State.FINE), each.state, key=order.index)
    return kept


# --- as it is ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Finding, ...], Path]:
    folder = tmp_path_factory.mktemp("here")
    return doctor.examine(folder / "runs"), folder


def test_what_the_tests_run_in_is_in_order_and_stays_as_it_was(here: tuple[tuple[Finding, ...], Path]) -> None:
    found, folder = here
    assert [each for each in found if each.state is State.BROKEN] == []
    assert {"python", "packages", "torch", "machine", "folders", "project", "extras"} == {each.topic for each in found}
    assert list(folder.iterdir()) == []
    assert all(each.advice for each in found if each.state is not State.FINE)


def test_its_json_counts_what_it_found(here: tuple[tuple[Finding, ...], Path]) -> None:
    plain = doctor.as_plain(here[0])
    assert json.loads(json.dumps(plain)) == plain
    assert sum(plain["counts"].values()) == len(plain["findings"]) and not plain["broken"]


def test_the_command_says_no_where_something_needed_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (fine("a", "one", "1"), broken("b", "two", "is \x1b[2J gone", "get it"))
    monkeypatch.setattr(doctor, "examine", lambda out: found)
    told = scalelab("doctor")
    assert told.exit_code == 1 and "→ get it" in told.stdout and "\x1b" not in told.stdout
    assert "something that is needed is broken (1 BROKEN)" in told.stdout
    result = scalelab("doctor", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["findings"][1]["state"] == "broken"
    monkeypatch.setattr(doctor, "examine", lambda out: (fine("a", "one", "1"), warning("b", "two", "hm", "look")))
    assert scalelab("doctor").exit_code == 0


# --- packages ---------------------------------------------------------------------------------------------------------


def test_a_package_that_is_missing_old_or_wrong() -> None:
    asked = [Requirement("optuna>=5"), Requirement("hydra-core<1.5,>=1.3.8"), Requirement("typer>=0.29")]
    found = list(packages.of_packages({"optuna": "2.10.1", "hydra-core": "1.3.8", "carbs": "0.1"}, asked))
    assert states(found) == {
        "optuna": State.BROKEN, "typer": State.BROKEN, "carbs": State.WARNING, "needed": State.FINE
    }  # fmt: skip
    (sweeper,) = [each for each in packages.of_packages({"hydra-optuna-sweeper": "1.3.0"}, []) if each.advice]
    assert "optuna<3" in sweeper.advice


def test_a_scalelab_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "requires", absent)
    assert packages.required() == []
    assert packages.of_scalelab({}, tmp_path / "scalelab").state is State.WARNING
    assert packages.of_scalelab({"scalelab": "0.1.0"}, tmp_path / "scalelab").state is State.FINE


def test_a_python_that_is_too_old() -> None:
    assert packages.of_python((3, 10, 9), "python3").state is State.BROKEN
    assert packages.of_python((3, 13, 0), "python3").state is State.FINE


def test_the_commit_of_a_checkout_is_gits(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    assert packages.commit(tmp_path) is None
    subprocess.run([*git, "init", "-q"], check=True)
    assert packages.commit(tmp_path) is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert packages.commit(tmp_path) == head[:12]
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert packages.commit(tmp_path) == head[:12]
    subprocess.run([*git, "checkout", "-q", "--detach"], check=True)
    assert packages.commit(tmp_path) == head[:12]


# --- torch ------------------------------------------------------------------------------------------------------------


def test_the_torch_that_is_tested_is_the_pinned_one() -> None:
    assert f"torch=={torches.TESTED}." in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize(
    ("seen", "about", "state"),
    [
        ({"error": "OSError: libtorch.so"}, "torch", State.BROKEN),
        ({"version": "2.9.0+cpu"}, "torch", State.WARNING),
        ({"version": "2.13.1"}, "torch", State.FINE),
        ({"version": "2.13.0", "built_for_cuda": "13.0"}, "devices", State.WARNING),
        ({"version": "2.13.0", "built_for_cuda": "13.0", "devices": ["H200"]}, "devices", State.FINE),
        ({"version": "2.13.0", "torchvision_error": "RuntimeError: operator torchvision::nms"}, "torchvision",
         State.WARNING),
    ],
)  # fmt: skip
def test_torch_and_what_stands_beside_it(seen: dict[str, Any], about: str, state: State) -> None:
    assert states(torches.of_torch(FIXED | seen))[about] is state


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("torch", "raise OSError('libtorch_cpu.so: cannot open')", "OSError: libtorch_cpu.so"),
        ("torch", "import os; os._exit(3)", "ended the process with 3"),
        ("torch", "print('hello')\nraise ImportError('no torch')", "ImportError: no torch"),
    ],
)
def test_a_torch_that_breaks_is_told_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, said: str
) -> None:
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (found,) = torches.of_torch(torches.finished(torches.started()))
    assert found.state is State.BROKEN and said in found.seen


def test_a_torchvision_of_another_torch_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    fake = "\n".join([
        "__version__ = '2.13.0'", "import types", "version = types.SimpleNamespace(cuda=None)",
        "cuda = types.SimpleNamespace(is_available=lambda: False)", "get_num_threads = lambda: 1",
        "backends = types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: False))",
    ])  # fmt: skip
    (tmp_path / "torch.py").write_text(fake)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {each.about: each for each in torches.of_torch(torches.finished(torches.started()))}
    assert found["torch"].state is State.FINE and found["torchvision"].state is State.WARNING
    assert "pip uninstall torchvision" in found["torchvision"].advice


def test_an_import_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torches, "PATIENCE_SECONDS", 0.1)
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "longer than" in torches.finished(process)["error"]
    assert process.poll() is not None


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (found,) = folders._of("runs", tmp_path / "file", "choose another")
    assert found.state is State.BROKEN and "cannot be written" in found.seen


def test_a_full_disk_and_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    for free, state in ((1e6, State.BROKEN), (0.5e9, State.WARNING), (2e9, State.FINE)):
        usage = shutil.disk_usage(tmp_path)._replace(free=int(free))
        monkeypatch.setattr(shutil, "disk_usage", lambda place, usage=usage: usage)
        assert states(folders._of("runs", tmp_path / "not" / "there", "x"))["runs"] is state
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_makes_a_file_twice_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *rest: real(path, flags & ~os.O_EXCL, *rest))
    assert "made twice" in " ".join(each.seen for each in folders._of("runs", tmp_path, "x"))
    assert states(folders._of("runs", tmp_path, "x"))["runs"] is State.BROKEN


@pytest.mark.parametrize(("ahead", "said"), [(30.0, "behind"), (-30.0, "ahead of")])
def test_clocks_that_differ_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float, said: str) -> None:
    real = time.time
    monkeypatch.setattr(folders.time, "time", lambda: real() + ahead)
    (skewed,) = [each for each in folders._of("runs", tmp_path, "x") if each.state is State.WARNING]
    assert said in skewed.seen and "30.0 s" in skewed.seen


def test_what_goes_wrong_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (found,) = folders._of("runs", tmp_path, "x")
    assert found.state is State.BROKEN and "No space left" in found.seen
    assert list(tmp_path.iterdir()) == []


def test_a_shared_file_system_is_named(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/with\\040space nfs4 rw 0 0\n")
    (tmp_path / "with space" / "runs").mkdir(parents=True)
    assert folders.file_system(tmp_path / "with space" / "runs", mounts) == "nfs4"
    assert folders.file_system(tmp_path, mounts) == "ext4"
    assert folders.file_system(tmp_path, tmp_path / "none") == ""


# --- machine ----------------------------------------------------------------------------------------------------------


def test_a_containers_quota_is_less_than_its_cores(tmp_path: Path) -> None:
    assert machine.quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert machine.quota(tmp_path) == 2.5
    (cores, _) = machine.of_cores(16, 2.5, {})
    assert cores.state is State.WARNING and "threads=2" in cores.advice
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.quota(tmp_path) is None


@pytest.mark.parametrize(
    ("said", "state"), [("", State.FINE), ("4", State.FINE), ("64", State.WARNING), ("many", State.WARNING)]
)
def test_threads_that_are_said_to_the_libraries(said: str, state: State) -> None:
    assert states(machine.of_cores(4, None, {"OMP_NUM_THREADS": said}))["OMP_NUM_THREADS"] is state


def test_few_open_files() -> None:
    assert "ulimit -n 4096" in machine.of_files(256, 4096).advice
    assert machine.of_files(256, 256).state is State.WARNING
    assert machine.of_files(resource.RLIM_INFINITY, resource.RLIM_INFINITY).state is State.FINE


# --- extras -----------------------------------------------------------------------------------------------------------


def command(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("scontrol", "state"),
    [
        ("echo 'Slurmctld(primary) at head is UP'", State.FINE), ("echo 'Slurmctld(primary) at head is DOWN'",
        State.WARNING), ("echo 'slurm_load_conf: no' >&2; exit 1", State.WARNING), ("exec sleep 20", State.WARNING),
        (None, State.WARNING),
    ],
)  # fmt: skip
def test_a_slurm_that_answers_or_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scontrol: str | None, state: State
) -> None:
    command(tmp_path, "sbatch", "exit 0")
    if scontrol is not None:
        command(tmp_path, "scontrol", scontrol)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if scontrol is not None else str(tmp_path))
    monkeypatch.setattr(extras, "ANSWER_SECONDS", 0.3)
    assert extras._slurm("submitit").state is state


def test_without_sbatch_slurm_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert extras._slurm("submitit").state is State.ABSENT


def test_an_extra_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = extras.importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "ray" else real(name))
    (ray,) = [each for each in extras.extras() if each.about == "ray"]
    assert ray.state is State.ABSENT and "pip install 'scalelab[ray]'" in ray.advice


def test_no_key_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert "not logged in" in extras._wandb("wandb", {}, tmp_path).seen
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine api.wandb.ai login user password {key}\n")
    netrc.chmod(0o600)
    for environment in ({}, {"WANDB_API_KEY": key}, {"WANDB_BASE_URL": "https://wandb.example.org"}):
        found = extras._wandb("wandb", environment, tmp_path)
        assert key not in found.seen + found.advice
        assert ("not logged in" in found.seen) == ("WANDB_BASE_URL" in environment)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert extras._wandb("wandb", {"WANDB_BASE_URL": "https://wandb.example.org"}, tmp_path).state is State.WARNING
    monkeypatch.setenv("WANDB_MODE", "sideways")
    assert extras._wandb("wandb", {}, tmp_path).state is State.WARNING


# --- project ----------------------------------------------------------------------------------------------------------


def test_a_configuration_that_is_not_there_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scalelab import composing

    monkeypatch.setattr(composing, "config_dir", lambda: tmp_path)
    (found,) = project.configuration()
    assert found.state is State.BROKEN


def test_corpora_are_found_where_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALELAB_CACHE", str(tmp_path))
    (before,) = project.corpora()
    (tmp_path / "enwik8").mkdir()
    (tmp_path / "enwik8" / "enwik8").write_bytes(b"x")
    (after,) = project.corpora()
    assert "enwik8 is fetched" in before.seen and "here: embedded, digits, enwik8" in after.seen
