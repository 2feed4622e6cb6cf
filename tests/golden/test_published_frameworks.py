"""What production codes of muP do, number by number: which table and policy here gives it, and where they differ."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from scalelab import train
from scalelab.models import inventory
from scalelab.optim import optimizers, set_lr
from scalelab.parametrizations import PUBLISHED, TABLES, Family, Role
from scalelab.resolve import Setting, multipliers, settings
from scalelab.scale import ONE, Power, Ratios
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from scalelab.train import member
from scalelab.trials import Outcome
from tests.conftest import make_spec

QUERY, OUTPUT, UP, DOWN = (
    f"blocks.0.{name}.weight" for name in ("attention.query", "attention.output", "mlp.up", "mlp.down")
)
M, L = 4, 4
WIDER = {"width": 256, "base_width": 64, "depth": 8, "base_depth": 2}  # heads of 16 channels at both
PLAIN = {"lr": 1.0, "weight_decay": 1.0, "eps": 1e-8, "init_gain": 0.02 * math.sqrt(64), "embedding_std": 0.02}
GPT_2 = Architecture(mlp="gelu", residual_init="depth-scaled")  # 1/√(2·depth) on what writes to the residual stream


def resolved(name: str, **given: object) -> tuple[RunSpec, dict[str, Setting]]:
    spec = make_spec(name, **{"hparams": PLAIN, "architecture": GPT_2, **WIDER, **given})  # type: ignore[arg-type]
    return spec, {setting.tensor.name: setting for setting in settings(spec)}


# --- Megatron-LM, --use-mup -------------------------------------------------------------------------------------------


def test_megatron() -> None:
    """core/optimizer/__init__.py: lr and ε ÷4 of hidden matrices only, λ constant; std .02 → .01, output projections
    of 8 layers .0025; logits ×¼; softmax scale √d0/d (or 1/d)."""
    spec, at = resolved("megatron")
    for name in (QUERY, OUTPUT, UP, DOWN):
        assert (at[name].lr, at[name].eps, at[name].weight_decay) == (1 / 4, 1e-8 / 4, 1.0)
    for name in ("embedding.weight", "readout.weight", "norm.gain", "blocks.0.mlp.norm.gain"):
        assert (at[name].lr, at[name].eps) == (1.0, 1e-8)
    assert at["embedding.weight"].weight_decay == at["readout.weight"].weight_decay == 1.0
    assert at[QUERY].init_std == pytest.approx(0.01, rel=1e-12)
    assert at[OUTPUT].init_std == pytest.approx(0.0025, rel=1e-12)
    assert at["embedding.weight"].init_std == 0.02
    assert at["readout.weight"].multiplier == 1 / 4
    assert multipliers(spec).residual == 1.0
    heads = {"sizes": {"heads": 4, "kv_heads": 4}, "base_sizes": {"heads": 4, "kv_heads": 4}}  # d_head 16 → 64
    spec, _ = resolved("megatron", **heads)
    assert multipliers(spec).attention == pytest.approx(math.sqrt(16) / 64, rel=1e-12)
    spec, _ = resolved("megatron", **heads, hparams={**PLAIN, "attention_multiplier": 1 / math.sqrt(16)})
    assert multipliers(spec).attention == pytest.approx(1 / 64, rel=1e-12)


def test_where_megatron_differs_from_mup() -> None:
    """Two columns: ε falls in the hidden matrices only, and λ is constant, which here is a policy of any table."""
    for key, theirs in TABLES["megatron"].rules.items():
        if key[0] in (Role.ROUTER, Role.EXPERT):
            continue  # to Megatron a two-dimensional parameter that is no embedding is hidden
        ours = TABLES["mup"].rules[key]
        assert (theirs.multiplier, theirs.init, theirs.lr) == (ours.multiplier, ours.init, ours.lr)
        assert theirs.weight_decay == ONE
        assert theirs.eps == (ours.eps if key[0] is Role.HIDDEN else ONE)
    (_, megatron), (_, ours) = resolved("megatron"), resolved("mup", weight_decay_policy="constant")
    for name, setting in megatron.items():
        assert (setting.lr, setting.weight_decay) == (ours[name].lr, ours[name].weight_decay)


def test_megatron_has_one_width_ratio_where_here_each_matrix_has_its_fan_in() -> None:
    """An FFN of 8/3·width rounded to 64, 192 → 704: its down-projection's ratio is 11/3, not 4."""
    sizes = {"sizes": {"heads": 16, "kv_heads": 16, "ffn": 704}, "base_sizes": {"heads": 4, "kv_heads": 4, "ffn": 192}}
    _, at = resolved("megatron", **sizes)
    assert at[UP].lr == 1 / M
    assert at[DOWN].lr == pytest.approx(3 / 11, rel=1e-12)


