"""The file for OLMo-core: read as text here, and built and trained by OLMo-core where it is installed."""

import ast
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from scalelab.errors import Refused
from scalelab.exporters import Handoff, export, made
from scalelab.exporters.fold import folded
from scalelab.exporters.olmo_core import FILE, olmo_name
from scalelab.spec import RunSpec
from tests.handoff.recipes import CASES, MULTIPLIED, case, handoff_of, recipe_of, spec_of
from tests.handoff.training import batches, grown_state, losses, rope_tables, started, trained

REFUSED = {
    "mup-gelu": "model.mlp=gelu", "mup-learned-positions": "gelu", "mup-scalar-gains": "model.norm_gains=scalar",
    "mup-sgd": "optimizer=sgd", "mup-tied-no-gains": "without a gain of the last norm",
}  # fmt: skip


def _taken(spec: RunSpec) -> bool:
    """Whether OLMo-core has all its parts."""
    a = spec.architecture
    parts = (spec.model, spec.optimizer, a.mlp, a.positions) == ("transformer", "adamw", "swiglu", "rotary")
    return parts and a.norm_gains != "scalar" and not (a.tied_head and a.norm_gains == "none")


TAKEN = [name for name in CASES if _taken(case(name))]


def run_of(spec: RunSpec) -> Handoff:
    """The run as the file has it."""
    return folded(handoff_of(spec), keep=("embedding", "residual"))


def text_of(spec: RunSpec, **options: str) -> str:
    return made(recipe_of(spec), "olmo_core", options).files[FILE]


def calls(text: str, name: str) -> list[dict[str, Any]]:
    """The keyword arguments of every call of that name that are literals."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(name):
            found.append({str(each.arg): _literal(each.value) for each in node.keywords})
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


@pytest.mark.parametrize("name", TAKEN)
def test_every_tensor_matches_one_start_and_one_group_with_its_values(name: str) -> None:
    spec = case(name)
    text, run = text_of(spec), run_of(spec)
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    (init,) = [ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "INIT"]
    groups = calls(text, "OptimGroupOverride")
    for each in run.tensors:
        (start,) = [start for pattern, start in init.items() if fnmatch(olmo_name(each.name), pattern)]
        assert start == (each.init_mean, each.init_std)
        (opts,) = [g["opts"] for g in groups for pattern in g["params"] if fnmatch(olmo_name(each.name), pattern)]
        assert opts == {"lr": each.lr, "weight_decay": each.weight_decay, "eps": each.eps}
        assert each.multiplier == 1.0


def test_what_has_a_field_is_not_folded() -> None:
    text = text_of(case("completep-multipliers"))
    (model,), (block,) = calls(text, "TransformerConfig"), calls(text, "TransformerBlockConfig")
    assert model["embed_scale"] == 3.0
    assert block["attention_residual_alpha"] == block["feed_forward_residual_alpha"] == pytest.approx(0.6 / 2)


def test_a_tied_table_stays_and_its_multiplier_goes_into_the_last_gain() -> None:
    text = text_of(case("mup-tied-multipliers"))
    (model,) = calls(text, "TransformerConfig")
    assert model["tie_word_embeddings"] is True and model["embed_scale"] == 3.0
    assert '"lm_head.norm.weight": (1.25, 0.0)' in text and "lm_head.w_out.weight" not in text


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_has_not_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=REFUSED[name]) as refused:
        text_of(case(name))
    assert "\n" not in str(refused.value)


def test_learned_positions_are_refused() -> None:
    with pytest.raises(Refused, match=r"model\.positions=learned cannot be said in OLMo-core"):
        text_of(spec_of(architecture={"positions": "learned"}))


@pytest.mark.parametrize("given", ["0", "3", "x"])
def test_a_microbatch_that_does_not_divide_is_refused(given: str) -> None:
    with pytest.raises(Refused, match="whole number that divides the 4 sequences"):
        text_of(case("mup"), sequences=given)
    assert "rank_microbatch_size=32" in text_of(case("mup"), sequences="2")


def test_clipping_precision_and_z_loss_are_said() -> None:
    text = text_of(spec_of(hparams={"clip_norm": 0.5, "z_loss": 1e-4}, dtype="bfloat16"))
    (module,) = calls(text, "TransformerTrainModuleConfig")
    assert (module["max_grad_norm"], module["z_loss_multiplier"]) == (0.5, 1e-4)
    assert module["autocast_precision"] == "DType.bfloat16" and "import DType" in text
    assert "gradients are clipped at norm 0.5, and folding" in " ".join(text.split())


@pytest.fixture(scope="module")
def olmo() -> None:
    """OLMo-core, imported once: what it imports warns."""
    pytest.importorskip("olmo_core", reason="OLMo-core is not installed: tests/handoff/install.sh")
    with warnings.catch_warnings(action="ignore"):
        importlib.import_module("olmo_core.train.train_module")


@pytest.fixture
def theirs(olmo: None, tmp_path: Path) -> Callable[[RunSpec], Any]:
    """A spec's file, written and imported."""

    def imported(spec: RunSpec) -> ModuleType:
        export(recipe_of(spec), "olmo_core", tmp_path, {})
        found = importlib.util.spec_from_file_location("olmo_recipe", tmp_path / FILE)
        assert found is not None and found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    return imported


