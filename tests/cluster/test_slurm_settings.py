"""What SLURM is told, and what it is never told: refusals, the script of an array, the order in a job."""

import os
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scalelab import stopping
from scalelab.engines import engine_of, slurm_task
from scalelab.engines.slurm import SlurmEngine
from scalelab.engines.slurm_settings import job_name, slurm_settings
from scalelab.engines.slurm_task import WARNING, Training
from scalelab.errors import Refused
from scalelab.parallel import Parallel
from scalelab.trials import RunFolder
from scalelab.workers.serve import Asked, Order
from tests.conftest import make_spec
from tests.helpers import TINY, one_line, scalelab

submitit = pytest.importorskip("submitit", reason="submitit is an extra: pip install 'scalelab[slurm]'")

FAKES = {
    "sbatch": 'cp "$1" "$FAKE/script"; env > "$FAKE/env"; [ -z "$REFUSES" ] || { echo "sbatch: $REFUSES" >&2; exit 1; }'
    '; echo "Submitted batch job 12"',
    "squeue": '[ -z "$DOWN" ] || { echo "slurm_load_jobs error: $DOWN" >&2; exit 1; }; cat "$FAKE/queue"',
    "scancel": 'echo "$@" > "$FAKE/cancelled"',
    "scontrol": 'cat "$FAKE/job"',
    "srun": "exit 1",
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands named as SLURM's are, which write down what they are asked and say what they are told to."""
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, does in FAKES.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def order(study: Path, *seeds: int, device: str = "cpu", threads: int = 1, processes: int = 1) -> Order:
    specs = [make_spec(width=32, seed=seed) for seed in seeds]
    asked = [
        Asked(
            spec=spec, folder=RunFolder(study / spec.fingerprint), tracker={"name": "none"}, pruning=None, files={}
        )
        for spec in specs
    ]  # fmt: skip
    parallel = Parallel(name="ddp" if processes > 1 else "none", processes=processes)
    return Order(jobs=asked, device=device, threads=threads, members=None, parallel=parallel)


def parameters(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"partition": "gpu\n#SBATCH --uid=0"},
        {"partition": "gpu; rm -rf ~"},
        {"partition": "$(id)"},
        {"partition": "-h"},
        {"account": "a b"},
        {"account": ["a"]},
        {"qos": "`id`"},
        {"constraint": "a100\n"},
        {"constraint": "a'b"},
        {"exclude": "node[1-3];x"},
        {"memory": "lots"},
        {"memory": "16 GB"},
        {"python": "python; id"},
        {"python": "python\nid"},
        {"python": "$HOME/python"},
        {"gpus": -1},
        {"cpus": 0},
        {"minutes": 0},
        {"minutes": "an hour"},
        {"minutes": 1, "signal_seconds": 60},
        {"requeues": -1},
        {"workers": 0},
        {"additional": {"comment": "a\nb"}},
        {"additional": {"comment": "it's"}},
        {"additional": {"signal": "USR1@5"}},
        {"additional": {"no_requeue": True}},
        {"additional": {"wrap": "id"}},
        {"additional": {"a b": 1}},
        {"additional": {"--comment": 1}},
        {"additional": {"comment": {"a": 1}}},
        {"additional": "comment"},
        {"setup": ["module load cuda\nrm -rf ~"]},
        {"setup": ["#SBATCH --uid=0"]},
        {"setup": [{"a": 1}]},
    ],
    ids=repr,
)
def test_a_setting_that_is_not_accepted_is_refused_in_a_line(given: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"hydra\.launcher\.") as refused:
        slurm_settings(given)
    assert "\n" not in str(refused.value)


def test_a_key_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match=r"'partitions': accepted are .*did you mean 'partition'"):
        slurm_settings({"partitions": "gpu"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("partition", "gpu,gpu-long"), ("constraint", "[a100|h100]&nvlink"), ("exclude", "node[1-3,7],login1"),
        ("memory", "16GB"), ("python", "singularity exec --nv image.sif python"), ("qos", "high"),
    ],
)  # fmt: skip
def test_what_sites_have_is_accepted(key: str, value: str) -> None:
    assert getattr(slurm_settings({key: value}), key) == value