# --- EleutherAI/nanoGPT-mup -------------------------------------------------------------------------------------------


def test_nanogpt_mup() -> None:
    """Master: hidden lr /m, std /√m, logits /m, 1/√(2L) on output projections; λ and ε left alone."""
    _, at = resolved("mup_package", weight_decay_policy="constant")
    for name in (QUERY, UP, DOWN):
        assert (at[name].lr, at[name].weight_decay, at[name].eps) == (1 / 4, 1.0, 1e-8)
    assert at[QUERY].init_std == pytest.approx(0.01, rel=1e-12)
    assert at[OUTPUT].init_std == pytest.approx(0.01 / math.sqrt(16), rel=1e-12)
    assert (at["embedding.weight"].lr, at["readout.weight"].multiplier) == (1.0, 1 / 4)
    as_data = PUBLISHED["nanogpt_mup"]
    for role in (Role.EMBEDDING, Role.HIDDEN, Role.READOUT):
        theirs, ours = as_data.rule(role, Family.ADAM), TABLES["mup_package"].rule(role, Family.ADAM)
        assert (theirs.lr, theirs.init, theirs.multiplier, theirs.eps) == (ours.lr, ours.init, ours.multiplier, ONE)


def test_completeps_code_scales_every_eps_alike() -> None:
    """Branch completep: λ ×m, ε ×1/(m·L^α) of every tensor; Table 1, and the table here, only inside the blocks."""
    _, at = resolved("completep", architecture=Architecture(mlp="gelu"))
    assert at[QUERY].weight_decay == M
    assert at[QUERY].eps == pytest.approx(1e-8 / (M * L), rel=1e-12)
    for name in ("embedding.weight", "norm.gain", "readout.weight"):
        assert at[name].eps == pytest.approx(1e-8 / M, rel=1e-12)  # the code: 1e-8/(m·L)


# --- Xmodel-2.5 (arXiv:2511.19496) ------------------------------------------------------------------------------------

XMODEL = {
    "width": 1536, "depth": 48, "base_width": 256, "base_depth": 48,
    "sizes": {"heads": 24, "kv_heads": 8, "ffn": 3840}, "base_sizes": {"heads": 4, "kv_heads": 2, "ffn": 640},
    "architecture": Architecture(tied_head=True), "optimizer": "adamw_muon", "schedule": "wsd",
    "weight_decay_policy": "constant",
    "hparams": {
        "lr": 0.01, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "clip_norm": 1.0, "shape_factor": "match_rms",
        "init_gain": 0.1 * math.sqrt(256), "embedding_std": 0.1, "embedding_multiplier": 12.0,
        "residual_multiplier": 1.4 / math.sqrt(48), "attention_multiplier": 1 / math.sqrt(64),
    },
}  # fmt: skip


def test_xmodel() -> None:
    """m = 6: hidden lr .0016666667, residual 1.4/√48 = .2020726, softmax 1/64, logits 1/6, std .1/√6, λ .1."""
    spec = make_spec("mup", **XMODEL)  # type: ignore[arg-type]
    at = {setting.tensor.name: setting for setting in settings(spec)}
    for name in (QUERY, OUTPUT, UP, DOWN):
        assert at[name].lr == pytest.approx(0.0016666667, rel=1e-7)
        assert at[name].weight_decay == 0.1
    assert at["embedding.weight"].lr == 0.01
    assert at["embedding.weight"].multiplier == pytest.approx(1 / 6, rel=1e-12)  # tied: where it reads out
    assert "readout.weight" not in at
    assert at[QUERY].init_std == pytest.approx(0.1 / math.sqrt(6), rel=1e-12)
    assert multipliers(spec).residual == pytest.approx(0.2020726, abs=5e-8)
    assert multipliers(spec).attention == pytest.approx(1 / 64, rel=1e-12)


