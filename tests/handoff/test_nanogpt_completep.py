"""The config for nanoGPT-completep: held against its rules, restated here, and against its code where there is a copy.

Set NANOGPT_COMPLETEP to a checkout of the branch `completep` of EleutherAI/nanoGPT-mup and run with -m handoff.
"""

import ast
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scalelab.errors import Refused
from scalelab.exporters import made
from scalelab.exporters.nanogpt_completep import FILE, branch_name
from scalelab.exporters.nanogpt_rules import solved
from scalelab.resolve import multipliers, settings
from scalelab.spec import RunSpec
from tests.handoff.recipes import handoff_of, recipe_of, spec_of
from tests.handoff.training import batches, losses, started, trained

GPT2 = {"mlp": "gelu", "positions": "learned", "tied_head": True}


def gpt2(parametrization: str = "mup", *, architecture: dict[str, Any] | None = None, **given: Any) -> RunSpec:
    """A spec with the branch's kinds of parts, width 64 over 32, without warmup."""
    horizon = {"warmup_fraction": 0.0, **given.pop("horizon", {})}
    return spec_of(parametrization, architecture={**GPT2, **(architecture or {})}, horizon=horizon, **given)


WIDE_HEADS = {"heads": 4}
TAKEN: dict[str, RunSpec] = {
    "mup": gpt2(),
    "mup-1/d": gpt2(hparams={"attention_multiplier": 8**-0.5}, sizes=WIDE_HEADS, base_sizes=WIDE_HEADS),
    "mup-undecayed": gpt2(hparams={"weight_decay": 0.0}),
    "mup-constant-decay": gpt2(weight_decay_policy="constant"),
    "mup-multipliers": gpt2(hparams={"residual_multiplier": 0.6, "logits_multiplier": 2.5}),
    "mup_package": gpt2("mup_package"),
    "sp": gpt2("sp"),
    "sp-depth-scaled": gpt2("sp", architecture={"residual_init": "depth-scaled"}),
    "completep": gpt2("completep", depth=2),
    "depth_mup": gpt2("depth_mup", depth=4),
    "depth_mup-multipliers": gpt2("depth_mup", depth=4, hparams={"residual_multiplier": 1.5, "logits_multiplier": 0.5}),
    "constant": gpt2(horizon={"schedule": "constant"}),
}
WRONG: dict[str, tuple[RunSpec, str]] = {
    "untied": (gpt2(architecture={"tied_head": False}), r"tied_head=False cannot be said"),
    "swiglu": (gpt2(architecture={"mlp": "swiglu"}), r"mlp=swiglu cannot be said"),
    "rotary": (gpt2(architecture={"positions": "rotary"}), r"positions=rotary cannot be said"),
    "biases": (gpt2(architecture={"biases": True}), r"biases=True cannot be said"),
    "no gains": (gpt2(architecture={"norm_gains": "none"}), r"norm_gains=none cannot be said"),
    "qk-norm": (gpt2(architecture={"qk_norm": True}), r"qk_norm=True cannot be said"),
    "zero query": (gpt2(architecture={"zero_init_query": True}), r"zero_init_query=True cannot be said"),
    "ffn": (gpt2(sizes={"ffn": 192}, base_sizes={"ffn": 96}), r"ffn=192 cannot be said.*accepted is 256"),
    "schedule": (gpt2(horizon={"schedule": "wsd"}), r"schedule=wsd cannot be said.*cosine or constant"),
    "z-loss": (gpt2(hparams={"z_loss": 1e-4}), r"z_loss=0\.0001 cannot be said"),
    "softmax": (gpt2(hparams={"attention_multiplier": 1.7}), r"softmax scale 0\.425 cannot be said"),
    "embedding": (
        gpt2(hparams={"embedding_multiplier": 3.0}),
        r"positions\.weight: lr is 0\.0033.* 0\.01 by the rules",
    ),
    "eps": (gpt2("completep", depth=4), r"embedding\.weight: eps is 5e-07 in the recipe and 2\.5e-07 by the rules"),
    "decay": (
        gpt2("depth_mup", depth=4, weight_decay_policy="constant"),
        r"blocks\.0\.attention\.query\.weight: weight_decay is 0\.1 in the recipe and 0\.2 by the rules",
    ),
    "optimizer": (gpt2(optimizer="lion"), r"optimizer=lion"),
}