def in_float64(module: ModuleType, spec: RunSpec, run: Handoff) -> Any:
    """Their model with our weights, and our rotary tables: theirs are computed in float32."""
    module.norm.full_precision = module.model_config.block.sequence_mixer.rope.full_precision = False
    model = module.model_config.build().double()
    state = grown_state(started(spec), handoff_of(spec), run)
    names = {olmo_name(name): value for name, value in state.items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(names.pop(name))
    assert not names
    cos, sin = (each.squeeze(1) for each in rope_tables(spec.shape.context, spec.shape.head_dim))
    for block in model.blocks.values():
        block.attention.rope._cache.update(rope_pos_sin=sin, rope_pos_cos=cos)
    return model


def followed(module: ModuleType, model: Any, spec: RunSpec) -> list[float]:
    """Losses of a training with their optimizer and their scheduler, called as their train module calls them."""
    optimizer = module.optim_config.build(model)

    def loss(ids: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    def step(index: int) -> None:
        for group in optimizer.param_groups:
            module.scheduler.set_lr(group, trainer(index, spec))
        optimizer.step()

    return trained(model.parameters(), loss, step, batches(spec))


def trainer(index: int, spec: RunSpec) -> Any:
    """What a scheduler reads of the trainer, which counts a step before it takes it."""
    return SimpleNamespace(global_step=index + 1, max_steps=spec.horizon.steps)


@pytest.mark.handoff
@pytest.mark.parametrize("name", [name for name in TAKEN if name != "mup-clipped"])
def test_it_trains_as_scalelab_does(name: str, theirs: Any) -> None:
    spec = case(name)
    expected = losses(started(spec), spec, batches(spec))
    module = theirs(spec)
    found = followed(module, in_float64(module, spec, run_of(spec)), spec)
    assert found == pytest.approx(expected, rel=1e-9, abs=0)
    assert expected[-1] < expected[0] - 0.05


@pytest.mark.handoff
def test_weights_that_were_not_grown_show(theirs: Any) -> None:
    spec = case("mup-multipliers")
    expected = losses(started(spec), spec, batches(spec))
    module = theirs(spec)
    assert followed(module, in_float64(module, spec, handoff_of(spec)), spec) != pytest.approx(expected, rel=1e-3)


@pytest.mark.handoff
@pytest.mark.parametrize("field", ["lr", "weight_decay", "eps"])
def test_a_wrong_value_of_one_group_shows(field: str, theirs: Any) -> None:
    spec = case("mup-multipliers")
    expected = losses(started(spec), spec, batches(spec))
    module = theirs(spec)
    readout = module.optim_config.group_overrides[-1]
    assert readout.params == ["lm_head.w_out.weight"]
    readout.opts[field] *= 1.25  # the readout's multiplier, 2.5 / 2, forgotten
    assert followed(module, in_float64(module, spec, run_of(spec)), spec) != pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.handoff
@pytest.mark.parametrize("name", TAKEN)
def test_its_groups_have_every_parameter_once_with_the_recipes_values(name: str, theirs: Any) -> None:
    spec = case(name)
    module, expected = theirs(spec), {olmo_name(each.name): each for each in run_of(spec).tensors}
    model = module.model_config.build()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = []
    for group in module.optim_config.build(model).param_groups:
        assert group["betas"] == (spec.hparams.beta1, spec.hparams.beta2)
        for parameter in group["params"]:
            each = expected[names[id(parameter)]]
            assert (group["lr"], group["weight_decay"], group["eps"]) == (each.lr, each.weight_decay, each.eps)
            assert group["initial_lr"] == each.lr
            seen.append(names[id(parameter)])
    assert sorted(seen) == sorted(expected) == sorted(names.values())


@pytest.mark.handoff
def test_a_pattern_that_matches_nothing_is_an_error_there(theirs: Any) -> None:
    module = theirs(case("mup"))
    error = importlib.import_module("olmo_core.exceptions").OLMoConfigurationError
    module.optim_config.group_overrides[0].params = ["embedding.weight"]  # ours; theirs is embeddings.weight
    with pytest.raises(error, match="does not match any parameters"):
        module.optim_config.build(module.model_config.build())


@pytest.mark.handoff
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_its_schedule_is_ours_at_every_step(schedule: str, warmup_fraction: float, theirs: Any) -> None:
    horizon = {"schedule": schedule, "warmup_fraction": warmup_fraction, "final_lr_ratio": 0.1, "decay_fraction": 0.3}
    spec = spec_of(horizon=horizon)
    module = theirs(spec)
    for peak in (0.01, 0.0025):  # of two groups
        group = {"lr": peak, "initial_lr": peak}
        for index in range(spec.horizon.steps):
            found = module.scheduler.set_lr(group, trainer(index, spec))
            assert found == pytest.approx(peak * spec.horizon.lr_factor(index), rel=1e-12)


@pytest.mark.handoff
def test_build_gives_a_train_module_that_starts_as_the_recipe_says_and_trains(theirs: Any) -> None:
    spec = spec_of(hparams={**MULTIPLIED, "clip_norm": 1.0, "z_loss": 1e-4}, sizes={"vocab": 256})
    module = theirs(spec)
    built = module.build()
    again = module.model_config.build()
    module.init_(again)
    expected = {olmo_name(each.name): each for each in run_of(spec).tensors}
    for (name, parameter), same in zip(built.model.named_parameters(), again.parameters(), strict=True):
        each, count = expected[name], parameter.numel()
        assert torch.equal(parameter, same)
        if each.init_std == 0:
            assert torch.all(parameter == each.init_mean)
            continue
        assert parameter.std().item() == pytest.approx(each.init_std, rel=5 / (2 * count) ** 0.5)
        assert abs(parameter.mean().item()) < 5 * each.init_std / count**0.5
    assert trained_by(built, spec)


def trained_by(built: Any, spec: RunSpec) -> bool:
    """Whether a train module of theirs learns a batch by heart: its own train_batch and optim_step."""
    seen: dict[str, list[float]] = {}

    def record(name: str, value: Any, *_: Any, **__: Any) -> None:
        seen.setdefault(name, []).append(float(value))

    built.record_metric = record
    built.record_ce_loss = lambda value, *_: record("loss", value)
    ids = batches(spec)[0][:, : spec.shape.context]
    for index in range(spec.horizon.steps):
        built._trainer = SimpleNamespace(**vars(trainer(index, spec)), record_metric=record, dp_process_group=None)
        built.zero_grads()
        built.train_batch({"input_ids": ids})
        built.optim_step()
    assert seen["LR (group 0)"] == pytest.approx([0.01 * spec.horizon.lr_factor(i) for i in range(20)])
    return seen["loss"][-1] < seen["loss"][0] - 1
