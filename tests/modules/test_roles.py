"""What is read off shapes, what has to be said, and the refusals in between."""

import pytest
import torch
from torch import nn

import scalelab
from scalelab.errors import Refused
from scalelab.parametrizations import Role
from tests.modules.models import LM, MLP, MoE, seeded


def roles(found: scalelab.Parametrized) -> dict[str, str]:
    return {each.tensor.name: str(each.tensor.role) for each in found.settings}


def only(module: nn.Module) -> nn.Module:
    """A model with one part under test between an embedding and a readout."""
    return nn.ModuleDict({"part": module})


def on_meta(model: type[nn.Module], width: int, **options: object) -> nn.Module:
    with torch.device("meta"):
        return model(width, **options)


def test_a_transformer_of_torch_layers() -> None:
    found = scalelab.parametrize(LM(64), "mup", base=LM(16))
    assert roles(found) == {
        "positions": "embedding", "embed.weight": "embedding", "norm.weight": "gain", "norm.bias": "bias",
        "head.weight": "readout",
        **{f"blocks.{i}.{name}": role for i in (0, 1) for name, role in {
            "norm1.weight": "gain", "norm1.bias": "bias", "norm2.weight": "gain", "norm2.bias": "bias",
            "q_proj.weight": "hidden", "q_proj.bias": "bias", "k_proj.weight": "hidden", "v_proj.weight": "hidden",
            "o_proj.weight": "hidden", "o_proj.bias": "bias", "up.weight": "hidden", "up.bias": "bias",
            "down.weight": "hidden", "down.bias": "bias"}.items()},
    }  # fmt: skip
    assert found.notes == ()


def test_every_tensor_goes_by_its_own_fan_in() -> None:
    found = scalelab.parametrize(LM(64, ffn=384), "mup", base=LM(16, ffn=64), init="keep")
    lr = {each.tensor.name: each.lr for each in found.settings}
    assert lr["blocks.0.up.weight"] == 1 / 4 and lr["blocks.0.down.weight"] == 1 / 6


def test_multi_query_keys_of_fixed_width_are_hidden_with_a_note() -> None:
    found = scalelab.parametrize(LM(64, heads=8, kv_heads=1), "mup", base=LM(16, heads=2, kv_heads=1), init="keep")
    key = next(each for each in found.settings if each.tensor.name == "blocks.0.k_proj.weight")
    assert (key.tensor.role, key.lr, key.multiplier, key.weight_decay) == (Role.HIDDEN, 0.25, 1.0, 4.0)
    assert found.notes[0].startswith("blocks.*.k_proj.weight: maps the width to something fixed inside a block")


def test_a_fixed_ffn_is_a_finite_dimension_with_a_note() -> None:
    found = scalelab.parametrize(LM(64, ffn=64), "mup", base=LM(16, ffn=64), init="keep")
    assert roles(found)["blocks.0.up.weight"] == "hidden" and roles(found)["blocks.0.down.weight"] == "embedding"
    assert [note.split(":")[0] for note in found.notes] == ["blocks.*.up.weight", "blocks.*.down.weight"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_stacked_experts_and_their_router(optimizer: str) -> None:
    found = scalelab.parametrize(MoE(64), "mup", base=MoE(16), optimizer=optimizer)
    assert roles(found)["layers.0.gate.weight"] == "router"
    expert = next(each for each in found.settings if each.tensor.name == "layers.0.experts.w1")
    # mup takes the first two axes of [E, out, in] for the fans and quarters SGD's rate.
    assert (expert.tensor.role, expert.lr) == (Role.EXPERT, 0.25 if optimizer == "adamw" else 1.0)


def test_growing_experts_are_no_width_and_no_depth() -> None:
    found = scalelab.parametrize(MoE(64, 8), "mup", base=MoE(16, 4), init="keep")
    assert found.scales.experts == 2 and found.scales.depth == 1
    assert roles(found)["layers.0.experts.w1"] == "expert" and roles(found)["layers.0.gate.weight"] == "router"


def test_convolutions_depthwise_transposed_and_normalised() -> None:
    def build(width: int) -> nn.Module:
        return nn.ModuleDict({
            "stem": nn.Conv2d(3, width, 3), "norm": nn.BatchNorm2d(width), "deep": nn.Conv2d(width, width, 3),
            "depthwise": nn.Conv2d(width, width, 3, groups=width), "up": nn.ConvTranspose2d(width, 2 * width, 3),
            "activation": nn.PReLU(width), "head": nn.Conv2d(2 * width, 10, 1),
        })  # fmt: skip

    found = scalelab.parametrize(build(32), "mup", base=build(8), optimizer="sgd")
    settings = {each.tensor.name: each for each in found.settings}
    expected = {"stem": "embedding", "norm": "gain", "deep": "hidden", "depthwise": "embedding", "up": "hidden",
                "activation": "gain", "head": "readout"}  # fmt: skip
    assert {name: str(settings[f"{name}.weight"].tensor.role) for name in expected} == expected
    deep, up = settings["deep.weight"].tensor, settings["up.weight"].tensor
    assert deep.fan_in is not None and deep.fan_in.size == 32 * 9
    assert up.fan_in is not None and (up.fan_in.size, up.fan_out.size) == (32 * 9, 64)


def test_torch_transformer_encoder() -> None:
    def build(width: int) -> nn.Module:
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    with pytest.raises(Refused, match=r"multiplies attention logits by 0.5 over 1/√head_dim.*attention='mine'"):
        scalelab.parametrize(build(64), "mup", base=build(16))
    with pytest.raises(Refused, match=r"names no module"):
        scalelab.parametrize(build(64), "mup", base=build(16), query=("*.in_proj",))
    found = scalelab.parametrize(build(64), "mup", base=build(16), attention="mine")
    assert roles(found)["layers.0.self_attn.in_proj_weight"] == "hidden"
    assert roles(found)["layers.0.self_attn.in_proj_bias"] == "bias"
    assert len(found.notes) == 1 and found.notes[0].startswith("no readout was found")


class Raw(nn.Module):
    def __init__(self, *shape: int, name: str = "table") -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.randn(shape)))


