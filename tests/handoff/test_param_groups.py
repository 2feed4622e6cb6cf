"""The file for any PyTorch code, used as its reader uses it: on our network, and on one without multipliers."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from scalelab.errors import Refused
from scalelab.exporters import Handoff, export
from scalelab.exporters.fold import folded
from scalelab.exporters.param_groups import patterns
from scalelab.networks import build
from scalelab.resolve import settings
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.handoff.plain import Plain, rename
from tests.handoff.recipes import MULTIPLIED, case, handoff_of, recipe_of, spec_of
from tests.handoff.training import batches, grown_state, losses, ours, started, trained

# Of `CASES`, those that fold something of their own, or step otherwise.
PLAIN = ("mup-multipliers", "mup-qk-norm", "mup-biases", "mup-tied-multipliers", "mup-sgd", "completep-multipliers")
MORE = ("mup-wide-heads", "mup-grouped-query", "mup-wsd", "sp", "ntk")


def exported(spec: RunSpec, folder: Path, **options: str) -> ModuleType:
    """The written file, imported."""
    export(recipe_of(spec), "param_groups", folder, options)
    found = importlib.util.spec_from_file_location("param_groups", folder / "param_groups.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def follows(
    theirs: ModuleType, model: nn.Module, loss: Any, spec: RunSpec, name: Any = lambda name: name
) -> list[float]:
    """Losses of a training with the file's optimizer and scheduler."""
    optimizer = theirs.optimizer(model, name)
    scheduler = theirs.scheduler(optimizer)

    def step(_: int) -> None:
        if theirs.record()["run"]["clip_norm"] is not None:
            nn.utils.clip_grad_norm_(model.parameters(), theirs.record()["run"]["clip_norm"])
        optimizer.step()
        scheduler.step()

    return trained(model.parameters(), loss, step, batches(spec))


def plain(spec: RunSpec, run: Handoff) -> Plain:
    """A plain transformer with our weights, our multipliers in them."""
    model, state = Plain(spec).double(), grown_state(started(spec), handoff_of(spec), run)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[rename(name)])
    return model


