"""The files for transformers, held against its own models, schedules and TrainingArguments."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from scalelab.exporters import export
from scalelab.exporters.hf_classes import CLASSES
from scalelab.exporters.hf_classes import theirs as named
from scalelab.networks import build
from scalelab.resolve import settings
from scalelab.spec import RunSpec
from tests.handoff.hf_models import exact, exported, follow, load, model_in, nats_of, stepped
from tests.handoff.recipes import CASES, MULTIPLIED, case, recipe_of, spec_of
from tests.handoff.training import batches, losses, started

transformers = pytest.importorskip("transformers")

EXACT = 1e-9  # nats, over 20 steps in float64
COURSES = [  # each thing that is expressed, folded, or held still, once; the others are slow
    ("mup", "auto"), ("mup-gelu", "auto"), ("mup-multipliers", "auto"), ("mup-multipliers", "llama"),
    ("mup-multipliers", "hyperclovax"), ("mup-wide-heads", "llama"), ("mup-grouped-query", "llama"),
    ("mup-qk-norm", "auto"), ("mup-biases", "llama"), ("mup-tied-multipliers", "auto"),
    ("mup-tied-multipliers", "llama"), ("mup-tied-no-gains", "llama"), ("mup-sgd", "llama"),
    ("completep-multipliers", "llama"), ("ntk", "auto"),
]  # fmt: skip


def exact_in(name: str, asked: str) -> bool:
    """Whether a class has what a case is made of, and clipping does not see that something was folded for it."""
    spec = case(name)
    there = spec.architecture.positions == "rotary" and spec.architecture.norm_gains != "scalar"
    if asked == "auto":
        return there
    unseen = bool(CLASSES[asked].holds) or spec.hparams.clip_norm is None
    return there and unseen and not CLASSES[asked].lacks(spec.architecture)


OTHERS = [(name, asked) for name in CASES for asked in ("auto", "llama", "hyperclovax") if exact_in(name, asked)]


@cache
def ours(name: str) -> list[float]:
    """The losses of one of `CASES` as scalelab trains it."""
    return losses(started(case(name)), case(name), batches(case(name)))


def apart(found: list[float], expected: list[float]) -> float:
    """The largest difference of two courses of the loss, nats."""
    return max(abs(a - b) for a, b in zip(found, expected, strict=True))


def trained_there(spec: RunSpec, asked: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The losses of scalelab's start in a model of transformers."""
    with exported(spec, folder, model=asked) as scalelab_hf:
        model = model_in(folder).double()
        exact(model, monkeypatch)
        load(model, started(spec), spec, asked)
        return follow(scalelab_hf, model, spec, batches(spec))