def text_of(spec: RunSpec, **options: str) -> str:
    return made(recipe_of(spec), "nanogpt_completep", options).files[FILE]


def keys_of(text: str) -> SimpleNamespace:
    """What the config assigns, other than classes."""
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    literal = [node for node in assigned if not isinstance(node.value, ast.Name)]
    return SimpleNamespace(**{ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in literal})


def by_its_rules(k: SimpleNamespace, name: str) -> tuple[float, float, float]:
    """lr, weight decay and eps that configure_optimizers gives a parameter of the branch: its code, restated."""
    m, depth, alpha = k.mup_width_multiplier, k.depth_multiplier, k.depth_alpha_exp
    eps, decay, rate = k.adam_eps, 1.0, 1.0
    if k.depth_alpha_enabled:
        eps, decay, rate = eps * (1 / m) * depth**-alpha, m, depth ** (alpha - 1)
    if name in ("transformer.wte.weight", "transformer.wpe.weight"):
        return k.learning_rate, k.weight_decay, eps
    if name == "transformer.ln_f.weight":
        return k.learning_rate, 0.0, eps
    if ".ln_" in name:
        return k.learning_rate * rate, 0.0, eps
    return k.learning_rate * rate / m, k.weight_decay * decay, eps


@pytest.mark.parametrize("name", TAKEN)
def test_the_branch_computes_the_recipes_values_from_the_keys(name: str) -> None:
    spec = TAKEN[name]
    k = keys_of(text_of(spec))
    for each in settings(spec):
        theirs = by_its_rules(k, branch_name(each.tensor.name))
        assert theirs == pytest.approx((each.lr, each.weight_decay, each.eps), rel=1e-9), each.tensor.name
    (table,) = [each for each in settings(spec) if each.tensor.name == "embedding.weight"]
    assert k.mup_output_alpha / k.mup_width_multiplier == pytest.approx(table.multiplier, rel=1e-9)
    residual = k.depth_multiplier**-k.depth_alpha_exp if k.depth_alpha_enabled else 1.0
    assert residual == pytest.approx(multipliers(spec).residual, rel=1e-9)
    head_dim = spec.shape.head_dim
    scale = head_dim**-0.5 if k.mup_disable_attention_scaling else 1 / head_dim
    assert scale == pytest.approx(multipliers(spec).attention, rel=1e-9)
    assert k.batch_size * k.gradient_accumulation_steps * k.block_size == spec.horizon.batch_tokens
    assert k.max_iters + 1 == spec.horizon.steps  # it stops after iteration max_iters, counted from 0


@pytest.mark.parametrize("name", WRONG)
def test_what_it_would_compute_otherwise_is_refused(name: str) -> None:
    spec, message = WRONG[name]
    with pytest.raises(Refused, match=message) as refused:
        text_of(spec)
    assert "\n" not in str(refused.value)


def test_completep_is_the_branchs_own_two_keys() -> None:
    keys = solved(handoff_of(gpt2("completep", depth=4)))
    assert (keys.depth_alpha_enabled, keys.depth_multiplier, keys.depth_alpha_exp) == (True, 2.0, 1.0)
    assert (keys.learning_rate, keys.weight_decay, keys.mup_width_multiplier) == (0.01, 0.1, 2.0)
    assert keys.adam_eps == pytest.approx(1e-6)


def test_one_eps_is_taken_where_it_is_asked_for_and_a_note_names_the_tensors() -> None:
    exported = made(recipe_of(gpt2("completep", depth=4)), "nanogpt_completep", {"eps": "blocks"})
    assert exported.notes[-1] == (
        "eps=blocks gives all tensors eps 2.5e-07, which is not the recipe's for embedding.weight, positions.weight,"
        " norm.gain"
    )
    with pytest.raises(Refused, match=r"weight_decay is 0\.1 in the recipe"):  # eps alone
        text_of(WRONG["decay"][0], eps="blocks")