@pytest.mark.parametrize("name", [*PLAIN, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_a_plain_transformer_trains_as_our_network_does(name: str, tmp_path: Path) -> None:
    spec = case(name)
    model = plain(spec, folded(handoff_of(spec)))
    found = follows(exported(spec, tmp_path), model, model.loss, spec, rename)
    assert found == pytest.approx(ours(name), rel=1e-9, abs=0)
    assert found[-1] < found[0] - 0.1


@pytest.mark.parametrize("name", ["mup-multipliers", "mup-clipped", "mup-tied-no-gains"])
def test_unfolded_our_network_trains_as_it_does(name: str, tmp_path: Path) -> None:
    spec = case(name)
    network, theirs = started(spec), exported(spec, tmp_path, fold="false")
    assert follows(theirs, network, network.loss, spec) == pytest.approx(ours(name), rel=1e-12)


@pytest.mark.parametrize("field", ["lr", "eps", "weight_decay"])
def test_a_wrong_value_shows(field: str, tmp_path: Path) -> None:
    spec = case("mup-multipliers")
    model, theirs = plain(spec, folded(handoff_of(spec))), exported(spec, tmp_path)
    readout = theirs.record()["groups"][-1]
    assert readout["role"] == "readout"
    readout[field] *= 1.25  # the readout's multiplier, 2.5 / 2, forgotten
    assert follows(theirs, model, model.loss, spec, rename) != pytest.approx(ours("mup-multipliers"), rel=1e-9, abs=0)


def test_a_weight_that_was_not_grown_shows(tmp_path: Path) -> None:
    spec = case("mup-multipliers")
    model = plain(spec, handoff_of(spec))
    found = follows(exported(spec, tmp_path), model, model.loss, spec, rename)
    assert found != pytest.approx(ours("mup-multipliers"), rel=1e-3)


def test_with_clipping_active_folding_is_not_exact_and_a_note_says_so(tmp_path: Path) -> None:
    spec = spec_of(hparams={**MULTIPLIED, "clip_norm": 0.3})
    model, expected = plain(spec, folded(handoff_of(spec))), losses(started(spec), spec, batches(spec))
    found = follows(exported(spec, tmp_path), model, model.loss, spec, rename)
    assert found != pytest.approx(expected, rel=1e-6) and found == pytest.approx(expected, rel=0.05)
    _, notes = export(recipe_of(spec), "param_groups", tmp_path, {})
    assert "clipped at norm 0.3" in " ".join(notes)
    assert json.loads((tmp_path / "param_groups.json").read_text())["notes"] == list(notes)


def test_the_optimizer_has_the_recipes_values(spec: RunSpec, tmp_path: Path) -> None:
    network, theirs = build(spec), exported(spec, tmp_path, fold="false")
    resolved = {setting.tensor.name: setting for setting in settings(spec)}
    optimizer, seen = theirs.optimizer(network), []
    for group in optimizer.param_groups:
        for name in group["names"]:
            assert (group["lr"], group["weight_decay"]) == (resolved[name].lr, resolved[name].weight_decay)
            assert group.get("eps") == resolved[name].eps
            if spec.optimizer == "adamw":
                assert group["betas"] == (spec.hparams.beta1, spec.hparams.beta2)
            seen.append(name)
    assert sorted(seen) == sorted(resolved)


def test_parameters_start_as_the_recipe_says(spec: RunSpec, tmp_path: Path) -> None:
    name = "false" if spec == case("mup-tied-no-gains") else "true"
    run = handoff_of(spec) if name == "false" else folded(handoff_of(spec))
    network, theirs = build(spec), exported(spec, tmp_path, fold=name)
    theirs.init_(network, generator=torch.Generator().manual_seed(0))
    for key, parameter in network.named_parameters():
        each = run.by_name[key]
        if each.init_std == 0:
            assert torch.all(parameter == each.init_mean)
        else:
            tolerance = 5 / (2 * parameter.numel()) ** 0.5
            assert parameter.std().item() == pytest.approx(each.init_std, rel=tolerance)
            assert abs(parameter.mean().item()) < 5 * each.init_std / parameter.numel() ** 0.5


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_the_schedule_is_the_proxies(schedule: str, tmp_path: Path) -> None:
    horizon = {"schedule": schedule, "final_lr_ratio": 0.1, "warmup_fraction": 0.3}
    spec = spec_of(horizon=horizon)
    theirs = exported(spec, tmp_path)
    assert [theirs.lr_factor(step) for step in range(20)] == [spec.horizon.lr_factor(step) for step in range(20)]
    assert theirs.lr_factor(20) == (1.0 if schedule == "constant" else pytest.approx(0.1))


def test_decay_is_what_its_convention_says(tmp_path: Path) -> None:
    for name in ("mup", "mup-sgd"):
        theirs, network = exported(case(name), tmp_path), build(case(name))
        before = network.readout.weight.detach().clone()  # type: ignore[union-attr]
        optimizer, said = theirs.optimizer(network), theirs.record()["optimizer"]["weight_decay_convention"]
        for _ in range(2):
            for parameter in network.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        group = next(g for g in optimizer.param_groups if "readout.weight" in g["names"])
        assert {g["weight_decay_convention"] for g in theirs.record()["groups"]} == {said.partition(":")[0]}
        rate = group["lr"] * group["weight_decay"]
        kept = (1 - rate) ** 2
        if said.startswith("gradient"):  # the buffer after two steps: 0.9 of the first decay, and the second
            kept -= 0.9 * rate
        else:
            assert said.startswith("lr*weight_decay")
        assert torch.allclose(network.readout.weight, kept * before, rtol=1e-5, atol=0)  # type: ignore[union-attr]


def test_a_parameter_that_no_group_has_is_named(tmp_path: Path) -> None:
    spec = case("mup")
    theirs, model = exported(spec, tmp_path), Plain(spec)
    with pytest.raises(ValueError, match=r"parameter 'wte.weight', renamed 'wte.weight', is matched by no pattern"):
        theirs.param_groups(model)
    model.lm_head = nn.Linear(spec.shape.width, spec.shape.vocab)
    with pytest.raises(ValueError, match=r"'lm_head.bias', renamed 'readout.bias'"):
        theirs.param_groups(model, rename)
    with pytest.raises(ValueError, match=r"the model has 4 tensors of 256 elements, the recipe 6 of"):
        theirs.param_groups(Plain(spec_of(depth=2)), rename)
    theirs.record()["groups"].append(theirs.record()["groups"][0])
    with pytest.raises(ValueError, match=r"'embedding.weight', is matched by embedding.* and embedding"):
        theirs.param_groups(build(spec))


def test_patterns_match_their_own_names_only() -> None:
    names = ["blocks.0.up.weight", "blocks.1.up.weight", "blocks.2.up.weight"]
    assert patterns(names[:2], names) == [r"blocks\.0\.up\.weight", r"blocks\.1\.up\.weight"]
    assert patterns(names, names) == [r"blocks\.\d+\.up\.weight"]


def test_the_file_needs_torch_and_nothing_else(tmp_path: Path) -> None:
    exported(case("mup"), tmp_path)
    text = (tmp_path / "param_groups.py").read_text()
    assert text.startswith("# scalelab ") and "import scalelab" not in text and "from scalelab" not in text
    needed = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert needed <= {"torch", *sys.stdlib_module_names}


def test_the_record_has_the_run(tmp_path: Path) -> None:
    spec = case("mup-wsd")
    record = exported(spec, tmp_path).record()
    assert record["run"]["batch_tokens"] == 64 and record["run"]["steps"] == 20 and record["run"]["warmup_steps"] == 4
    assert record["run"]["decay_start"] == 14 and record["run"]["clip_norm"] is None
    assert record["network"]["head_dim"] == 16 and record["network"]["tied_head"] is False
    assert record["network"]["base"]["width"] == 32 and record["network"]["target"]["width"] == 64
    readout = record["groups"][-1]
    assert readout["lr_low"] == readout["lr"] / 2 and readout["lr_high"] == readout["lr"] * 2
    assert handoff_of(spec).digest in record["provenance"] and record["recipe"] == handoff_of(spec).digest


def test_what_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no export of optimizer=lion to param_groups: accepted are adamw, sgd"):
        export(recipe_of(make_spec(optimizer="lion")), "param_groups", tmp_path, {})
    with pytest.raises(Refused, match=r"fold=yes: accepted are true, false"):
        export(recipe_of(case("mup")), "param_groups", tmp_path, {"fold": "yes"})
    with pytest.raises(Refused, match=r"unknown option of param_groups 'folds': accepted are fold; did you mean"):
        export(recipe_of(case("mup")), "param_groups", tmp_path, {"folds": "true"})
    with pytest.raises(Refused, match=r"without a gain of the last norm"):
        export(recipe_of(case("mup-tied-no-gains")), "param_groups", tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_a_z_loss_is_in_the_record_and_in_a_note(tmp_path: Path) -> None:
    spec = replace(case("mup"), hparams=replace(case("mup").hparams, z_loss=1e-4))
    _, notes = export(recipe_of(spec), "param_groups", tmp_path, {})
    assert any("0.0001 · mean(logsumexp" in note for note in notes)