@pytest.mark.parametrize(
    ("name", "asked"),
    [*COURSES, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS if each not in COURSES)],
)
def test_a_model_trains_as_our_network_does(
    name: str, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained_there(case(name), asked, tmp_path, monkeypatch)
    assert apart(found, ours(name)) <= EXACT
    assert found[-1] < found[0] - 0.1


@pytest.mark.parametrize(("name", "mlp"), [("mup", "relu"), ("completep", "squared_relu")])
def test_arcee_has_the_other_mlps(name: str, mlp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(case(name), architecture=replace(case(name).architecture, mlp=mlp))
    found = trained_there(spec, "arcee", tmp_path, monkeypatch)
    assert apart(found, losses(started(spec), spec, batches(spec))) <= EXACT


def test_a_softmax_scale_between_normed_queries_and_keys_without_gains_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(architecture={"qk_norm": True, "norm_gains": "none"}, hparams=MULTIPLIED)
    found = trained_there(spec, "qwen3", tmp_path, monkeypatch)
    assert apart(found, losses(started(spec), spec, batches(spec))) <= EXACT
    held = json.loads((tmp_path / "param_groups.json").read_text())["held"]
    assert r"model\.layers\.\d+\.self_attn\.q_norm\.weight" in held


def test_a_model_as_it_is_differs_by_what_it_rounds_to_float32(tmp_path: Path) -> None:
    spec = case("mup-multipliers")
    with exported(spec, tmp_path) as scalelab_hf:
        model = model_in(tmp_path).double()
        load(model, started(spec), spec)
        assert apart(follow(scalelab_hf, model, spec, batches(spec)), ours("mup-multipliers")) < 1e-5


def test_logits_scaling_multiplied_with_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = case("mup-multipliers")
    with exported(spec, tmp_path) as scalelab_hf:
        model = model_in(tmp_path).double()
        exact(model, monkeypatch)
        load(model, started(spec), spec)
        optimizers = scalelab_hf.create_optimizer_and_scheduler(model)
        assert model.config.logits_scaling == 1 / (2.5 / 2)  # the tuned 2.5 over the width ratio, divided by
        model.config.logits_scaling = 2.5 / 2
        with pytest.raises(ValueError, match=r"logits_scaling is 1\.25 in this model, and 0\.8 in the recipe"):
            scalelab_hf.create_optimizer_and_scheduler(model)
        assert apart(stepped(model, spec, batches(spec), *optimizers), ours("mup-multipliers")) > 0.01


@pytest.mark.parametrize("wrong", ["weights", "lr", "eps", "one group"])
def test_a_wrong_fold_shows(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = case("mup-multipliers")
    with exported(spec, tmp_path, model="llama") as scalelab_hf:
        model = model_in(tmp_path).double()
        exact(model, monkeypatch)
        load(model, started(spec), spec, "granite" if wrong == "weights" else "llama")
        optimizer, scheduler = scalelab_hf.create_optimizer_and_scheduler(model)
        readout = optimizer.param_groups[-1]
        assert readout["names"] == ["lm_head.weight"]
        if wrong == "lr":
            scheduler.base_lrs[-1] /= 2.5 / 2
        elif wrong == "eps":
            readout["eps"] *= 2.5 / 2
        elif wrong == "one group":  # what training_args.json alone would do
            optimizer = torch.optim.AdamW(model.parameters(), lr=spec.hparams.lr, betas=(0.9, 0.95), weight_decay=0.1)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, spec.horizon.lr_factor)
        found = stepped(model, spec, batches(spec), optimizer, scheduler)
    assert apart(found, ours("mup-multipliers")) > (1e-6 if wrong == "eps" else 1e-3)


def test_with_clipping_expressed_is_exact_and_folded_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = case("mup-clipped")
    assert apart(trained_there(spec, "granite", tmp_path, monkeypatch), ours("mup-clipped")) <= EXACT
    assert "clipped" not in " ".join(export(recipe_of(spec), "hf", tmp_path, {"model": "granite"})[1])
    assert apart(trained_there(spec, "llama", tmp_path, monkeypatch), ours("mup-clipped")) > 1e-3
    _, notes = export(recipe_of(spec), "hf", tmp_path, {"model": "llama"})
    assert "gradients are clipped at norm 1, and folding" in notes[-1]
    assert json.loads((tmp_path / "training_args.json").read_text())["max_grad_norm"] == 1.0


@pytest.mark.parametrize("name", ["mup-multipliers", "mup-qk-norm", "mup-tied", "mup-sgd", "completep-biases"])
def test_every_parameter_has_the_recipes_values_once(name: str, tmp_path: Path) -> None:
    spec = case(name)
    with exported(spec, tmp_path, model="auto") as scalelab_hf:
        model = model_in(tmp_path)
        scalelab_hf.init_weights_(model, torch.Generator().manual_seed(0))
        optimizer, scheduler = scalelab_hf.create_optimizer_and_scheduler(model)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    group_of = {id(p): (group, lr) for group, lr in zip(optimizer.param_groups, scheduler.base_lrs, strict=True)
                for p in group["params"]}  # fmt: skip
    parameters = dict(model.named_parameters())
    grown = name == "mup-qk-norm"  # Qwen3 has no multipliers
    for each in settings(spec):
        parameter = parameters.pop(named(each.tensor.name))
        group, lr = group_of[id(parameter)]
        a = lr / each.lr
        if not grown:
            assert a == 1.0
        assert (group["weight_decay"] * a, group.get("eps", 0.0)) == pytest.approx(
            (each.weight_decay, 0.0 if each.eps is None else each.eps / a)
        )
        if str(each.tensor.role) in ("gain", "bias"):
            assert parameter.unique().tolist() == pytest.approx([a * float(each.tensor.role == "gain")])
        else:
            assert parameter.std().item() == pytest.approx(a * each.init_std, rel=4 / (2 * parameter.numel()) ** 0.5)
    assert not parameters


def test_folded_values_are_the_recipes_by_the_multiplier(tmp_path: Path) -> None:
    spec = case("mup-multipliers")
    factors = {"readout.weight": 1.25, "embedding.weight": 3.0, "blocks.0.attention.query.weight": 1.7,
               "blocks.2.mlp.down.weight": 0.6, "blocks.1.mlp.up.weight": 1.0}  # fmt: skip
    with exported(spec, tmp_path, model="llama") as scalelab_hf:
        optimizer, _ = scalelab_hf.create_optimizer_and_scheduler(model_in(tmp_path))
        groups = json.loads((tmp_path / "param_groups.json").read_text())["groups"]
    found = {
        name: (entry["init_std"], group["initial_lr"], group["weight_decay"], group["eps"])
        for group, entry in zip(optimizer.param_groups, groups, strict=True)
        for name in group["names"]
    }
    resolved = {setting.tensor.name: setting for setting in settings(spec)}
    for name, a in factors.items():
        each = resolved[name]
        assert each.eps is not None
        expected = (each.init_std * a, each.lr * a, each.weight_decay / a, each.eps / a)
        assert found[named(name)] == pytest.approx(expected)


def test_another_model_is_no_model_of_the_recipe(tmp_path: Path) -> None:
    with exported(case("mup"), tmp_path, model="llama") as scalelab_hf:
        model = model_in(tmp_path)
        config = transformers.LlamaConfig(**{**model.config.to_dict(), "hidden_size": 32, "head_dim": 8})
        with pytest.raises(ValueError, match="hidden_size is 32 in this model, and 64 in the recipe's"):
            scalelab_hf.init_weights_(transformers.LlamaForCausalLM(config))
        model.extra = torch.nn.Parameter(torch.zeros(3))
        with pytest.raises(ValueError, match=r"'extra'.* is matched by no pattern"):
            scalelab_hf.create_optimizer_and_scheduler(model)


def test_z_loss_is_in_the_loss_that_trainer_is_given(tmp_path: Path) -> None:
    spec, (ids, *_) = spec_of(hparams={"z_loss": 0.01}), batches(spec_of())
    with exported(spec, tmp_path) as scalelab_hf:
        model, network = model_in(tmp_path), build(spec)
        load(model, network, spec)
        loss = scalelab_hf.loss()["compute_loss_func"]
        assert loss(model(input_ids=ids), ids).item() == pytest.approx(network.loss(ids).item(), rel=1e-6)
        parts = [loss(model(input_ids=half), half, ids[:, 1:].numel()) for half in ids.chunk(2)]
        assert sum(parts).item() == pytest.approx(network.loss(ids).item(), rel=1e-6)
        assert nats_of(model)(ids).item() < network.loss(ids).item() - 0.1
    with exported(case("mup"), tmp_path) as scalelab_hf:
        assert scalelab_hf.loss() == {}
