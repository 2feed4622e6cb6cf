"""One run in two processes on gloo, whole (DDP) or cut (FSDP2), in one pass a step or several: one process's results.

One pair of processes does all of it: most of their time is importing torch.
"""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scalelab.parallel import Parallel
from scalelab.spec import RunSpec
from scalelab.train import SHARDED
from scalelab.train.spread.group import Group
from scalelab.trials import Outcome
from tests.conftest import make_spec
from tests.train.running import of_model, run_each, to_horizon
from tests.train.spreading import (
    CUT,
    FEW,
    SMALL,
    STEPS,
    WHOLE,
    Walk,
    in_two,
    read_back,
    smaller,
    spread_specs,
    trained,
    trajectory,
)

ALONE = Group()
STRATEGIES = {"ddp": WHOLE, "fsdp": CUT}
OPTIMIZERS = {"sgd": CUT, "lion": CUT, "adam_atan2": CUT, "muon": WHOLE, "adafactor": WHOLE, "shampoo": WHOLE}
LONG, RESUMED = 10, 4  # steps; the one before which a run is stopped


def cases() -> dict[str, tuple[RunSpec, Parallel]]:
    """What two processes train as one does."""
    found = {}
    for name, spec in spread_specs().items():
        for strategy, parallel in STRATEGIES.items():
            found[f"{name}-{strategy}"] = spec, parallel
    for name in ("mup", "u_mup"):
        for strategy, parallel in STRATEGIES.items():
            found[f"{name}-{strategy}-small"] = spread_specs()[name], smaller(parallel)
    found["moe-fsdp-recomputed"] = spread_specs()["moe"], replace(CUT, activation_checkpointing=True)
    for optimizer, parallel in OPTIMIZERS.items():
        spec = make_spec(
            "mup", width=32, base_width=16, tokens=64 * FEW, optimizer=optimizer, hparams={"damping": 1e-3}
        )
        found[f"{optimizer}-{parallel.name}"] = spec, parallel
    return found


def usual_spec() -> RunSpec:
    return to_horizon(spread_specs()["mup"], STEPS)


def bfloat16_spec() -> RunSpec:
    return replace(spread_specs()["mup"], dtype="bfloat16")


def long_spec() -> RunSpec:
    return make_spec("completep", width=32, base_width=16, tokens=64 * LONG, seed=3)


def work(group: Group, folder: Path) -> None:
    """What both processes do."""
    for name in ("mup", "completep", "u_mup", "moe", "mlp"):
        read_back(spread_specs()[name], group)
    read_back(of_model("resnet"), group)
    read_back(of_model("vit"), group)
    found: dict[str, Walk] = {name: trajectory(*case, group) for name, case in cases().items()}
    found["same part"] = trajectory(spread_specs()["mup"], WHOLE, group, part=0)
    found["not pooled"] = trajectory(spread_specs()["moe"], WHOLE, group, pooled=False)
    loops = {name: trained(usual_spec(), parallel, group, checkpoint=None) for name, parallel in STRATEGIES.items()}
    bad = make_spec(hparams={"lr": 1e30, "clip_norm": None})
    loops["bfloat16"] = trained(bfloat16_spec(), CUT, group, checkpoint=None)
    loops["diverged"] = trained(bad, CUT, group, checkpoint=None)
    kept = {}
    for name, parallel in STRATEGIES.items():
        path = folder / name / "checkpoint.pt"
        whole = trained(long_spec(), parallel, group, checkpoint=None)
        assert trained(long_spec(), parallel, group, checkpoint=path, stop=RESUMED)[0] is None
        kept[name] = whole, trained(long_spec(), parallel, group, checkpoint=path)
    for name, first, then in (("a", CUT, WHOLE), ("b", WHOLE, CUT)):
        path = folder / name / "checkpoint.pt"
        trained(long_spec(), first, group, checkpoint=path, stop=RESUMED)
        kept[name] = trained(long_spec(), then, group, checkpoint=path)
    for name in ("left", "torn", "other"):
        trained(long_spec(), CUT, group, checkpoint=folder / name / "checkpoint.pt", stop=RESUMED)
    if group.leads:
        tear(folder / "torn" / SHARDED)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kept["torn"] = trained(long_spec(), CUT, group, checkpoint=folder / "torn" / "checkpoint.pt")
    kept["said"] = [str(each.message) for each in said]
    kept["ordinary"] = trained(long_spec(), CUT, group, checkpoint=folder / "ordinary" / "checkpoint.pt")
    if group.leads:
        torch.save({"found": found, "loops": loops, "kept": kept}, folder / "found.pt")


