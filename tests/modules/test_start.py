"""Initialisation: rescaled exactly where the model's own law shows, refused where the base's std cannot be known."""

import pytest
import torch
from torch import nn

import scalelab
from scalelab.errors import Refused
from tests.modules.models import LM, MLP, seeded


def ratio_to(found: scalelab.Parametrized, plain: nn.Module) -> dict[str, float]:
    mine = dict(found.model.named_parameters())
    return {name: float((mine[name] / p).detach().nanmedian()) for name, p in plain.named_parameters() if p.any()}


def test_torch_default_init_is_moved_by_exact_powers() -> None:
    found = scalelab.parametrize(seeded(MLP, 256), "mup", base=seeded(MLP, 64, seed=1))
    # Hidden matrices have 1/√fan_in already; a readout and biases are to stay as they were at the base (mup's rule).
    assert ratio_to(found, seeded(MLP, 256)) == {
        "first.weight": 1, "first.bias": 1, "hidden.weight": 1, "hidden.bias": 2, "readout.weight": 2,
        "readout.bias": 2,
    }  # fmt: skip


def test_a_constant_init_is_moved_by_exact_powers() -> None:
    def build(width: int, seed: int) -> nn.Module:
        model = seeded(LM, width, seed=seed)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        return model

    found = scalelab.parametrize(build(64, 0), "mup", base=build(16, 1))
    expected = {name: 1 for name, p in build(64, 0).named_parameters()}
    expected |= {name: 0.5 for name in expected if "blocks" in name and "proj" in name and name.endswith("weight")}
    expected |= {name: 0.5 for name in expected if name.endswith(("up.weight", "down.weight"))}
    expected |= {name: 2.0 for name in expected if name.endswith("bias") and "norm" not in name and "blocks" in name}
    ratios = ratio_to(found, build(64, 0))
    assert {name: ratios[name] for name in ratios if "bias" not in name} == {
        name: expected[name] for name in ratios if "bias" not in name
    }


def test_few_numbers_that_fit_two_laws_are_taken_as_they_are() -> None:
    def layer(width: int, std: float) -> nn.Module:
        model = nn.ModuleDict({"layer": nn.Linear(width, width, bias=False)})
        signs = torch.ones(width, width).triu() * 2 - 1
        model["layer"].weight = nn.Parameter(signs * std)
        return model

    for width, std, expected in ((4, 0.8, 2**-0.5 / 0.8), (1024, 2**-0.5, 1.0)):
        found = scalelab.parametrize(layer(width, std), "sp", base=layer(width // 2, 1.0))
        assert ratio_to(found, layer(width, std))["layer.weight"] == pytest.approx(expected, rel=1e-6)
    exact = scalelab.parametrize(layer(1024, 0.708), "sp", base=layer(512, 1.0))
    assert ratio_to(exact, layer(1024, 0.708))["layer.weight"] == 1.0  # 1/√2 within sampling, and no other law is near


def test_what_starts_at_zero_and_gains_stay() -> None:
    model, base = seeded(LM, 64), LM(16)
    for each in (model, base):
        nn.init.zeros_(each.head.weight)
    found = scalelab.parametrize(model, "mup", base=base)
    assert not model.head.weight.any() and bool((model.norm.weight == 1).all())
    assert next(each.init_std for each in found.settings if each.tensor.name == "head.weight") == 0.0
    with pytest.raises(Refused, match=r"head.weight starts at zero in the base and not here: say std="):
        scalelab.parametrize(LM(64), "mup", base=base)


def test_what_is_frozen_is_given() -> None:
    model = seeded(MLP, 256)
    model.readout.requires_grad_(False)
    found = scalelab.parametrize(model, "mup", base=seeded(MLP, 64, seed=1))
    assert ratio_to(found, seeded(MLP, 256))["readout.weight"] == 1
    assert found.frozen() == ("readout.weight", "readout.bias")


def test_a_base_on_the_meta_device_has_shapes_only() -> None:
    with pytest.raises(Refused, match=r"the std that positions starts with at the base is not known.*init='keep'"):
        scalelab.parametrize(LM(64), "mup", base=lambda: LM(16))
    found = scalelab.parametrize(LM(64), "mup", base=lambda: LM(16), std=0.02)
    std = {each.tensor.name: each.init_std for each in found.settings}
    assert std["blocks.0.up.weight"] == 0.01 and std["embed.weight"] == 0.02 == std["head.weight"]
    named = dict(found.model.named_parameters())
    assert float(named["blocks.0.up.weight"].detach().square().mean().sqrt()) == pytest.approx(0.01, rel=1e-5)
    with pytest.raises(Refused, match=r"blocks.0.q_proj.bias starts with at the base is not known|std that positions"):
        scalelab.parametrize(LM(64), "mup", base=lambda: LM(16), std={"*.weight": 0.02})
    with pytest.raises(Refused, match=r"is claimed by several patterns of std: 0.02, 0.03"):
        scalelab.parametrize(LM(64), "mup", base=lambda: LM(16), std={"*": 0.02, "embed.*": 0.03})


def test_a_model_on_the_meta_device_keeps_what_it_will_be_given() -> None:
    with torch.device("meta"):
        model = LM(64)
    with pytest.raises(Refused, match=r"positions is on the meta device: materialise the model first"):
        scalelab.parametrize(model, "mup", base=LM(16))
    found = scalelab.parametrize(model, "mup", base=LM(16), init="keep")
    model.to_empty(device="cpu")
    assert len(found.groups(lr=0.1)[0]["params"]) and not model.embed.weight.is_meta


@pytest.mark.parametrize("table", ["mup", "mup_table_9"])
def test_folding_is_the_same_function_at_the_start(table: str) -> None:
    x = torch.randn(7, 8)
    multiplied = scalelab.parametrize(seeded(MLP, 256), table, base=seeded(MLP, 64, seed=1))
    folded = scalelab.parametrize(seeded(MLP, 256), table, base=seeded(MLP, 64, seed=1), fold=True)
    assert scalelab.modules.multipliers(folded.model) == {} != scalelab.modules.multipliers(multiplied.model)
    torch.testing.assert_close(multiplied.model(x), folded.model(x), rtol=1e-5, atol=1e-6)


def test_folding_trains_the_same_network() -> None:
    losses = []
    for fold in (False, True):
        model = seeded(MLP, 256).double()
        found = scalelab.parametrize(model, "mup", base=seeded(MLP, 64, seed=1).double(), fold=fold)
        optimizer = torch.optim.AdamW(found.groups(lr=0.01, weight_decay=0.1, eps=1e-30))
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            x = torch.randn(32, 8, generator=generator, dtype=torch.float64)
            optimizer.zero_grad()
            loss = (model(x) - x[:, :5]).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:5] == pytest.approx(losses[5:], rel=1e-12)