def test_its_own_layernorm_is_left_where_it_is_asked_for_and_a_note_says_what_that_is() -> None:
    exported = made(recipe_of(gpt2()), "nanogpt_completep", {"norm": "layer"})
    assert "RMSNorm" in text_of(gpt2()) and "class RMSNorm" not in exported.files[FILE]
    assert exported.notes[-1].endswith("this trains another network, for which the recipe was not measured")


@pytest.mark.parametrize(("option", "given"), [("norm", "batch"), ("eps", "none"), ("batch_size", "3")])
def test_an_option_that_there_is_not_is_refused(option: str, given: str) -> None:
    with pytest.raises(Refused, match=f"{option}"):
        text_of(gpt2(), **{option: given})


@pytest.fixture(scope="module")
def checkout() -> Path:
    """A copy of the branch."""
    given = os.environ.get("NANOGPT_COMPLETEP")
    if given is None:
        pytest.skip("set NANOGPT_COMPLETEP to a checkout of the branch completep of EleutherAI/nanoGPT-mup")
    return Path(given)


@pytest.fixture
def theirs(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The globals of train.py after it has run a spec's config, its own get_lr among them."""

    def configured(spec: RunSpec, **options: str) -> dict[str, Any]:
        monkeypatch.syspath_prepend(str(checkout))
        monkeypatch.delitem(sys.modules, "model", raising=False)
        model = importlib.import_module("model")
        found = {"GPT": model.GPT, "GPTConfig": model.GPTConfig, "math": __import__("math"), "dataset": "a test"}
        exec(text_of(spec, **options), found)  # as its configurator.py does
        functions = [n for n in ast.parse((checkout / "train.py").read_text()).body if isinstance(n, ast.FunctionDef)]
        (get_lr,) = [ast.unparse(node) for node in functions if node.name == "get_lr"]
        exec(get_lr, found)
        return found

    return configured


def built(found: dict[str, Any], vocab: int) -> Any:
    """Their model, as train.py makes it: of the keys that it hands over."""
    handed = [
        "n_layer", "n_head", "n_embd", "block_size", "bias", "dropout", "mup_enabled", "mup_disable_attention_scaling",
        "mup_width_multiplier", "mup_input_alpha", "mup_output_alpha", "depth_alpha_enabled", "depth_alpha_exp",
        "depth_multiplier",
    ]  # fmt: skip
    return found["GPT"](found["GPTConfig"](vocab_size=vocab, **{name: found[name] for name in handed}))


def optimizer_of(found: dict[str, Any], model: Any) -> Any:
    betas = (found["beta1"], found["beta2"])
    return model.configure_optimizers(found["weight_decay"], found["learning_rate"], betas, found["adam_eps"], "cpu")


def followed(found: dict[str, Any], model: Any, spec: RunSpec) -> list[float]:
    """Losses of a training by their optimizer and their learning rate, as train.py's loop has them."""
    optimizer = optimizer_of(found, model)

    def step(index: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = found["get_lr"](index) * group["lr_scale"]
        optimizer.step()

    def loss(ids: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = model(ids[:, :-1], ids[:, 1:].contiguous())[1]
        return value

    return trained(model.parameters(), loss, step, batches(spec))


def with_our_weights(model: Any, spec: RunSpec) -> Any:
    """Their model in float64 with our start: no factor on a weight, for nothing was folded."""
    parts: dict[str, list[torch.Tensor]] = {}
    for name, parameter in started(spec).named_parameters():
        parts.setdefault(branch_name(name), []).append(parameter.detach())
    model = model.double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.cat(parts.pop(name)))
    assert not parts
    return model


@pytest.mark.handoff
@pytest.mark.parametrize("name", TAKEN)
def test_it_trains_as_scalelab_does(name: str, theirs: Any) -> None:
    spec = TAKEN[name]
    expected = losses(started(spec), spec, batches(spec))
    found = theirs(spec)
    assert followed(found, with_our_weights(built(found, 256), spec), spec) == pytest.approx(expected, rel=1e-9)
    assert expected[-1] < expected[0] - 0.05


@pytest.mark.handoff
@pytest.mark.parametrize("key", ["adam_eps", "depth_multiplier", "mup_output_alpha", "mup_width_multiplier"])
def test_a_wrong_key_shows(key: str, theirs: Any) -> None:
    spec = TAKEN["depth_mup"]
    expected = losses(started(spec), spec, batches(spec))
    found = theirs(spec)
    found[key] *= 1.5
    assert followed(found, with_our_weights(built(found, 256), spec), spec) != pytest.approx(expected, rel=1e-9)


@pytest.mark.handoff
def test_its_own_layernorm_trains_another_network(theirs: Any) -> None:
    spec = TAKEN["mup"]
    expected = losses(started(spec), spec, batches(spec))
    found = theirs(spec, norm="layer")
    assert followed(found, with_our_weights(built(found, 256), spec), spec) != pytest.approx(expected, rel=1e-4)


@pytest.mark.handoff
@pytest.mark.parametrize("name", TAKEN)
def test_its_groups_and_starts_are_the_recipes(name: str, theirs: Any) -> None:
    spec = TAKEN[name]
    found = theirs(spec)
    torch.manual_seed(0)
    model = built(found, 256)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {names[id(p)]: group for group in optimizer_of(found, model).param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    for each in settings(spec):
        group, parameter = groups[branch_name(each.tensor.name)], parameters[branch_name(each.tensor.name)]
        assert group["lr"] * group["lr_scale"] == pytest.approx(each.lr, rel=1e-9)
        assert (group["weight_decay"], group["eps"]) == pytest.approx((each.weight_decay, each.eps), rel=1e-9)
        assert group["betas"] == (spec.hparams.beta1, spec.hparams.beta2)
        if each.init_std:
            assert parameter.std().item() == pytest.approx(each.init_std, rel=5 / (2 * parameter.numel()) ** 0.5)
        else:
            assert torch.all(parameter == 1)
    assert groups.keys() == {branch_name(each.tensor.name) for each in settings(spec)}


@pytest.mark.handoff
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_its_learning_rate_is_ours_but_for_a_warmup_one_step_later(schedule: str, theirs: Any) -> None:
    spec = gpt2(horizon={"schedule": schedule, "warmup_fraction": 0.2, "final_lr_ratio": 0.1})
    found, warmup = theirs(spec), spec.horizon.warmup_steps
    rates = [found["get_lr"](step) / 0.01 for step in range(spec.horizon.steps)]
    ours = [spec.horizon.lr_factor(step) for step in range(spec.horizon.steps)]
    assert rates[warmup:] == pytest.approx(ours[warmup:], rel=1e-9)
    assert rates[:warmup] == pytest.approx([0.0, *ours[: warmup - 1]], rel=1e-9)


@pytest.mark.handoff
@pytest.mark.parametrize("vocab", [256, 255])
def test_its_train_py_runs_the_config(vocab: int, checkout: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "tiny"
    data.mkdir(parents=True)
    for file in ("model.py", "train.py", "configurator.py"):
        (tmp_path / file).write_text((checkout / file).read_text())
    (tmp_path / FILE).write_text(text_of(TAKEN["depth_mup"], batch_size="2"))
    for part in ("train", "val"):
        (np.arange(4096) % vocab).astype(np.uint16).tofile(data / f"{part}.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab}))
    given = ["--device=cpu", "--compile=False", "--dataset=tiny", "--eval_iters=1"]
    ran = subprocess.run([sys.executable, "train.py", FILE, *given], cwd=tmp_path, capture_output=True, text=True)
    if vocab != 256:
        assert ran.returncode != 0 and "vocab_size of data/tiny/meta.pkl is 255: it must be 256" in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    iterations = [line for line in ran.stdout.splitlines() if line.startswith("iter ")]
    first, last = (float(line.split()[3].rstrip(",")) for line in (iterations[0], iterations[-1]))
    assert "tokens per iteration will be: 64" in ran.stdout
    assert len(iterations) == 20 and iterations[-1].startswith("iter 19:") and last < first - 0.1
