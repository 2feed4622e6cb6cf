"""The recipe for torchtitan, built by the real torchtitan: its model, its optimizers, its scheduler."""

import ast
import importlib
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scalelab.errors import Refused
from scalelab.exporters import export
from scalelab.exporters.fold import folded
from scalelab.exporters.torchtitan import name_of
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.handoff.recipes import CASES, MULTIPLIED, case, handoff_of, recipe_of, spec_of
from tests.handoff.training import batches, grown_state, ours, rope_tables, started, trained
from tests.helpers import squeezed

needs_torchtitan = pytest.mark.handoff
REFUSED = (
    "mup-gelu",
    "mup-no-gains",
    "mup-scalar-gains",
    "mup-learned-positions",
    "mup-gpt-2",
    "mup-tied-no-gains",
    "mup-sgd",
)
EXPRESSED = [name for name in CASES if name not in REFUSED]
TRAINED = ("mup-multipliers", "mup-wide-heads", "mup-grouped-query", "mup-qk-norm", "mup-biases",
           "mup-tied-multipliers", "mup-zero", "mup-wsd", "completep-multipliers", "ntk")  # fmt: skip


def exported(spec: RunSpec, folder: Path, **options: str) -> Any:
    """The written file, imported by the name by which torchtitan imports it."""
    export(recipe_of(spec), "torchtitan", folder, options)
    sys.modules.pop("torchtitan_recipe", None)
    importlib.invalidate_caches()
    return importlib.import_module("torchtitan_recipe")


@pytest.fixture(scope="module")
def _torchtitan() -> None:
    """torchtitan, imported, with the warnings of torch.jit that this brings."""
    pytest.importorskip("torchtitan", reason="needs torchtitan: make a venv with tests/handoff/install.sh")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("trainer", "hf_datasets.text_datasets", "models.llama3", "models.qwen3"):
            importlib.import_module(f"torchtitan.{name}")