@pytest.mark.parametrize("name", ["a b", "x;id", "$(id)", "ü\n", "a'b\"c`d`", "../up", "x" * 300])
def test_nothing_but_plain_letters_is_left_of_a_studys_name(name: str) -> None:
    made = job_name(Path("runs") / name, "abc")
    assert made.startswith("scalelab-") and made.endswith("-abc") and len(made) < 120
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in made)


@pytest.mark.parametrize("name", ["a%j", "a'b", 'a"b', "a\nb", "a$b", "a;b", "a\\b"])
def test_a_folder_that_sbatch_would_not_take_as_it_is_is_refused(name: str, fake: Path) -> None:
    with pytest.raises(Refused, match="study folder") as refused:
        SlurmEngine.of().submit([order(fake.parent / name, 0)])
    assert "\n" not in str(refused.value)
    assert not (fake / "script").exists() and not (fake.parent / name).exists()


@pytest.mark.parametrize(
    ("needs", "settings"),
    [
        ({"device": "cuda"}, {}), ({"device": "cpu"}, {"gpus": 1}), ({"device": "cuda:1"}, {"gpus": 1}),
        ({"device": "cuda"}, {"gpus": 2}), ({"device": "cuda", "processes": 2}, {"gpus": 1}),
        ({"threads": 4}, {"cpus": 2}), ({"processes": 4}, {"cpus": 2}),
    ],
)  # fmt: skip
def test_orders_that_a_job_has_not_the_means_for_are_refused(
    needs: dict[str, Any], settings: dict[str, Any], fake: Path
) -> None:
    with pytest.raises(Refused, match="accepted"):
        SlurmEngine.of(**settings).submit([order(fake.parent / "study", 0, **needs)])
    assert not (fake / "script").exists()


def test_without_slurm_or_submitit_it_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    launch = ("train", "-m", "hydra/launcher=slurm", *TINY, "seed=0,1")
    search = ("hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "lr=tag(log,interval(1e-3,1e-1))")
    for arguments in (launch, (*launch[:3], *TINY, *search)):
        assert "needs sbatch on PATH" in one_line(scalelab(*arguments))
    assert not list(tmp_path.iterdir())
    request.getfixturevalue("fake")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'scalelab[slurm]'" in one_line(scalelab(*launch))
    monkeypatch.undo()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hydra.launcher.partitions=gpu", "hydra.launcher.partitions"),
        ("+hydra.launcher.partitions=gpu", "did you mean 'partition'"),
        ("hydra.launcher.partition='gpu;id'", "hydra.launcher.partition='gpu;id'"),
        ("hydra.launcher.minutes=0", "hydra.launcher.minutes=0"),
        ("hydra.launcher.retries=-1", "hydra.launcher.retries=-1"),
    ],
)
def test_the_command_line_refuses_in_a_line_and_writes_nothing(given: str, said: str) -> None:
    assert said in one_line(scalelab("train", "-m", "hydra/launcher=slurm", *TINY, "seed=0,1", given))
    assert not Path("runs").exists()


# --- what is submitted ------------------------------------------------------------------------------------------------