@pytest.mark.parametrize(
    ("shape", "base", "name", "role"),
    [
        ((1, 1, 64), (1, 1, 16), "cls_token", "embedding"),
        ((1, 9, 64), (1, 9, 16), "table", "embedding"),
        ((9, 64), (9, 16), "pos_embed", "embedding"),
        ((64, 64), (16, 16), "mixing", "hidden"),
        ((7, 7), (7, 7), "distances", "scalar"),
        ((1,), (1,), "temperature", "scalar"),
        ((), (), "logit_scale", "scalar"),
        ((64,), (16,), "gamma_1", "gain"),
        ((64,), (16,), "decoder_bias", "bias"),
        ((4, 64), (4, 16), "gate_up_bias", "bias"),
    ],
)
def test_raw_parameters(shape: tuple[int, ...], base: tuple[int, ...], name: str, role: str) -> None:
    models = [nn.ModuleDict({"part": Raw(*s, name=name), "mlp": MLP(w)}) for s, w in ((shape, 64), (base, 16))]
    assert roles(scalelab.parametrize(models[0], "mup", base=models[1], init="keep"))[f"part.{name}"] == role


def test_what_cannot_be_seen_is_asked_for() -> None:
    with pytest.raises(Refused, match=r"part.w, of shape \(9, 64\) against \(9, 16\) in Raw, does not show which axis"):
        scalelab.parametrize(only(Raw(9, 64, name="w")), "mup", base=only(Raw(9, 16, name="w")))
    with pytest.raises(
        Refused, match=r"part.w, of shape \(64,\) in Raw, is a vector of unknown use: name it in roles="
    ):
        scalelab.parametrize(only(Raw(64, name="w")), "mup", base=only(Raw(16, name="w")))
    for options, role in (({"layouts": {"*.w": "in out"}}, "embedding"), ({"layouts": {"*.w": "out in"}}, "readout"),
                          ({"roles": {"*.w": "router"}}, "router")):  # fmt: skip
        model, base = only(Raw(9, 64, name="w")), only(Raw(9, 16, name="w"))
        found = scalelab.parametrize(model, "sp", base=base, init="keep", **options)
        assert roles(found) == {"part.w": role}
        assert found.settings[0].tensor.ratios(found.scales).fan_in == (1 if role == "embedding" else 4)


def test_patterns_are_checked() -> None:
    def attempt(**options: object) -> None:
        scalelab.parametrize(MLP(64), "mup", base=MLP(16), **options)  # type: ignore[arg-type]

    with pytest.raises(Refused, match=r"roles pattern 'hiden.\*' claims no parameter"):
        attempt(roles={"hiden.*": "hidden"})
    with pytest.raises(
        Refused, match=r"hidden.weight is claimed by 'hidden.\*' as hidden and by '\*.weight' as readout"
    ):
        attempt(roles={"hidden.*": "hidden", "*.weight": Role.READOUT})
    with pytest.raises(Refused, match=r"unknown role 'hiden': accepted are .*did you mean 'hidden'"):
        attempt(roles={"hidden.weight": "hiden"})
    with pytest.raises(Refused, match=r"unknown word of a layout 'input'"):
        attempt(layouts={"hidden.weight": "out input"})
    attempt(roles={"hidden.weight": "hidden", "*.weight": "hidden"})  # two patterns that agree


