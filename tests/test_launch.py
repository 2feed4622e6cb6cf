"""From a command line to run folders: what is planned, what is refused, what an interruption costs."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalelab import train
from scalelab.data import load
from scalelab.overrides import overrides_of
from scalelab.plan import Plan, plan
from scalelab.resolve import settings as resolved
from scalelab.shape import Architecture
from scalelab.spec import DataSpec, Horizon, RunSpec
from scalelab.trials import Outcome, RunFolder, Trial
from tests.conftest import ROOT, make_spec
from tests.helpers import COMPOSED, TINY, metrics, one_line, scalelab, squeezed, tree


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALELAB_CACHE", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    return tmp_path


def planned(*overrides: str, directories: Sequence[str] = ()) -> Plan:
    return plan([*TINY, *overrides], multirun=True, directories=directories)


def losses(folder: Path) -> dict[str, float | None]:
    return {file.parent.name: json.loads(file.read_text())["loss_nats"] for file in folder.rglob("trial.json")}


def a_study(folder: Path, text: str) -> list[str]:
    """A study of one's own, in a configuration folder of one's own; the arguments that launch it."""
    (folder / "own" / "sweep").mkdir(parents=True)
    (folder / "own" / "sweep" / "mine.yaml").write_text("# @package _global_\n" + text)
    return ["--config-dir", str(folder / "own"), "+sweep=mine"]


# --- planning ---------------------------------------------------------------------------------------------------------


def test_a_plan_is_the_product_of_the_values_in_launch_order() -> None:
    found = planned("lr=0.01,0.02", "seed=0,1,2")
    assert [(run.spec.hparams.lr, run.spec.seed) for run in found.runs] == [
        (lr, seed) for lr in (0.01, 0.02) for seed in (0, 1, 2)
    ]
    assert found.missing == found.runs
    for run in found.runs:
        assert run.folder.path == Path("runs/adhoc") / run.spec.fingerprint


def test_runs_that_are_the_same_are_planned_once() -> None:
    found = planned("lr=0.01,0.010,1e-2", "lr_factor=1,1.0")
    assert len(found.runs) == 1
    assert len(planned("lr=0.01,0.02", "lr_factor=1,2").runs) == 3  # 0.01, 0.02 twice, 0.04


def test_a_study_states_its_values_and_the_command_line_wins(folder: Path) -> None:
    a_study(folder, "study: mine\nseed: 7\nhydra:\n  sweeper:\n    params:\n      lr: 0.01,0.02\n      width: 32,64\n")
    own = [str(folder / "own")]
    found = planned("+sweep=mine", directories=own)
    # width of TINY is given on the command line
    assert sorted((r.spec.hparams.lr, r.spec.shape.width, r.spec.seed) for r in found.runs) == [
        (0.01, 32, 7),
        (0.02, 32, 7),
    ]
    assert {run.folder.path.parent for run in found.runs} == {Path("runs/mine")}
    others = planned("+sweep=mine", "width=32,64,96", "lr=0.5", "seed=1", directories=own)
    assert sorted((r.spec.hparams.lr, r.spec.shape.width, r.spec.seed) for r in others.runs) == [
        (0.5, 32, 1),
        (0.5, 64, 1),
        (0.5, 96, 1),
    ]


@pytest.mark.parametrize("study", ["lr_width", "lr_depth", "adamw_muon", "demo/proxies", "demo/target"])
def test_the_studies_that_come_with_scalelab_can_be_planned_and_say_how_many_runs_they_are(study: str) -> None:
    found = plan([f"+sweep={study}", "lr=0.01", "seed=0"], multirun=True)
    assert found.runs and {run.folder.path.parent.name for run in found.runs} == {study.rpartition("/")[2]}
    text = (ROOT / "sweeps" / f"{study}.yaml").read_text()
    params = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    if stated := re.search(r"Budget: (\d+) runs", text):
        assert int(stated[1]) == math.prod(len(str(values).split(",")) for values in params.values())


def test_a_recipes_lr_is_multiplied_by_the_factor() -> None:
    (run,) = planned("lr=0.04", "lr_factor=0.25").runs
    assert run.spec.hparams.lr == 0.01


def test_a_head_dim_of_the_base_is_kept_beside_heads_of_the_target() -> None:
    (run,) = planned("width=64", "heads=4", "base.head_dim=8").runs
    assert (run.spec.shape.head_dim, run.spec.base.head_dim, run.spec.base.heads) == (16, 8, 4)


def test_ffn_and_heads_follow_the_width_where_they_are_not_given() -> None:
    small, large = (run.spec for run in planned("width=32,96").runs)
    assert (small.shape.ffn, large.shape.ffn) == (88, 256)  # 8/3 × width to a multiple of 8
    assert (small.shape.heads, large.shape.heads, large.base.heads) == (1, 3, 1)
    (given_heads,) = planned("width=96", "heads=2", "kv_heads=1", "ffn=100").runs
    assert (given_heads.spec.shape.head_dim, given_heads.spec.shape.kv_heads, given_heads.spec.shape.ffn) == (
        48,
        1,
        100,
    )


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown key": (["widht=64"], "widht"),
    "unknown nested key": (["optimizer.beta3=1"], "optimizer.beta3"),
    "an added key": (["+foo=1"], "unknown key foo: accepted are .*width"),
    "an added base key": (["+base.foo=1"], "unknown key base.foo"),
    "a base key that is the run's": (["+base.vocab=1"], "unknown key base.vocab"),
    "heads of the base twice": (["base.heads=2", "base.head_dim=8"], "base.heads and base.head_dim: give one"),
    "ffn and granularity": (
        ["model=moe", "experts=4", "top_k=2", "granularity=2", "ffn=64"],
        "ffn=64 and granularity=2: .*give one",
    ),
    "a key of another optimizer": (["+optimizer.momentum=0.5"], "unknown key optimizer.momentum of 'adamw'"),
    "a key that is no optimizer's": (["+optimizer.lr=3"], "unknown key optimizer.lr of 'adamw'"),
    "nothing left to take over": (
        ["optimizer=adamw_muon", "schedule=wsd", "decay_fraction=0"],
        "none of the .* steps is left",
    ),
    "an added init key": (["+init.foo=1"], "unknown key init.foo"),
    "unknown table": (["parametrization=mupp"], "unknown parametrization 'mupp'.*did you mean 'mup'"),
    "unknown data": (["data=embeded"], "data/embeded.*accepted are digits, embedded, enwik8, external, memmap, pysrc"),
    "images for text": (["model=vit"], "data=embedded is text and model=vit takes images"),
    "text for images": (["data=digits", "context=64"], "data=digits is images and model=transformer takes text"),
    "decay twice": (
        ["independent_weight_decay=0.001", "weight_decay_policy=constant"],
        "independent_weight_decay with weight_decay_policy=constant",
    ),
    "unknown model": (["model=mamba"], "model/mamba.*accepted are mlp, moe, resnet, transformer, vit"),
    "unknown optimizer": (["optimizer=adam"], "optimizer/adam.*accepted are adafactor, .*, soap"),
    "unknown tracker": (["tracker=mlflow"], "tracker/mlflow.*accepted are none, tensorboard, wandb"),
    "unknown tracker name": (["tracker.name=mlflow"], "unknown tracker 'mlflow'"),
    "unknown tracker option": (["+tracker.colour=red"], "unknown option 'colour' of tracker 'none': it has none"),
    "unknown study": (["+sweep=lr_widht"], "sweep/lr_widht.*accepted are .*lr_width"),
    "a group that is a number": (["model=3"], "group"),
    "a group that is a value": (["init=3"], "init=3: accepted are keys below it"),
    "a key taken away": (["~lr"], "lr was taken away: a run needs every key"),
    "a group taken away": (["~data"], "data was taken away"),
    "a group's name taken away": (["~tracker.name"], r"tracker\.name was taken away"),
    "a group's key taken away": (["~model.mlp_ratio"], r"model\.mlp_ratio was taken away"),
    "a base without width": (["~base.width"], r"base\.width was taken away"),
    "an optimizer's key taken away": (["~optimizer.eps"], r"optimizer\.eps was taken away, which 'adamw' reads"),
    "no eps": (["optimizer.eps=null"], r"optimizer\.eps=None: accepted is a number"),
    "a name that is none": (["model.name={}"], r"model\.name={}: accepted is a name"),
    "a table that is a list": (["parametrization=[mup]"], r"parametrization=\['mup'\]: accepted is a name"),
    "unknown schedule": (["schedule=foo"], "unknown schedule 'foo': accepted are constant, cosine, linear, wsd"),
    "unknown mlp": (["model.mlp=foo"], "unknown mlp 'foo': accepted are gelu, relu, squared_relu, swiglu"),
    "no number": (["tokens=1/0"], "tokens='1/0': accepted is a whole number"),
    "a boolean that is none": (["model.tied_head=no"], "tied_head='no': accepted are true, false"),
    "no folder": (["out="], "out=''"),
    "a study outside": (["study=../x"], "accepted is a name below out"),
    "no such device": (["device=cuda:99"], "sees no such device here; .* --dry-run"),
    "no device's name": (["--dry-run", "device=cuda:x"], "device='cuda:x': accepted are cpu"),
    "eps zero": (["optimizer.eps=0"], "eps=0.0: accepted is a finite number > 0"),
    "beta one": (["optimizer.beta1=1"], "beta1=1.0: accepted is a number ≥ 0 and < 1"),
    "larger than memory": (["width=1000000000", "heads=1"], "this machine has"),
    "another sweeper": (
        ["-m", "hydra/sweeper=basic", "hydra.sweeper._target_=other.Sweeper"],
        "accepted are scalelab and basic",
    ),
    "unknown W&B mode": (["tracker=wandb", "tracker.mode=bogus"], "unknown tracker.mode 'bogus'"),
    "unknown flag": (["--frob"], "unknown option --frob"),
    "unknown folder": (["--config-dir", "nowhere"], "nowhere: accepted is a folder"),
    "heads": (["heads=3"], "heads=3 do not divide width=32: try heads=[24]"),
    "kv_heads": (["heads=4", "kv_heads=3"], "kv_heads=3 do not divide heads=4"),
    "head_dim": (["width=50"], "head_dim=32 does not divide width=50: try width=64"),
    "width 0": (["width=0"], "width=0"),
    "width -32": (["width=-32"], "width=-32"),
    "width 32.5": (["width=32.5"], "width=32.5: accepted is a whole number"),
    "width null": (["width=null"], "width=None"),
    "depth 0": (["depth=0"], "depth=0"),
    "lr -1": (["lr=-1"], "lr=-1.0: accepted is a finite number > 0"),
    "lr nan": (["lr=nan"], "lr=nan: accepted is a finite number > 0"),
    "lr inf": (["lr=inf"], "lr=inf"),
    "lr 0": (["lr=0"], "lr=0.0"),
    "lr abc": (["lr=abc"], "lr='abc': accepted is a number"),
    "lr nothing": (["lr="], "lr=''"),
    "no key": (["=3"], "group|key"),
    "no value": (["lr"], "lr"),
    "seed -1": (["seed=-1"], "seed=-1"),
    "threads": (["threads=many"], "threads='many'"),
    "tokens": (["tokens=100"], "tokens=100 are not a whole number of steps.*try tokens=64 or 128"),
    "batch": (["batch_tokens=40"], "batch_tokens=40"),
    "validation": (["validation_tokens=1000000000"], "validation split of corpus 'embedded' has"),
    "unique": (
        ["unique_tokens=7000000"],
        r"unique_tokens=7,000,000: accepted are 1 to 6,\d+,\d+, which corpus 'embedded'",
    ),
    "unique of nothing": (["unique_tokens=15"], "unique_tokens=15 with context=16: accepted are one window"),
    "unique of what": (["unique_tokens=some"], "unique_tokens='some': accepted is a whole number"),
    "validation of nothing": (["validation_tokens=0"], "validation on 0 tokens"),
    "decay": (["schedule=wsd", "warmup_fraction=0.6", "decay_fraction=0.6"], "overlap"),
    "beta1": (["optimizer.beta1=2"], "beta1=2.0"),
    "data option": (["+data.foo=1"], "option 'foo' of corpus 'embedded'"),
    "memmap without path": (["data=memmap"], "path"),
    "memmap without file": (["data=memmap", "data.path=nowhere.bin", "data.vocab=256"], r"no file .*nowhere.bin"),
    "depth-scaled": (["model.residual_init=depth-scaled", "parametrization=completep"], "not to be combined"),
    "a sweep without -m": (["lr=0.1,0.2"], "lr=0.1,0.2"),
    "one bad run of a sweep": (["-m", "lr=0.1,-1"], "lr=-1.0"),
    "one bad run of a study": (["-m", "+sweep=lr_width", "width=32,33"], "width=33"),
    "no recipe": (["--recipe", "nowhere.yaml"], "nowhere.yaml does not exist"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line_and_touches_nothing(what: str, folder: Path) -> None:
    arguments, expected = REFUSED[what]
    said = one_line(scalelab("train", *TINY, *arguments))
    assert re.search(expected, said), said
    assert not list(folder.iterdir())


@pytest.mark.parametrize("group", ["data", "model", "optimizer", "parallel", "tracker", "trainer"])
def test_a_group_given_as_a_value_says_how_it_is_chosen(group: str, folder: Path) -> None:
    (folder / "sweep").mkdir()
    (folder / "sweep" / "mine.yaml").write_text(f"# @package _global_\n{group}: some\n")
    said = one_line(scalelab("train", *TINY, "--config-dir", str(folder), "+sweep=mine"))
    assert f"{group}='some': accepted are keys below it" in said and f"override /{group}: NAME" in said


def test_a_plan_does_not_need_the_device(folder: Path) -> None:
    said = scalelab("train", *TINY, "--dry-run", "device=cuda:99")
    assert said.exit_code == 0 and "1 to do" in said.stdout, said.stderr
    search = ("-m", "hydra/sweeper=optuna", "lr=tag(log, interval(0.001, 0.1))", "hydra.sweeper.n_trials=3")
    said = scalelab("train", *TINY, "--dry-run", "device=cuda:99", *search)
    assert said.exit_code == 0, said.stderr


def test_a_missing_option_of_the_command_itself_is_refused(folder: Path) -> None:
    assert scalelab("frobnicate").exit_code == 2
    assert scalelab("recommend", "--target", "width=1").exit_code == 2
    assert not list(folder.iterdir())


# --- launching --------------------------------------------------------------------------------------------------------


def test_one_run(folder: Path) -> None:
    result = scalelab("train", *TINY)
    assert result.exit_code == 0, result.output
    assert "plan: 1 runs, 0 finished, 1 to do" in result.stdout and "1 runs: 1 OK" in result.stdout
    (run,) = plan(TINY, multirun=False).runs
    assert run.folder.path == Path("runs/adhoc") / run.spec.fingerprint
    assert run.folder.read().spec == run.spec
    before = tree(folder)
    again = scalelab("train", *TINY)
    assert again.exit_code == 0 and "1 finished, 0 to do" in again.stdout
    assert tree(folder) == before


def test_a_sweep_leaves_a_complete_folder_a_run_and_runs_only_what_is_missing(folder: Path) -> None:
    sweep = ["train", "-m", *TINY, "lr=0.01,0.02", "seed=0,1", "study=mine"]
    result = scalelab(*sweep)
    assert result.exit_code == 0, result.output
    assert "4 runs: 4 OK" in result.stdout
    runs = planned("lr=0.01,0.02", "seed=0,1", "study=mine").runs
    at = folder / "runs" / "mine"
    names = {run.spec.fingerprint for run in runs}
    assert {path.name for path in at.iterdir() if path.is_dir()} == names
    for run in runs:
        config = yaml.safe_load((run.folder.path / ".hydra" / "config.yaml").read_text())
        assert (config["lr"], config["seed"]) == (run.spec.hparams.lr, run.spec.seed)
        assert (run.folder.path / ".hydra" / "overrides.yaml").exists()
        assert run.folder.read().spec == run.spec
        assert len(metrics(run.folder.path)) == run.spec.horizon.steps

    gone = at / runs[2].spec.fingerprint
    was = json.loads((gone / "trial.json").read_text())["loss_nats"]
    (gone / "trial.json").unlink()
    before = {path: tree(path) for path in at.iterdir() if path.is_dir() and path != gone}
    again = scalelab(*sweep)
    assert again.exit_code == 0 and "3 finished, 1 to do" in again.stdout
    for path, files in before.items():
        for name in ("trial.json", "metrics.jsonl"):
            assert tree(path)[name] == files[name]
    assert losses(at)[gone.name] == was
    assert {line["attempt"] for line in metrics(gone)} == {1, 2}


def test_a_diverged_run_does_not_end_the_sweep(folder: Path) -> None:
    result = scalelab(
        "train", "-m", *TINY, "optimizer=sgd", "optimizer.clip_norm=null", "lr=1e30,0.01", "parametrization=sp"
    )
    assert result.exit_code == 0, result.output
    assert "1 DIVERGED" in result.stdout and "1 OK" in result.stdout
    outcomes = {RunFolder(file.parent).read().outcome for file in folder.rglob("trial.json")}
    assert outcomes == {Outcome.OK, Outcome.DIVERGED}
    again = scalelab("train", "-m", *TINY, "optimizer=sgd", "optimizer.clip_norm=null", "lr=1e30,0.01",
                     "parametrization=sp")  # fmt: skip
    assert again.exit_code == 0 and "2 finished, 0 to do" in again.stdout


def test_a_failed_run_does_not_end_the_sweep_and_is_what_runs_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run = train.run

    def one_fails(specs: Sequence[RunSpec], **kwargs: Any) -> list[Trial]:
        if specs[0].seed == 0:
            raise RuntimeError("the disk is full")
        return train_run(specs, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(train, "run", one_fails)
        result = scalelab("train", "-m", *TINY, "seed=0,1")
    assert result.exit_code == 1
    assert "1 FAILED" in result.stdout and "1 OK" in result.stdout
    assert "the disk is full" in result.stderr
    again = scalelab("train", "-m", *TINY, "seed=0,1")
    assert again.exit_code == 0 and "1 finished, 1 to do" in again.stdout and "2 runs: 2 OK" in again.stdout


def test_an_interrupted_sweep_keeps_what_had_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_run = train.run

    def interrupted(specs: Sequence[RunSpec], **kwargs: Any) -> list[Trial]:
        if specs[0].seed == 1:
            raise KeyboardInterrupt
        return train_run(specs, **kwargs)

    with monkeypatch.context() as pressing:
        pressing.setattr(train, "run", interrupted)
        result = scalelab("train", "-m", *TINY, "seed=0,1,2")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("scalelab: interrupted")
    assert len(losses(folder)) == 1
    again = scalelab("train", "-m", *TINY, "seed=0,1,2")
    assert again.exit_code == 0 and "1 finished, 2 to do" in again.stdout


def test_a_file_that_changed_after_planning_fails_its_run_and_no_result_is_made_up(folder: Path) -> None:
    text = folder / "text.txt"
    text.write_bytes(bytes(range(97, 123)) * 400)
    arguments = [*TINY, "data=memmap", f"data.path={text}", "data.format=text", "tokens=64"]
    (run,) = plan(arguments, multirun=False).runs
    text.write_bytes(text.read_bytes()[:5000])
    with pytest.raises(RuntimeError, match="the spec was made for"):
        train.run([run.spec])


def test_the_joblib_launcher_gives_the_same_losses(folder: Path) -> None:
    for name in ("basic", "joblib"):
        workers = ["hydra.launcher.n_jobs=2"] if name == "joblib" else []
        command = [sys.executable, "-m", "scalelab.cli", "train", "-m", *TINY, "seed=0,1", f"out={name}"]
        ran = subprocess.run(
            [*command, f"hydra/launcher={name}", *workers], capture_output=True, text=True, timeout=180, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "2 runs: 2 OK" in ran.stdout
    assert len(losses(folder / "basic")) == 2
    assert losses(folder / "basic") == losses(folder / "joblib")


def test_a_sweep_killed_in_the_middle_loses_at_most_the_running_trial(folder: Path) -> None:
    arguments = [*TINY, "tokens=25600", "seed=0,1,2,3,4,5", "study=killed"]
    command = [sys.executable, "-m", "scalelab.cli", "train", "-m", *arguments]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    at = folder / "runs" / "killed"
    until = time.monotonic() + 120
    while len(list(at.glob("*/trial.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.parent.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in at.glob("*/trial.json")}
    assert 2 <= len(done) < 6
    started = {path.parent.name for path in at.glob("*/metrics.jsonl")}
    assert len(started - done.keys()) <= 1

    result = scalelab("train", "-m", *arguments)
    assert result.exit_code == 0, result.output
    assert f"{len(done)} finished, {6 - len(done)} to do" in result.stdout
    assert len(losses(at)) == 6 and None not in losses(at).values()
    for name, (mtime, content) in done.items():
        assert ((at / name / "trial.json").stat().st_mtime_ns, (at / name / "trial.json").read_bytes()) == (
            mtime,
            content,
        )
    for path in at.glob("*/metrics.jsonl"):
        attempts = {line["attempt"] for line in metrics(path.parent)}
        assert attempts == ({1, 2} if path.parent.name in started - done.keys() else {1})


def test_a_corrupt_trial_in_a_study_is_refused_before_anything_runs(folder: Path) -> None:
    assert scalelab("train", *TINY).exit_code == 0
    (file,) = folder.rglob("trial.json")
    file.write_text("{")
    before = tree(folder)
    assert "is corrupt" in one_line(scalelab("train", "-m", *TINY, "seed=0,1"))
    assert tree(folder) == before


# --- dry runs ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_plan_and_creates_nothing(folder: Path) -> None:
    result = scalelab("train", "-m", "--dry-run", *TINY, "width=32,64", "lr=0.01,0.02")
    assert result.exit_code == 0
    text = squeezed(result.stdout)
    (spec, *_) = (run.spec for run in planned("width=32,64", "lr=0.01,0.02").runs)
    assert "plan: 4 runs, 0 finished, 4 to do: 2,560 tokens" in text
    assert spec.fingerprint in text and f"{spec.cost_flops:.2e}" in text
    assert "10" in text and "core-seconds" in text
    assert not list(folder.iterdir())


def test_a_plan_warns_of_repeated_data_and_of_small_heads(folder: Path) -> None:
    text = folder / "small.txt"
    text.write_bytes(b"a small text. " * 400)
    arguments = [*TINY, "data=memmap", f"data.path={text}", "head_dim=16", "tokens=64000"]
    result = scalelab("train", "--dry-run", *arguments)
    assert result.exit_code == 0, result.output
    assert "times: data repeat" in squeezed(result.stdout)
    assert "head_dim 16 is below 32" in squeezed(result.stdout)


# --- a spec as overrides, and back ------------------------------------------------------------------------------------


def again(spec: RunSpec) -> RunSpec:
    (run,) = plan([*overrides_of(spec), f"seed={spec.seed}"], multirun=False).runs
    return run.spec


def image_spec(model: str, sizes: dict[str, int] | None = None, **given: Any) -> RunSpec:
    digits = DataSpec(
        name="digits", sha256=load("digits").sha256, vocab=17, bytes_per_token=None, validation_tokens=256
    )
    return make_spec(model=model, data=digits, sizes={"vocab": 17, "context": 64, **(sizes or {})}, **given)


SPECS: dict[str, RunSpec] = {
    "plain": make_spec(),
    "seed": make_spec(seed=3),
    "tied": make_spec(architecture=Architecture(tied_head=True, qk_norm=True, biases=True)),
    "grouped": make_spec("completep", width=128, depth=8, sizes={"heads": 4, "kv_heads": 2}),
    "mlp": image_spec("mlp", sizes={"heads": 1}),
    "resnet": image_spec("resnet", sizes={"heads": 1}, architecture=Architecture(mlp="relu")),
    "vit": image_spec("vit", architecture=Architecture(mlp="gelu", positions="learned")),
    "other heads at the base": make_spec(sizes={"heads": 2, "kv_heads": 2}, base_sizes={"heads": 1, "kv_heads": 1}),
    "sgd": make_spec("sp", optimizer="sgd", hparams={"momentum": 0.9, "clip_norm": None}),
    "wsd": replace(
        make_spec(),
        horizon=Horizon(tokens=640, batch_tokens=64, schedule="wsd", warmup_fraction=0.2, decay_fraction=0.3,
                        final_lr_ratio=0.1),
    ),
    "warm-up in tokens": replace(
        make_spec(dtype="bfloat16"),
        horizon=Horizon(tokens=640, batch_tokens=64, schedule="cosine", warmup_fraction=0.0, warmup_tokens=128),
    ),
    "multipliers": make_spec(
        hparams={
            "lr": 1 / 3, "eps": 1e-12, "beta2": 0.999, "init_gain": 0.5, "embedding_std": 0.02,
            "embedding_multiplier": 10.0, "attention_multiplier": 0.7, "residual_multiplier": 0.25,
            "logits_multiplier": 2.0,
        }
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_a_specs_overrides_make_it_again(name: str) -> None:
    assert again(SPECS[name]) == SPECS[name]


@pytest.mark.parametrize("name", ["plain.txt", "with spaces, and 'quotes'.txt", "größe=3.txt", 'double".txt'])
def test_a_path_of_ones_own_data_survives(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"some text. " * 2000)
    given_path = json.dumps(str(folder / name), ensure_ascii=False)
    (run,) = plan([*TINY, "data=memmap", f"data.path={given_path}"], multirun=False).runs
    assert dict(run.spec.data.options)["path"] == str(folder / name)
    assert again(run.spec) == run.spec


@given(
    lr=st.floats(1e-8, 10),
    width=st.sampled_from([32, 48, 256]),
    depth=st.integers(1, 40),
    parametrization=st.sampled_from(["sp", "mup", "depth_mup"]),
    decay=st.floats(0, 1),
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spec_survives(lr: float, width: int, depth: int, parametrization: str, decay: float) -> None:
    spec = make_spec(parametrization, width=width, depth=depth, hparams={"lr": lr, "weight_decay": decay})
    assert again(spec) == spec


# --- the program ------------------------------------------------------------------------------------------------------


def program(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_trainer_is_a_program_of_its_own(folder: Path) -> None:
    ran = program("-m", "scalelab.train", *TINY)
    assert ran.returncode == 0, ran.stderr
    assert "1 runs: 1 OK" in ran.stdout
    assert len(losses(folder)) == 1
    refused = program("-m", "scalelab.train", *TINY, "lr=-1")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1


HEAVY = ("torch", "hydra", "optuna", "wandb", "pandas", "matplotlib", "numpy", "scipy")


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from scalelab.cli import app;"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0 and 'recommend' in result.output;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = program("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert program("-m", "scalelab.cli", "--help").returncode == 0
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.0, seconds


def test_the_version_is_printed() -> None:
    from scalelab import __version__

    result = scalelab("--version")
    assert result.exit_code == 0 and result.stdout.strip() == __version__


# --- trackers ---------------------------------------------------------------------------------------------------------


def test_wandb_offline_needs_no_login_and_changes_no_result(folder: Path) -> None:
    pytest.importorskip("wandb")
    home = folder / "home"
    home.mkdir()
    unset = {name: "" for name in os.environ if name.startswith("WANDB_")}
    arguments = ["-m", "scalelab.cli", "train", *TINY]
    ran = program(*arguments, "tracker=wandb", "out=tracked", HOME=str(home), **unset)
    assert ran.returncode == 0, ran.stderr
    assert "1 runs: 1 OK" in ran.stdout
    (run,) = (folder / "tracked").rglob("offline-run-*")
    assert list(run.glob("*.wandb"))
    assert scalelab("train", *TINY).exit_code == 0
    assert losses(folder / "tracked") == losses(folder / "runs")


def test_token_files_of_numpy_can_be_trained_on(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rng.integers(0, 50, size=20_000).astype(np.uint16).tofile(folder / "tokens.bin")
    arguments = [*TINY, "data=memmap", f"data.path={folder / 'tokens.bin'}", "data.vocab=50"]
    assert scalelab("train", *arguments).exit_code == 0
    (file,) = folder.rglob("trial.json")
    trial = RunFolder(file.parent).read()
    assert trial.spec.shape.vocab == 50 and trial.loss_bits_per_byte is None
    shutil.rmtree(folder / "runs")


@pytest.mark.parametrize(
    "swept",
    [*COMPOSED, ["study=a,b", "seed=range(0,2)"]],
    ids=lambda swept: " ".join(swept),
)
def test_a_plan_composes_as_hydra_does(swept: list[str]) -> None:
    from hydra import compose, initialize_config_dir

    from scalelab.composing import as_mapping
    from scalelab.config import config_dir, spec_from_config

    runs = planned(*swept).runs
    assert len(runs) > 1
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="train"):
        for run in runs:
            config = compose("train", [*run.hydra_overrides, *run.task_overrides], return_hydra_config=True)
            assert spec_from_config(as_mapping(config)) == run.spec
            assert Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir == run.folder.path


def test_a_relaunch_leaves_finished_runs_alone(folder: Path) -> None:
    arguments = ["train", "-m", *TINY, "seed=0,1,2"]
    assert scalelab(*arguments).exit_code == 0
    missing, *finished = sorted((folder / "runs" / "adhoc").glob("*/trial.json"))
    missing.unlink()
    before = {file: file.stat().st_mtime_ns for run in finished for file in run.parent.rglob("*") if file.is_file()}
    assert any(".hydra" in file.parts for file in before)
    assert scalelab(*arguments).exit_code == 0
    assert missing.exists()
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_hydras_own_questions_are_answered_and_run_nothing(folder: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "scalelab.cli", "train", "--cfg", "job", "width=96"],
        capture_output=True, text=True, timeout=60, check=True, cwd=folder,
    )  # fmt: skip
    assert "width: 96" in asked.stdout
    assert not list(folder.iterdir())


# --- weight decay and horizon -----------------------------------------------------------------------------------------


def test_an_independent_weight_decay_is_one_for_every_tensor_whatever_the_table_says() -> None:
    """Megatron's table holds λ constant, so lr·λ would fall with width; given as independent it does not."""
    (run,) = planned("parametrization=megatron", "width=128", "lr=0.02", "independent_weight_decay=0.001").runs
    decayed = [setting for setting in resolved(run.spec) if setting.weight_decay]
    assert {round(setting.lr * setting.weight_decay, 12) for setting in decayed} == {0.001}
    assert again(run.spec) == run.spec


@pytest.mark.parametrize(
    ("arguments", "noted"),
    [
        (["parametrization=completed_p"], True),
        (["parametrization=completed_p", "base.tokens=320"], False),
        (["weight_decay_policy=ema", "optimizer.weight_decay=0.1"], True),
        (["parametrization=completep"], False),
    ],
)
def test_a_plan_says_where_factors_for_the_horizon_have_no_base(arguments: list[str], noted: bool) -> None:
    said = scalelab("train", *TINY, *arguments, "--dry-run")
    assert said.exit_code == 0, said.output
    assert ("base.tokens and base.batch_tokens are not given" in squeezed(said.stdout)) == noted
