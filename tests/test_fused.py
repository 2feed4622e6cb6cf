"""The launcher that groups: the numbers of the basic one, whatever dies in between, and nobody left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf, open_dict

from scalelab.claims import claimed
from scalelab.composing import as_mapping
from scalelab.config import config_dir, spec_from_config
from scalelab.errors import Refused
from scalelab.jobs import CLAIM
from scalelab.plan import PlannedRun, plan
from scalelab.spec import Horizon, RunSpec
from scalelab.trials import Outcome, RunFolder, Trial
from scalelab.workers.composed import Composer
from scalelab.workers.hydra_files import hydra_files
from scalelab.workers.launching import Settings
from scalelab.workers.pool import POOL, devices_for
from scalelab.workers.serve import Asked, Order, trained
from scalelab.workers.tasks import Task, tasks
from tests.conftest import make_spec
from tests.helpers import COMPOSED, TINY, metrics, one_line, scalelab, tree, wait_for

FUSED = ("hydra/launcher=fused", "hydra.launcher.workers=2")
MIXED = ("optimizer=sgd", "optimizer.clip_norm=null", "parametrization=sp", "width=32,64", "lr=0.01,0.02,1e30")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder; the workers stay warm from one to the next."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(*overrides: str) -> tuple[PlannedRun, ...]:
    return plan([*TINY, *overrides], multirun=True).runs


def trials(at: Path) -> dict[str, Trial]:
    return {file.parent.name: RunFolder(file.parent).read() for file in at.glob("*/trial.json")}


def numbers(run: Path) -> tuple[dict[str, Any], list[tuple[int, float | None]]]:
    """All of a run that does not depend on when and where it was trained."""
    trial = json.loads((run / "trial.json").read_text())
    kept = {k: v for k, v in trial.items() if k not in ("seconds", "energy_joules", "provenance")}
    return kept, [(line["step"], line["loss_nats"]) for line in metrics(run)]


def left_by_hydra(run: Path, root: Path) -> dict[str, Any]:
    """The files of .hydra, without what says which launcher it was."""
    found = {file.name: yaml.safe_load(file.read_text().replace(str(root), "")) for file in run.glob(".hydra/*")}
    hydra = found["hydra.yaml"]["hydra"]
    del hydra["launcher"], hydra["runtime"]["choices"]["hydra/launcher"]
    hydra["overrides"]["hydra"] = [line for line in hydra["overrides"]["hydra"] if "launcher" not in line]
    return found


# --- the same as without it -------------------------------------------------------------------------------------------


def test_a_mixed_sweep_is_the_basic_launchers_bit_for_bit_and_again_it_is_a_no_op(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, arguments in {"basic": (), "fused": FUSED}.items():
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        result = scalelab("train", "-m", *TINY, *MIXED, *arguments)
        assert result.exit_code == 0, result.output
    names = {path.name for path in folder.glob("basic/runs/adhoc/*/")}
    assert names == {path.name for path in folder.glob("fused/runs/adhoc/*/")} and len(names) == 6
    for name in names:
        basic, fused = (folder / launcher / "runs" / "adhoc" / name for launcher in ("basic", "fused"))
        assert numbers(fused) == numbers(basic)
        assert left_by_hydra(fused, folder / "fused") == left_by_hydra(basic, folder / "basic")
        for file in ("config.yaml", "overrides.yaml"):
            assert (fused / ".hydra" / file).read_bytes() == (basic / ".hydra" / file).read_bytes()
    found = trials(folder / "fused" / "runs" / "adhoc")
    assert Counter(trial.outcome for trial in found.values()) == {Outcome.OK: 4, Outcome.DIVERGED: 2}
    assert {trial.provenance["members"] for trial in found.values()} - {"1"}, "nothing was trained together"
    before = tree(folder)
    again = scalelab("train", "-m", *TINY, *MIXED, *FUSED)
    assert again.exit_code == 0 and "6 finished, 0 to do" in again.stdout
    assert tree(folder) == before


@pytest.mark.parametrize(
    "swept",
    [*COMPOSED, ["study=a,b-${seed}", "seed=0,1"]],
    ids=lambda swept: " ".join(swept),
)
def test_jobs_are_composed_and_written_down_as_hydra_does(swept: list[str], folder: Path) -> None:
    runs = planned(*swept)
    assert len(runs) > 1
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="train"):
        loader = GlobalHydra.instance().config_loader()
        config = compose("train", [*TINY], return_hydra_config=True)
        composer = Composer(loader=loader, config=config)
        for number, run in enumerate(runs):
            job = composer.job(run.task_overrides, number)
            assert (job.spec, job.folder.path) == (run.spec, run.folder.path.absolute())
            whole = loader.load_sweep_config(config, list(run.task_overrides))
            assert spec_from_config(as_mapping(whole)) == job.spec
            with open_dict(whole):
                whole.hydra.job.id = whole.hydra.job.num = number
                whole.hydra.runtime.output_dir = str(job.folder.path)
            files = hydra_files(job)
            assert files[".hydra/hydra.yaml"] == OmegaConf.to_yaml(OmegaConf.masked_copy(whole, ["hydra"]))
            task = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
            assert files[".hydra/config.yaml"] == OmegaConf.to_yaml(task)
            assert files[".hydra/overrides.yaml"] == OmegaConf.to_yaml(OmegaConf.create(list(run.task_overrides)))


def test_what_cannot_be_accepted_is_refused_before_anything_runs(folder: Path) -> None:
    assert "lr=nan" in one_line(scalelab("train", "-m", *TINY, *FUSED, "width=32,64", "lr=0.01,nan"))
    assert not list(folder.iterdir())
    for given in ({"workers": 0}, {"members": "many"}, {"retries": -1}):
        with pytest.raises(Refused, match=rf"hydra.launcher.{next(iter(given))}="):
            Settings.of(**{"workers": None, "members": None, "retries": 1, **given})


def test_a_search_in_batches_trains_each_batch_together(folder: Path) -> None:
    search = ["hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=6", "study=s"]
    arguments = ["train", "-m", *TINY, *search, "lr=tag(log,interval(1e-3,1e-1))", "hydra.sweeper.n_jobs=4"]
    assert scalelab(*arguments, *FUSED, "out=fused").exit_code == 0
    assert scalelab(*arguments, "out=basic").exit_code == 0
    fused, basic = (trials(folder / name / "s") for name in ("fused", "basic"))
    assert len(fused) == 6 and {k: t.loss_nats for k, t in fused.items()} == {k: t.loss_nats for k, t in basic.items()}
    assert "2" in {trial.provenance["members"] for trial in fused.values()}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_one_run_that_fails_does_not_take_its_population_along(folder: Path) -> None:
    runs = planned("seed=0,1,2,3")
    runs[1].folder.path.mkdir(parents=True)
    (runs[1].folder.path / ".hydra").write_text("where a folder is to be")
    result = scalelab("train", "-m", *TINY, *FUSED, "seed=0,1,2,3")
    assert result.exit_code == 1 and "3 OK" in result.stdout and "1 FAILED" in result.stdout
    assert "FileExistsError" in result.stderr
    failed = runs[1].folder.read()
    assert failed.outcome is Outcome.FAILED and "FileExistsError" in (failed.reason or "")
    (runs[1].folder.path / ".hydra").unlink()
    again = scalelab("train", "-m", *TINY, *FUSED, "seed=0,1,2,3")
    assert again.exit_code == 0 and "3 finished, 1 to do" in again.stdout


def begun(at: Path) -> list[Path]:
    return [file for file in at.glob("*/metrics.jsonl") if file.stat().st_size > 200]


def killed(arguments: list[str], at: Path, finished: int) -> tuple[Any, dict[Path, int]]:
    """Launch, and kill -9 the worker as soon as so many runs have ended; the result, and when those were written."""
    before: dict[Path, int] = {}

    def kill() -> None:
        wait_for(lambda: len(list(at.glob("*/trial.json"))) >= finished and len(begun(at)) > finished)
        os.kill(next(iter(POOL.workers.values())).process.pid or 0, signal.SIGKILL)
        before.update({file: file.stat().st_mtime_ns for file in at.glob("*/trial.json")})

    POOL.end()
    killing = threading.Thread(target=kill)
    killing.start()
    result = scalelab(*arguments)
    killing.join()
    return result, before


def test_the_runs_of_a_killed_worker_are_trained_by_another(folder: Path) -> None:
    workers = ["hydra/launcher=fused", "hydra.launcher.workers=1", "hydra.launcher.members=2"]
    arguments = ["train", "-m", *TINY, *workers, "tokens=12800", "seed=0,1,2,3,4,5"]
    result, before = killed(arguments, folder / "runs" / "adhoc", finished=2)
    assert result.exit_code == 0, result.output
    assert 2 <= len(before) < 6 and all(file.stat().st_mtime_ns == at for file, at in before.items())
    found = trials(folder / "runs" / "adhoc")
    assert len(found) == 6 and {trial.outcome for trial in found.values()} == {Outcome.OK}
    again = {name for name in found if {line["attempt"] for line in metrics(folder / "runs/adhoc" / name)} == {1, 2}}
    assert again and {found[name].provenance["members"] for name in again} == {"1"}  # half as many


def test_without_retries_a_killed_worker_is_a_failure_that_says_so(folder: Path) -> None:
    workers = ["hydra/launcher=fused", "hydra.launcher.workers=1", "hydra.launcher.members=2"]
    arguments = ["train", "-m", *TINY, *workers, "hydra.launcher.retries=0", "tokens=12800", "seed=0,1,2,3,4,5"]
    result, _ = killed(arguments, folder / "runs" / "adhoc", finished=2)
    assert result.exit_code == 1 and "its worker was killed by SIGKILL; was the memory full?" in result.stderr
    outcomes = Counter(trial.outcome for trial in trials(folder / "runs" / "adhoc").values())
    assert outcomes == {Outcome.OK: 4, Outcome.FAILED: 2}
    assert scalelab(*arguments).exit_code == 0


def test_a_folder_that_another_process_is_working_in_is_left_to_it(folder: Path) -> None:
    runs = planned("seed=0,1,2")
    runs[1].folder.path.mkdir(parents=True)
    with claimed(runs[1].folder.path / CLAIM):
        result = scalelab("train", "-m", *TINY, *FUSED, "seed=0,1,2")
    assert result.exit_code == 1 and "1 not ended (here, or running in another process)" in result.stdout
    assert set(trials(folder / "runs" / "adhoc")) == {runs[at].spec.fingerprint for at in (0, 2)}


def alive(mark: str) -> list[int]:
    """The processes in whose environment a name is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended, or is not ours
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=lambda sent: sent.name)
def test_no_worker_outlives_its_launcher(folder: Path, sent: signal.Signals) -> None:
    arguments = [*TINY, "tokens=51200", "seed=0,1,2,3"]
    command = [sys.executable, "-m", "scalelab.cli", "train", "-m", *arguments, *FUSED, "hydra.launcher.members=1"]
    mark = f"SCALELAB_TEST_MARK_{folder.name}_{os.getpid()}"
    process = subprocess.Popen(
        command, env={**os.environ, mark: "1"}, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    at = folder / "runs" / "adhoc"
    wait_for(lambda: len(list(at.glob("*/trial.json"))) >= 1)
    assert len(alive(mark)) >= 4  # the launcher, what forks the workers, two workers
    time.sleep(1.0)  # into the wait for the workers: Hydra makes an error of what interrupts its YAML
    os.kill(process.pid, sent)
    _, said = process.communicate(timeout=10)
    assert process.returncode == (-signal.SIGKILL if sent is signal.SIGKILL else 130), said
    assert sent is signal.SIGKILL or "scalelab: interrupted" in said.splitlines()[-1], said
    wait_for(lambda: not alive(mark), seconds=5)
    before = list(at.glob("*/trial.json"))
    assert 1 <= len(before) < 4
    assert len(plan(arguments, multirun=True).missing) == 4 - len(before)


def test_a_corrupt_checkpoint_is_named_set_aside_and_costs_one_run_its_beginning(folder: Path) -> None:
    runs = planned("seed=0,1")
    at = runs[0].folder.path
    at.mkdir(parents=True)
    (at / "checkpoint.pt").write_bytes(b"PK\x03\x04 and no more")
    jobs = [Asked(spec=run.spec, folder=run.folder, tracker={"name": "none"}, pruning=None, files={}) for run in runs]
    with pytest.warns(UserWarning, match=rf"{at}/checkpoint.pt is corrupt"):
        (first, second) = trained(Order(jobs=jobs, device="cpu", threads=1, members=2))
    assert first is not None and second is not None
    assert (at / "checkpoint.pt.unusable").exists() and not (at / "checkpoint.pt").exists()


# --- who trains what --------------------------------------------------------------------------------------------------


def cut(count: int, *, workers: int, **given: Any) -> list[Task]:
    return tasks({seed: make_spec(width=32, seed=seed) for seed in range(count)}, workers=workers, **given)


@pytest.mark.parametrize(
    ("count", "workers", "members", "sizes"),
    [
        (64, 2, 8, [8] * 8),
        (20, 2, 8, [5, 5, 5, 5]),  # three tasks, and one of two workers would have two of them
        (6, 2, 8, [3, 3]),
        (3, 4, 8, [1, 1, 1]),
        (1, 4, 8, [1]),
        (5, 1, 2, [2, 2, 1]),
    ],
)
def test_tasks_are_populations_that_end_together(count: int, workers: int, members: int, sizes: list[int]) -> None:
    found = cut(count, workers=workers, members=members)
    assert sorted(number for task in found for number in task.jobs) == list(range(count))
    assert sorted((len(task.jobs) for task in found), reverse=True) == sizes


def test_the_longest_task_is_first_and_programs_are_apart() -> None:
    specs = {number: make_spec(width=32 if number % 2 else 64, seed=number) for number in range(8)}
    found = tasks(specs, workers=2)
    assert [task.cost for task in found] == sorted((task.cost for task in found), reverse=True)
    for task in found:
        assert len({specs[number].shape.width for number in task.jobs}) == 1


def test_runs_with_a_common_trunk_are_one_task() -> None:
    def to(tokens: int, seed: int) -> RunSpec:
        # The same steps of warmup, and a decay of a fifth.
        horizon = Horizon(tokens=tokens, batch_tokens=64, schedule="wsd", warmup_fraction=128 / tokens)
        return replace(make_spec(width=32, seed=seed), horizon=horizon)

    specs = {number: to(tokens, seed) for number, (seed, tokens) in
             enumerate((seed, tokens) for seed in range(3) for tokens in (640, 1280, 2560))}  # fmt: skip
    found = tasks(specs, workers=8)
    assert sorted(tuple(sorted(task.jobs)) for task in found) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]


def test_a_worker_has_a_core_or_a_gpu() -> None:
    assert devices_for("cuda", threads=1, workers=None, gpus=lambda: 3) == ["cuda:0", "cuda:1", "cuda:2"]
    assert devices_for("cuda", threads=1, workers=4, gpus=lambda: 2) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert devices_for("cuda:1", threads=1, workers=None, gpus=lambda: 3) == ["cuda:1"]
    cores = len(devices_for("cpu", threads=1, workers=None, gpus=lambda: 0))
    assert 1 <= cores <= len(os.sched_getaffinity(0))
    assert devices_for("cpu", threads=cores, workers=None, gpus=lambda: 0) == ["cpu"]
    on_gpus = cut(600, workers=2, on_gpu=True)
    assert {task.members for task in on_gpus} == {None} and max(len(task.jobs) for task in on_gpus) <= 256