def test_the_same_config_twice_is_refused_and_can_be_meant() -> None:
    with pytest.raises(Refused, match=r"no dimension differs between model and base: did you build both from the same"):
        scalelab.parametrize(LM(16), "mup", base=LM(16))
    model, untouched = seeded(LM, 16), seeded(LM, 16)
    found = scalelab.parametrize(model, "mup", base=seeded(LM, 16, seed=1), allow_same=True)
    assert all((each.lr, each.multiplier, each.eps) == (1, 1, 1) for each in found.settings)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))
    with pytest.raises(Refused, match=r"optimizer 'muon' treats matrices by their role.*give wider"):
        scalelab.parametrize(LM(16), "mup", base=LM(16), allow_same=True, optimizer="muon")
    seen = scalelab.parametrize(
        LM(16), "mup", base=lambda: LM(16), allow_same=True, optimizer="muon", wider=lambda: LM(32), init="keep"
    )
    assert roles(seen) == roles(scalelab.parametrize(LM(64), "mup", base=LM(16)))


def test_another_vocabulary_or_family_is_refused() -> None:
    def build(width: int, vocab: int = 50) -> nn.Module:
        return nn.ModuleDict({"embed": nn.Embedding(vocab, width), "head": nn.Linear(width, vocab)})

    with pytest.raises(Refused, match=r"embed.weight has 60 entries, in the base 50: no table scales a vocabulary"):
        scalelab.parametrize(build(64, 60), "mup", base=build(16))
    with pytest.raises(Refused, match=r"only the model has module 'embed'"):
        scalelab.parametrize(build(64), "mup", base=MLP(16))
    with pytest.raises(Refused, match=r"only the base has parameter 'head.bias'"):
        scalelab.parametrize(LM(64), "mup", base=_with_bias(LM(16)))


def _with_bias(model: LM) -> LM:
    model.head.bias = nn.Parameter(torch.zeros(50))
    return model


def test_tied_weights_are_one_parameter_scaled_where_it_reads_out() -> None:
    model = seeded(LM, 64, tied=True)
    before = model.embed.weight.detach().clone()
    found = scalelab.parametrize(model, "mup", base=seeded(LM, 16, seed=1, tied=True))
    assert roles(found)["embed.weight"] == "tied" and "head.weight" not in roles(found)
    assert torch.equal(model.embed.weight, before)  # mup multiplies it by √m
    assert model.head.weight is model.embed.weight
    assert scalelab.modules.multipliers(model) == {"head": (scalelab.modules.ScaledInput(0.25),)}
    with pytest.raises(Refused, match=r"embed.weight is tied: parametrization 'mup-folded' has no rule for tied/adam"):
        scalelab.parametrize(LM(64, tied=True), "mup", base=LM(16, tied=True), fold=True)
    with pytest.raises(Refused, match=r"embed.weight is tied: parametrization 'mup_table_3' has no rule for tied"):
        scalelab.parametrize(LM(64, tied=True), "mup_table_3", base=LM(16, tied=True))


def test_attention_of_torch_has_no_place_for_a_hidden_multiplier() -> None:
    def build(width: int) -> nn.Module:
        return nn.ModuleDict({"attention": nn.MultiheadAttention(width, width // 8)})

    with pytest.raises(Refused, match=r"in_proj_weight has a multiplier of 0.5 and MultiheadAttention is not known"):
        scalelab.parametrize(build(64), "ntk_full", base=build(16))


def test_u_mup_needs_its_own_network() -> None:
    with pytest.raises(Refused, match=r"'u_mup' needs a network of unit-scaled operations"):
        scalelab.parametrize(MLP(64), "u_mup", base=MLP(16))


def test_a_multiplier_without_a_place_is_refused_and_changes_nothing() -> None:
    class Gate(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, width))

    def build(width: int) -> nn.Module:
        return nn.ModuleDict({"router": Gate(width), "mlp": MLP(width)})

    model = build(64)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(Refused, match=r"router.weight has a multiplier of 0.25 and Gate is not known to be linear"):
        scalelab.parametrize(model, "mup", base=build(16))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert scalelab.modules.multipliers(model) == {}
    found = scalelab.parametrize(model, "mup", base=build(16), linear=("router",))
    assert set(scalelab.modules.multipliers(model)) == {"router", "mlp.readout"}
    assert next(each.lr for each in found.settings if each.tensor.name == "router.weight") == 1.0
    folded = scalelab.parametrize(build(64), "mup", base=build(16), fold=True)
    assert scalelab.modules.multipliers(folded.model) == {}
    assert next(each.lr for each in folded.settings if each.tensor.name == "router.weight") == 0.25