@pytest.fixture
def folder(_torchtitan: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which Python imports."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("torchtitan_recipe", None)


def built(config: Any) -> Any:
    """The model on a CPU: the same attention without FlexAttention's kernels, which are for GPUs."""
    from torchtitan.models.common.attention import ScaledDotProductAttention

    model = config.model_spec.model
    for layer in model.layers:
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    network = model.build()
    network.init_states()
    return network


def stepping(config: Any, network: nn.Module) -> tuple[Any, Any]:
    """The real optimizers and schedulers."""
    optimizers = config.optimizer.build(model_parts=[network])
    return optimizers, config.lr_scheduler.build(optimizers=optimizers, training_steps=config.training.steps)


@needs_torchtitan
@pytest.mark.parametrize("name", EXPRESSED)
def test_every_parameter_has_the_recipes_values(name: str, folder: Path) -> None:
    spec = case(name)
    run = folded(handoff_of(spec), both=spec.architecture.qk_norm)
    config = exported(spec, folder).recipe()
    network = built(config)
    theirs = {name_of(each.name): each for each in run.tensors}
    assert {key for key, _ in network.named_parameters()} == theirs.keys()
    optimizers, _ = stepping(config, network)
    seen = []
    for optimizer in optimizers:
        assert type(optimizer) is torch.optim.AdamW
        for group in optimizer.param_groups:
            for key in group["param_names"]:
                each = theirs[key]
                lr = group["initial_lr"]
                assert (lr, group["weight_decay"], group["eps"]) == (each.lr, each.weight_decay, each.eps)
                assert group["betas"] == (run.beta1, run.beta2)
                seen.append(key)
    assert sorted(seen) == sorted(theirs)
    for key, parameter in network.named_parameters():
        each = theirs[key]
        if each.init_std:
            tolerance = 5 / (2 * parameter.numel()) ** 0.5
            assert parameter.std().item() == pytest.approx(each.init_std, rel=tolerance), key
            assert abs(parameter.mean().item()) < 5 * each.init_std / parameter.numel() ** 0.5
        else:
            assert torch.all(parameter == each.init_mean), key


@needs_torchtitan
@pytest.mark.parametrize("name", ["mup", "mup-wsd", "mup-linear", "mup-constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_the_schedule_is_the_proxies(name: str, warmup: float, folder: Path) -> None:
    horizon = {**CASES[name].get("horizon", {}), "warmup_fraction": warmup}
    spec = spec_of(horizon=horizon)
    config = exported(spec, folder).recipe()
    optimizers, schedulers = stepping(config, built(config))
    (optimizer,) = optimizers
    for step in range(spec.horizon.steps):
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(group["initial_lr"] * spec.horizon.lr_factor(step), rel=1e-12), step
        optimizers.step()
        schedulers.step()


@needs_torchtitan
@pytest.mark.parametrize("name", TRAINED)
def test_it_trains_as_our_network_does(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = case(name)
    found = followed(spec, exported(spec, folder).recipe(), monkeypatch)
    assert found == pytest.approx(ours(name), rel=1e-9, abs=0)
    assert found[-1] < found[0] - 0.1


@needs_torchtitan
def test_a_wrong_eps_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = case("mup-multipliers")
    config = exported(spec, folder).recipe()
    config.optimizer.param_groups[-1].optimizer_kwargs["eps"] *= 1.25
    found = followed(spec, config, monkeypatch)
    assert found != pytest.approx(ours("mup-multipliers"), rel=1e-9, abs=0)


@needs_torchtitan
def test_its_command_line_reads_it(folder: Path) -> None:
    from torchtitan.config import ConfigManager

    exported(spec_of(hparams={"clip_norm": 0.7}, seed=7), folder, local_batch_size="2")
    config = ConfigManager().parse_args(["--module", "torchtitan_recipe", "--config", "recipe"])
    training = config.training
    assert (training.steps, training.seq_len, training.max_norm) == (20, 16, 0.7)
    assert (training.global_batch_size, training.local_batch_size) == (4, 2)
    assert training.mixed_precision_param == training.dtype == "float32"
    assert config.debug.seed == 7
    assert len(config.optimizer.param_groups) == len(sys.modules["torchtitan_recipe"].GROUPS)


def followed(spec: RunSpec, config: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The losses of its model, optimizers and scheduler in float64, from our weights.

    Its rotary embedding and its loss turn to float32, so they are replaced here; nothing else is.
    """
    network = built(config).double()
    patch_rope(network, spec, monkeypatch)
    run = handoff_of(spec)
    state = grown_state(started(spec), run, folded(run, both=spec.architecture.qk_norm))
    theirs = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            theirs[name_of(name)].copy_(paired(name, value, spec))
    optimizers, schedulers = stepping(config, network)

    def loss(ids: Tensor) -> Tensor:
        return F.cross_entropy(network(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    def step(_: int) -> None:
        optimizers.step()
        schedulers.step()

    return trained(network.parameters(), loss, step, batches(spec))


def patch_rope(network: Any, spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchtitan.models.common import ComplexRoPE, CosSinRoPE

    cos, sin = rope_tables(spec.shape.context, spec.shape.head_dim)

    def halves(query: Tensor, key: Tensor, cache: Tensor) -> tuple[Tensor, ...]:
        c, s = cache.chunk(2, dim=-1)
        return tuple(x * c + CosSinRoPE._rotate_half(x) * s for x in (query, key))

    def pairs(query: Tensor, key: Tensor, cache: Tensor) -> tuple[Tensor, ...]:
        both = (torch.view_as_complex(x.unflatten(-1, (-1, 2))) for x in (query, key))
        return tuple(torch.view_as_real(x * cache).flatten(-2) for x in both)

    monkeypatch.setattr(CosSinRoPE, "apply_rotary_emb", staticmethod(halves))
    monkeypatch.setattr(ComplexRoPE, "apply_rotary_emb", staticmethod(pairs))
    for layer in network.layers.values():
        rope = layer.attention.rope
        if isinstance(rope, ComplexRoPE):
            rope.cache = torch.complex(cos, sin)[:, 0, : spec.shape.head_dim // 2]
        else:
            rope.cache = torch.cat([cos, sin], dim=-1)[:, 0]


def paired(name: str, value: Tensor, spec: RunSpec) -> Tensor:
    """Channels of queries and keys in the order of their rotary pairs: neighbours for halves of a head."""
    if spec.architecture.qk_norm or not re.search(r"\.(query|key)\.(weight|bias)$", name):
        return value
    heads = value.unflatten(0, (-1, 2, spec.shape.head_dim // 2))
    return heads.transpose(1, 2).reshape(value.shape)


# --- what needs no torchtitan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPRESSED)
def test_what_it_writes_is_python_with_every_tensor_in_one_group(name: str, tmp_path: Path) -> None:
    spec = case(name)
    export(recipe_of(spec), "torchtitan", tmp_path, {})
    text = (tmp_path / "torchtitan_recipe.py").read_text()
    ast.parse(text)
    assert all(len(line) <= 120 for line in text.splitlines())
    groups = text[text.index("GROUPS = [") : text.index("def recipe")]
    wanted = {re.sub(r"^layers\.\d+\.", "", name_of(each.name)) for each in handoff_of(spec).tensors}
    quoted = re.findall(r'^        "(.*)",$', groups, flags=re.MULTILINE)
    assert sorted(quoted) == sorted(wanted)


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_has_no_place_for_it_refuses(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"has no place in torchtitan|no export of optimizer=sgd to torchtitan"):
        export(recipe_of(case(name)), "torchtitan", tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_other_refusals(tmp_path: Path) -> None:
    for spec, options, said in (
        (spec_of(hparams={"z_loss": 1e-4}), {}, r"z_loss=0.0001 has no place"),
        (make_spec(model="moe", sizes={"experts": 4, "top_k": 2}), {}, r"no export of model=moe to torchtitan"),
        (case("mup"), {"attn_backend": "sdpa"}, r"attn_backend=sdpa: accepted are flex, flex_flash, varlen"),
        (case("mup"), {"local_batch_size": "3"}, r"local_batch_size=3: accepted is a whole number that divides the 4"),
        (case("mup"), {"local_batch_size": "many"}, r"local_batch_size=many: accepted is a whole number"),
    ):
        with pytest.raises(Refused, match=said):
            export(recipe_of(spec), "torchtitan", tmp_path, options)


def test_its_notes_are_in_the_file(tmp_path: Path) -> None:
    _, notes = export(recipe_of(spec_of(hparams={**MULTIPLIED, "clip_norm": 1.0})), "torchtitan", tmp_path, {})
    text = squeezed((tmp_path / "torchtitan_recipe.py").read_text())
    assert "gradients are clipped at norm 1" in " ".join(notes)
    assert all(note in text for note in notes)