def tear(sharded: Path) -> None:
    """Change one byte of a file."""
    (file,) = sharded.glob("*/__1_0.distcp")
    torn = bytearray(file.read_bytes())
    torn[len(torn) // 2] ^= 1
    file.write_bytes(torn)


def ordinary(folder: Path) -> None:
    """Leave the checkpoint of a run in one process, which was stopped."""
    from scalelab import stopping

    calls = iter(range(LONG))
    (folder / "ordinary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "asked", lambda: next(calls) == RESUMED)
        with pytest.raises(stopping.Stopped):
            run_each([long_spec()], checkpoints=[folder / "ordinary" / "checkpoint.pt"], members=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("spread")
    ordinary(found)
    in_two(work, found)
    return found


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "found.pt", weights_only=False)
    return found


@pytest.mark.parametrize("name", cases())
def test_two_processes_train_as_one(name: str, done: dict[str, Any]) -> None:
    spec, _ = cases()[name]
    one, two = trajectory(spec, Parallel(), ALONE), done["found"][name]
    rel = 1e-6 if spec.model == "moe" else 1e-9  # routers are in float32 always
    assert two.losses == pytest.approx(one.losses, rel=rel)
    assert two.norm == pytest.approx(one.norm, rel=rel)
    assert two.validation == pytest.approx(one.validation, rel=rel)


@pytest.mark.parametrize("name", [name for name in spread_specs() if name != "moe"])
def test_a_pass_for_each_sequence_trains_as_one_for_all(name: str) -> None:
    spec = spread_specs()[name]
    one, small = trajectory(spec, Parallel(), ALONE), trajectory(spec, SMALL, ALONE)
    assert small.losses == pytest.approx(one.losses, rel=1e-9)
    assert small.norm == pytest.approx(one.norm, rel=1e-9)


@pytest.mark.parametrize(("wrong", "name"), [("same part", "mup"), ("not pooled", "moe")])
def test_what_is_wrong_would_be_seen(wrong: str, name: str, done: dict[str, Any]) -> None:
    one = trajectory(spread_specs()[name], Parallel(), ALONE)
    assert done["found"][wrong].losses != pytest.approx(one.losses, rel=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_has_the_results_of_the_trainer_of_populations(strategy: str, done: dict[str, Any]) -> None:
    (one,) = run_each([usual_spec()], members=1)
    trial, curve = done["loops"][strategy]
    assert trial.outcome is Outcome.OK and trial.tokens_seen == one.trial.tokens_seen
    assert trial.loss_nats == pytest.approx(one.trial.loss_nats, rel=1e-5)
    assert trial.loss_se_nats == pytest.approx(one.trial.loss_se_nats, rel=1e-4)
    assert [row["loss_nats"] for row in curve] == pytest.approx([row["loss_nats"] for row in one.curve], rel=1e-5)
    assert [row["step"] for row in curve] == [row["step"] for row in one.curve]
    assert trial.provenance["parallel"] == strategy and trial.provenance["processes"] == "2"


def test_products_are_in_bfloat16_as_in_a_population(done: dict[str, Any]) -> None:
    (one,), (in_full,) = run_each([bfloat16_spec()], members=1), run_each([spread_specs()["mup"]], members=1)
    first, wide, two = one.curve[0]["loss_nats"], in_full.curve[0]["loss_nats"], done["loops"]["bfloat16"][1]
    assert abs(two[0]["loss_nats"] - first) < abs(wide - first) / 10
    assert [row["loss_nats"] for row in two] == pytest.approx([row["loss_nats"] for row in one.curve], rel=0.02)


def test_it_diverges_as_one_does(done: dict[str, Any]) -> None:
    trial, _ = done["loops"]["diverged"]
    assert trial.outcome is Outcome.DIVERGED and "training loss" in trial.reason


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_run_has_the_same_bits(strategy: str, done: dict[str, Any]) -> None:
    (whole, curve), (resumed, rest) = done["kept"][strategy]
    assert resumed.loss_nats == whole.loss_nats and resumed.loss_se_nats == whole.loss_se_nats
    assert [row["step"] for row in rest] == list(range(RESUMED, LONG))
    assert [row["loss_nats"] for row in rest] == [row["loss_nats"] for row in curve[RESUMED:]]


@pytest.mark.parametrize("name", ["a", "b", "ordinary"])
def test_it_goes_on_cut_otherwise(name: str, done: dict[str, Any]) -> None:
    (one,) = run_each([long_spec()], members=1)
    trial, rest = done["kept"][name]
    assert [row["step"] for row in rest] == list(range(RESUMED, LONG))
    assert trial.loss_nats == pytest.approx(one.trial.loss_nats, rel=1e-5)


@pytest.mark.parametrize("parallel", [SMALL, None], ids=["spread", "population"])
def test_one_process_goes_on_with_what_two_have_left(parallel: Parallel | None, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "left" / SHARDED, tmp_path / SHARDED)
    path = tmp_path / "checkpoint.pt"
    (one,) = run_each([long_spec()], members=1)
    if parallel is None:
        (ran,) = run_each([long_spec()], checkpoints=[path], members=1)
        trial, rest = ran.trial, ran.curve
    else:
        trial, rest = trained(long_spec(), parallel, ALONE, checkpoint=path)
    assert [row["step"] for row in rest] == list(range(RESUMED, LONG))
    assert trial.loss_nats == pytest.approx(one.trial.loss_nats, rel=1e-5)


def test_a_torn_checkpoint_is_set_aside(folder: Path, done: dict[str, Any]) -> None:
    (whole, _), _ = done["kept"]["fsdp"]
    trial, curve = done["kept"]["torn"]
    assert trial.loss_nats == whole.loss_nats and len(curve) == LONG
    assert [text for text in done["kept"]["said"] if "__1_0.distcp is not what its digest says" in text]
    assert (folder / "torn" / f"{SHARDED}.unusable").is_dir()


def test_another_runs_checkpoint_is_set_aside(folder: Path) -> None:
    with pytest.warns(UserWarning, match="is of run .* not"):
        trial, curve = trained(
            to_horizon(long_spec(), LONG + 1), SMALL, ALONE, checkpoint=folder / "other" / "checkpoint.pt"
        )
    assert trial.outcome is Outcome.OK and len(curve) == LONG + 1
