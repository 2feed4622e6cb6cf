"""u-muP's network: unit scale at the start, the table's multipliers in its operations, what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from scalelab import train
from scalelab.errors import Refused
from scalelab.networks import build
from scalelab.networks.layers import Multiplied, Proxy
from scalelab.networks.unit_transformer import Embedding, Linear, Readout
from scalelab.parametrizations import Role
from scalelab.resolve import settings
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec

SIZES = {"heads": 4, "kv_heads": 4, "context": 64, "ffn": 384}
UNIT = Architecture(norm_gains="none")


def unit_spec(**given: Any) -> RunSpec:
    hparams = {"lr": 0.5, "clip_norm": None, **given.pop("hparams", {})}
    return make_spec(
        "u_mup", **{"width": 128, "depth": 4, "architecture": UNIT, "sizes": SIZES, "hparams": hparams, **given}
    )


def tokens(sequences: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (sequences, 65), generator=torch.Generator().manual_seed(0))


def rms(network: Proxy) -> dict[str, dict[str, float]]:
    """RMS of weights, of the first output under each label, and of weight gradients after one backward pass."""
    outputs: dict[str, float] = {}

    def keep(label: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, y: torch.Tensor) -> None:
            outputs.setdefault(label, y.square().mean().sqrt().item())

        return hook

    for label, modules in network.observed().items():
        modules[0].register_forward_hook(keep(label))
    network.loss(tokens()).backward()
    found = dict(network.named_parameters())
    return {
        "weights": {name: p.square().mean().sqrt().item() for name, p in found.items()},
        "outputs": outputs,
        "gradients": {name: p.grad.square().mean().sqrt().item() for name, p in found.items() if p.grad is not None},
    }


def test_weights_activations_and_gradients_start_at_unit_scale() -> None:
    measured = rms(build(unit_spec()))
    assert all(0.97 < value < 1.03 for value in measured["weights"].values())
    logits = measured["outputs"].pop("logits")
    assert logits == pytest.approx(128**-0.5, rel=0.15)  # 1/fan_in forward: they vanish like width^-1/2, by design
    assert all(0.7 < value < 1.4 for value in measured["outputs"].values()), measured["outputs"]
    # Those of query and key are an order smaller in the package, too (.11): softmax averages what flows into them.
    small = {name for name in measured["gradients"] if name.split(".")[-2] in ("query", "key")}
    assert all(0.4 < value < 2.5 for name, value in measured["gradients"].items() if name not in small)
    assert all(0.02 < measured["gradients"][name] < 0.25 for name in small)


def test_an_sp_network_is_not_at_unit_scale() -> None:
    spec = replace(unit_spec(), parametrization="sp", base=unit_spec().shape)
    measured = rms(build(spec))
    assert max(measured["gradients"].values()) < 0.05
    assert max(value for name, value in measured["weights"].items() if "embedding" not in name) < 0.12


def test_unit_scale_does_not_depend_on_width_or_depth() -> None:
    sizes = {**SIZES, "ffn": 96, "heads": 1, "kv_heads": 1}
    small, large = (rms(build(unit_spec(width=w, depth=d, sizes=s))) for w, d, s in ((32, 2, sizes), (128, 8, SIZES)))
    for kind in ("weights", "outputs"):
        for label in set(small[kind]) & set(large[kind]) - {"logits"}:
            assert large[kind][label] / small[kind][label] == pytest.approx(1, abs=0.35), (kind, label)


@pytest.mark.parametrize("mlp", ["swiglu", "gelu", "relu"])
def test_the_operations_apply_the_tables_multipliers(mlp: str) -> None:
    """One truth: what `scalelab tables u_mup` says a weight is multiplied with is what its operation does."""
    spec = unit_spec(architecture=replace(UNIT, mlp=mlp))
    network = build(spec)
    for setting in settings(spec):
        module = network.get_submodule(setting.tensor.name.removesuffix(".weight"))
        assert isinstance(module, Multiplied) and module.multiplier == pytest.approx(setting.multiplier)
        if setting.tensor.role is Role.EMBEDDING:
            assert isinstance(module, Embedding)
            y, want = module(torch.arange(8)), module.weight[:8] * setting.multiplier
        else:
            assert isinstance(module, Linear | Readout)
            x = torch.randn(8, module.weight.shape[1])
            y, want = module(x), x @ module.weight.T * setting.multiplier
        assert torch.allclose(y, want, atol=1e-5), setting.tensor.name


def test_it_learns_and_independent_weight_decay_is_one_number() -> None:
    spec = unit_spec(width=64, depth=2, sizes={**SIZES, "context": 16, "ffn": 192}, tokens=64 * 60)
    spec = replace(spec, hparams=replace(spec.hparams, weight_decay=2**-10))
    assert len({round(s.lr * s.weight_decay, 12) for s in settings(spec)}) == 1
    (trial,) = train.run([spec])
    assert trial.loss_nats is not None and trial.loss_nats < 3.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": Architecture()}, "model.norm_gains=vector in a unit-scaled network: accepted is none"),
        (
            {"architecture": Architecture(norm_gains="none", tied_head=True)},
            "model.tied_head=true .* accepted is false",
        ),
        ({"architecture": Architecture(norm_gains="none", biases=True)}, "model.biases=true .* accepted is false"),
        ({"hparams": {"init_gain": 2.0}}, "init.gain=2.0 in a unit-scaled network, which has none: leave it at 1"),
        ({"hparams": {"z_loss": 1e-4}}, "z_loss"),
        ({"optimizer": "sgd"}, "no rule for embedding/sgd"),
    ],
)
def test_what_a_unit_scaled_network_has_no_counterpart_of_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        build(unit_spec(**change))


def test_alpha_multipliers_are_refused_outside_unit_scaled_networks() -> None:
    with pytest.raises(Refused, match=r"multipliers\.activation"):
        make_spec("mup", hparams={"activation_multiplier": 2.0})


def test_other_models_have_no_unit_scaled_network() -> None:
    with pytest.raises(Refused, match="model=moe has no unit-scaled network: accepted is transformer"):
        unit_spec(model="moe")