def test_xmodels_second_optimizer_steps_as_moonlights_on_the_first_ones_rates() -> None:
    """Its Muon has matched_adamw_rms 0.2 on the hidden lr: 0.2·√max(n_out, n_in)·η/m.

    Under muP here Muon's own rule takes the place of Adam's 1/m: the spectral √(n_out/n_in), 1 for these matrices.
    """
    spec = make_spec("mup", **XMODEL)  # type: ignore[arg-type]
    at = {setting.tensor.name: setting for setting in settings(spec, optimizer="muon")}
    assert at[QUERY].family is Family.MUON and at["embedding.weight"].family is Family.ADAM
    assert at[QUERY].lr == pytest.approx(0.01 * 0.2 * math.sqrt(256), rel=1e-12)
    assert 0.0016666667 * 0.2 * math.sqrt(1536) == pytest.approx(at[QUERY].lr / math.sqrt(6), rel=1e-6)


def test_the_switch_to_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW on everything, then Muon on the matrices: the singular values of their updates are about the same."""
    networks: list[nn.Module] = []
    families: list[set[Family]] = []
    before: list[tuple[float, torch.Tensor]] = []  # each step's learning rate and weights of one matrix

    def made(network: nn.Module, spec: RunSpec, *, then: bool = False, **rest: Any) -> list[torch.optim.Optimizer]:
        found = optimizers(network, spec, then=then, **rest)
        networks.append(network)
        families.append({group["family"] for optim in found for group in optim.param_groups})
        return found

    def scheduled(found: list[torch.optim.Optimizer], factor: float) -> None:
        set_lr(found, factor)
        (lr,) = (group["lr"] for optim in found for group in optim.param_groups if QUERY in group["names"])
        before.append((lr, networks[0].get_parameter(QUERY).detach().clone()))

    monkeypatch.setattr(member, "optimizers", made)
    monkeypatch.setattr(member, "set_lr", scheduled)
    hparams = {"weight_decay": 0.0, "shape_factor": "spectral", "residual_multiplier": 1.4 / math.sqrt(2)}
    architecture = Architecture(tied_head=True)
    spec = make_spec(optimizer="adamw_muon", schedule="wsd", hparams=hparams, architecture=architecture)
    (trial,) = train.run([spec])
    assert trial.outcome is Outcome.OK and trial.loss_nats is not None and math.isfinite(trial.loss_nats)
    assert families == [{Family.ADAM}, {Family.MUON, Family.ADAM}]
    assert networks[0] is networks[1]
    weights = [weight for _, weight in before] + [networks[0].get_parameter(QUERY).detach()]
    for step, (lr, weight) in enumerate(before):
        values = torch.linalg.svdvals((weights[step + 1] - weight) / lr)[:16]  # of 64; a gradient's rank is not full
        flat = bool(values.max() < 1.3 and values.min() > 0.6)
        assert flat == (step >= spec.horizon.decay_start), step
    assert 0 < spec.horizon.decay_start < spec.horizon.steps


def test_what_the_switch_hands_over() -> None:
    """Muon takes the blocks' matrices and nothing else, as in the published runs."""
    spec = make_spec(optimizer="adamw_muon", schedule="wsd", architecture=Architecture(biases=True, qk_norm=True))
    for setting in settings(spec, optimizer="muon"):
        assert (setting.family is Family.MUON) == (setting.tensor.role is Role.HIDDEN)
    assert {setting.family for setting in settings(spec)} == {Family.ADAM}
    assert all(tensor.in_block for tensor in inventory(spec) if tensor.role is Role.HIDDEN)


def test_xmodels_output_projections_are_not_copied() -> None:
    """Its code gives them σ/√(2·depth) without the 1/√m of the others; a table here has one init for a role."""
    hidden = TABLES["mup"].rule(Role.HIDDEN, Family.ADAM)
    assert hidden.init == Power(fan_in=Fraction(-1, 2))
    assert hidden.init(Ratios(fan_in=Fraction(6))) == pytest.approx(1 / math.sqrt(6), rel=1e-12)