def test_orders_alike_are_one_array_with_what_was_asked_for(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    monkeypatch.setenv("SLURM_CONF", "somewhere")
    monkeypatch.setenv("WANDB_API_KEY", "hunter2hunter2")
    engine = SlurmEngine.of(
        partition="gpu", account="us", qos="high", constraint="a100|h100", exclude="node[1-2]", memory="4GB",
        minutes=30, signal_seconds=120, workers=2, setup=["module load cuda"], python="nice python",
        additional={"mail_type": "FAIL", "gres": "gpu:a100:1", "exclusive": True},
    )  # fmt: skip
    study = fake.parent / "my study"
    assert engine.submit([order(study, 0, 1), order(study, 2)]) == ["12_0", "12_1"]
    script = (fake / "script").read_text()
    found = parameters(script)
    name = found.pop("job-name")
    assert name.startswith("scalelab-my-study-")
    assert found.items() >= {
        "partition": "gpu", "account": "us", "qos": "high", "constraint": "'a100|h100'", "exclude": "'node[1-2]'",
        "mem": "4GB", "time": "30", "signal": "USR2@120", "array": "0-1%2", "cpus-per-task": "1", "nodes": "1",
        "ntasks-per-node": "1", "mail-type": "FAIL", "gres": "gpu:a100:1", "exclusive": "", "requeue": "",
    }.items()  # fmt: skip
    assert script.index("module load cuda") < script.index("srun ") and "nice python -u -m submitit" in script
    assert "--cpus-per-task=1" in script.splitlines()[-1]
    told = (fake / "env").read_text()
    assert "SLURM_CONF=somewhere" in told and "SLURM_JOB_ID" not in told and "SLURM_CPUS_PER_TASK" not in told
    assert os.environ["SLURM_JOB_ID"] == "1"
    folder = study / ".submitit"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not [file for file in folder.rglob("*") if b"hunter2" in file.read_bytes()]
    with (folder / "12_1_submitted.pkl").open("rb") as file:
        assert pickle.load(file).function == Training(order=order(study, 2))


def test_a_gpu_each_and_as_many_cpus_as_threads(fake: Path) -> None:
    engine = SlurmEngine.of(gpus=1)
    assert engine.submit([order(fake.parent, 0, device="cuda", threads=3)]) == ["12"]
    found = parameters((fake / "script").read_text())
    assert found["gpus-per-node"] == "1" and found["cpus-per-task"] == "3" and "array" not in found
    SlurmEngine.of(gpus=2).submit([order(fake.parent, 0, device="cuda", threads=3, processes=2)])
    found = parameters((fake / "script").read_text())
    assert found["gpus-per-node"] == "2" and found["cpus-per-task"] == "6"


def test_what_sbatch_says_is_the_refusal(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFUSES", "error: invalid partition specified: gpu")
    with pytest.raises(
        Refused, match=r"SLURM does not take the jobs of .*: sbatch: error: invalid partition"
    ) as refused:
        SlurmEngine.of(partition="gpu").submit([order(fake.parent, 0)])
    assert "\n" not in str(refused.value) and capfd.readouterr().err == ""
    result = scalelab("train", "-m", "hydra/launcher=slurm", *TINY, "seed=0,1", "hydra.launcher.partition=gpu")
    assert result.exit_code == 2 and "invalid partition" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output + result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a login node without a GPU")
def test_the_gpus_of_the_cluster_are_not_looked_for_here(fake: Path) -> None:
    (fake / "queue").write_text("")
    (fake / "job").write_text("")
    arguments = ("train", "-m", *TINY, "seed=0,1", "device=cuda")
    assert "device=cuda" in one_line(scalelab(*arguments))
    slurm = ("hydra/launcher=slurm", "hydra.launcher.gpus=1", "hydra.launcher.retries=0")
    result = scalelab(*arguments, *slurm, "hydra.launcher.poll_seconds=0.1")
    assert parameters((fake / "script").read_text())["gpus-per-node"] == "1"
    assert result.exit_code == 1 and "2 FAILED" in result.stdout
    assert "SLURM job 12_0 ended, and SLURM no longer says how" in result.stderr


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_who_waits_runs_or_ends_is_alive_and_who_has_ended_is_not(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SlurmEngine.of()
    (fake / "queue").write_text(
        "12_0 PENDING (Resources)\n12_1 RUNNING\n12_2 COMPLETING\n12_3 COMPLETED\n12_4 CANCELLED\n12_5 NODE_FAIL\n"
        "12_6 TIMEOUT\n12_7 REQUEUED\n12_8 SUSPENDED None\n13 OUT_OF_MEMORY\n"
        "12_9 PENDING launch failed requeued held\n"
    )
    tickets = [*(f"12_{place}" for place in range(10)), "13"]
    assert engine.alive(tickets) == {"12_0", "12_1", "12_2", "12_7", "12_8"}
    assert engine.alive([]) == set()
    monkeypatch.setenv("DOWN", "Unable to contact slurm controller (connect failure)")
    assert engine.alive(tickets) == set(tickets), "what cannot be asked counts as alive"
    assert engine.submitted_as("abc") is None
    monkeypatch.setenv("DOWN", "Invalid job id specified")
    assert engine.alive(tickets) == set()


def test_what_was_submitted_under_a_label_is_found(fake: Path) -> None:
    (fake / "queue").write_text("12_0 scalelab-a-abc\n12_1 scalelab-a-abc\n13 scalelab-a-abd\n14_0 other\n")
    assert SlurmEngine.of().submitted_as("abc") == {0: "12_0", 1: "12_1"}
    assert SlurmEngine.of().submitted_as("abd") == {0: "13"}
    assert SlurmEngine.of().submitted_as("abe") == {}


def test_how_a_job_ended_is_said_in_a_line(fake: Path) -> None:
    log = fake / "log.err"
    log.write_text("Traceback\n  …\nValueError: a bug\nsrun: error: node1: task 0: Exited with exit code 1\n")
    (fake / "job").write_text(f"JobId=12 JobState=FAILED Reason=NonZeroExitCode ExitCode=1:0 StdErr={log} \n")
    engine = SlurmEngine.of()
    assert engine.why("12") == f"SLURM job 12 ended as FAILED, exit code 1:0: ValueError: a bug; see {log}"
    (fake / "job").write_text("")
    assert "no longer says how" in engine.why("12")
    engine.cancel(["12_1", "12_0"])
    assert (fake / "cancelled").read_text().split() == ["12_0", "12_1"]


# --- in a job ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked_to_requeue() -> Iterator[list[int]]:
    """submitit's handler of the warning, as a double: what it was called with."""
    calls: list[int] = []
    before = signal.signal(WARNING, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(WARNING, before)


@pytest.mark.parametrize(
    ("sent", "status", "requeued"),
    [([WARNING], None, True), ([WARNING, signal.SIGTERM], None, True), ([signal.SIGTERM], 143, False)],
)
def test_a_warning_has_all_saved_and_then_requeues_and_a_sigterm_ends(
    sent: list[signal.Signals], status: int | None, requeued: bool, asked_to_requeue: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    saved: list[str] = []

    def training(given: Order) -> None:
        with stopping.heeding(signal.SIGTERM):
            for number in sent:
                os.kill(os.getpid(), number)
            assert not asked_to_requeue, "submitit was asked in the middle of a step"
            assert stopping.asked()
            saved.append("all")
            raise stopping.Stopped

    monkeypatch.setattr(slurm_task, "trained", training)
    if status is None:
        Training(order=order(Path("study"), 0))()
    else:
        with pytest.raises(stopping.Stopped) as stopped:
            Training(order=order(Path("study"), 0))()
        assert stopped.value.code == status
    assert saved == ["all"] and asked_to_requeue == ([WARNING] if requeued else [])
    assert not stopping.asked()


def test_a_warning_after_the_last_step_requeues_what_will_find_everything_finished(
    asked_to_requeue: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_task, "trained", lambda order: os.kill(os.getpid(), WARNING))
    Training(order=order(Path("study"), 0))()
    assert asked_to_requeue == [WARNING] and not stopping.asked()


def test_a_checkpoint_is_the_same_order_again() -> None:
    training = Training(order=order(Path("study"), 0))
    assert training.checkpoint().function == training


def test_the_order_is_read_in_a_process_that_has_not_imported_torch_yet(tmp_path: Path) -> None:
    (tmp_path / "order").write_bytes(pickle.dumps(Training(order=order(tmp_path, 0))))
    code = f"import pickle, sys; pickle.load(open({str(tmp_path / 'order')!r}, 'rb')); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"


def test_the_engine_is_found_by_its_name(fake: Path) -> None:
    assert fake.exists()
    engine = engine_of({"_target_": "x", "engine": "slurm", "partition": "gpu", "members": 3, "workers": 5})
    assert isinstance(engine, SlurmEngine)
    assert (engine.settings.partition, engine.settings.workers) == ("gpu", 5)
