"""Depth, residual branches and attention: what is read off two models, and what only their author can say."""

import copy
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import nn

import scalelab
from scalelab.errors import Refused
from scalelab.modules import ScaledInput, ScaledOutput, multipliers
from scalelab.modules.pairing import pair
from tests.modules.models import LM, MLP, ids, seeded

RESIDUAL = ("blocks.*.o_proj", "blocks.*.down")


def test_depth_is_the_ratio_of_the_containers_that_differ() -> None:
    found = scalelab.parametrize(LM(64, 8), "completep", base=LM(16, 2), residual=RESIDUAL)
    assert found.scales.depth == 4 and found.sites.residual == 0.25
    eps = {each.tensor.name: each.eps for each in found.settings}
    assert eps["blocks.7.norm1.weight"] == 1 / 16 and eps["norm.weight"] == 1 / 4 == eps["embed.weight"]
    at = multipliers(found.model)
    assert at["blocks.7.down"] == at["blocks.0.o_proj"] == (ScaledOutput(0.25),) and at["head"] == (ScaledInput(0.25),)
    assert len(at) == 17


def test_only_depth_may_differ() -> None:
    found = scalelab.parametrize(LM(16, 8), "completep_half", base=seeded(LM, 16, 2), residual=RESIDUAL)
    assert found.sites.residual == 0.5
    in_blocks = {each.lr for each in found.settings if each.tensor.in_block}
    assert in_blocks == {0.5} and {each.lr for each in found.settings if not each.tensor.in_block} == {1.0}


def test_the_scaled_network_computes_what_it_should() -> None:
    model = seeded(LM, 64, 8)
    plain = copy.deepcopy(model)
    scalelab.parametrize(model, "completep", base=LM(16, 2), residual=RESIDUAL, init="keep")
    for block in plain.blocks:
        for layer in (block.o_proj, block.down):
            with torch.no_grad():
                layer.weight.mul_(0.25)
                layer.bias.mul_(0.25)
    with torch.no_grad():
        plain.head.weight.mul_(0.25)
    torch.testing.assert_close(model(ids()), plain(ids()), rtol=1e-5, atol=1e-6)


def test_branches_must_be_named_in_every_block() -> None:
    with pytest.raises(Refused, match=r"multiplies residual branches by 0.25 and nothing in 'blocks.0' is named"):
        scalelab.parametrize(LM(64, 8), "completep", base=LM(16, 2))
    with pytest.raises(Refused, match=r"nothing in 'blocks.1' is named"):
        scalelab.parametrize(LM(64, 8), "completep", base=LM(16, 2), residual=("blocks.0.*",))
    with pytest.raises(Refused, match=r"residual='\*.c_proj' names no module"):
        scalelab.parametrize(LM(64, 8), "completep", base=LM(16, 2), residual=("*.c_proj",))
    with pytest.raises(Refused, match=r"fold=True leaves no multipliers"):
        scalelab.parametrize(LM(64, 8), "completep", base=LM(16, 2), residual=RESIDUAL, fold=True)


def test_a_module_that_is_never_called_cannot_carry_a_multiplier() -> None:
    def build(width: int, depth: int) -> nn.Module:
        return nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, width // 8, width), depth, enable_nested_tensor=False
        )

    with pytest.raises(Refused, match=r"out_proj' is never called, its attention reads its weight: name the attention"):
        scalelab.parametrize(build(64, 4), "completep", base=build(16, 2), residual=("*.out_proj", "*.linear2"))
    model = build(64, 4).eval()
    before = model(torch.ones(3, 2, 64))
    scalelab.parametrize(model, "completep", base=build(16, 2), residual=("*.self_attn", "*.linear2"), init="keep")
    assert not torch.allclose(before, model(torch.ones(3, 2, 64)))  # torch's fast path does not skip the hooks


def gpt2_init(model: LM, depth: int) -> LM:
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            scale = (2 * depth) ** -0.5 if name.endswith(("o_proj.weight", "down.weight")) else 1.0
            nn.init.normal_(parameter, std=0.02 * scale)
    return model


def test_an_init_with_the_depth_in_it_is_not_combined_with_a_rule_that_has_it_too() -> None:
    with pytest.raises(Refused, match=r"blocks.0.o_proj starts at 0.2.* of its siblings, 1/√\(2·depth\)"):
        scalelab.parametrize(gpt2_init(LM(64, 8), 8), "completep", base=LM(16, 2), residual=RESIDUAL)
    # torch's default 1/√fan_in makes `down` half as large as the rest, and is no such init.
    scalelab.parametrize(LM(64, 2), "completep", base=LM(16, 1), residual=RESIDUAL)


@pytest.mark.parametrize("depth", [4, 8, 16])
def test_under_a_rule_without_depth_such_an_init_is_kept(depth: int) -> None:
    found = scalelab.parametrize(gpt2_init(LM(64, depth), depth), "mup", base=gpt2_init(LM(16, 2), 2))
    std = {each.tensor.name: each.init_std for each in found.settings}
    assert std["blocks.0.up.weight"] == pytest.approx(0.01, rel=0.03)  # 0.02/√4
    assert std["blocks.0.down.weight"] == pytest.approx(0.01 / (2 * depth) ** 0.5, rel=0.03)


def test_blocks_of_two_kinds_are_paired_by_what_they_are() -> None:
    def build(width: int, depth: int) -> nn.Module:
        return nn.ModuleDict({"layers": nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), *([nn.Linear(width, width)] if i % 2 else [])) for i in range(depth)
        )})  # fmt: skip

    names = pair(build(8, 6), build(4, 2)).parameters
    assert names["layers.5.1.weight"] == "layers.1.1.weight" and names["layers.4.0.bias"] == "layers.0.0.bias"
    assert pair(build(8, 6), build(4, 4)).parameters["layers.5.1.weight"] == "layers.1.1.weight"  # 5 modulo 4
    assert pair(build(8, 2), build(4, 6)).depths["layers"].ratio == Fraction(1, 3)
    with pytest.raises(Refused, match=r"layers has 6 items against 1 in the other model, and item 1 is like none"):
        pair(build(8, 6), build(4, 1))


def test_an_mlp_in_a_sequence_has_no_depth_to_read() -> None:
    def build(width: int, depth: int) -> nn.Module:
        hidden = [nn.Linear(width, width) for _ in range(depth)]
        return nn.Sequential(nn.Linear(8, width), *hidden, nn.Linear(width, 5))

    found = scalelab.parametrize(build(64, 2), "mup", base=build(16, 2))
    assert [str(each.tensor.role) for each in found.settings if each.tensor.name.endswith("weight")] == [
        "embedding", "hidden", "hidden", "readout",
    ]  # fmt: skip
    with pytest.raises(Refused, match=r" has 6 items against 4 in the other model, and item 5 is like none"):
        scalelab.parametrize(build(64, 4), "mup", base=build(16, 2))


def test_several_depths_are_asked_for_only_where_they_matter() -> None:
    def build(width: int, first: int, second: int) -> nn.Module:
        def stage(count: int) -> nn.Module:
            return nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(count))

        return nn.ModuleDict({"embed": nn.Linear(4, width), "first": stage(first), "second": stage(second)})

    assert scalelab.parametrize(build(64, 4, 3), "mup", base=build(16, 2, 2), init="keep").scales.depth == 1
    with pytest.raises(Refused, match=r"several ratios \(first 2→4, second 2→3\): say depth=\(base, target\)"):
        scalelab.parametrize(build(64, 4, 3), "completep", base=build(16, 2, 2), residual=("*.0",))
    found = scalelab.parametrize(
        build(64, 4, 3), "completep", base=build(16, 2, 2), residual=("*.?.0",), depth=(4, 7), init="keep"
    )
    assert found.scales.depth == Fraction(7, 4)


def test_attention_goes_on_the_queries() -> None:
    with pytest.raises(Refused, match=r"by 0.5 over 1/√head_dim \(a softmax scale of 0.0883883\): name .*query="):
        scalelab.parametrize(LM(64, heads=2), "mup", base=LM(16, heads=2))
    found = scalelab.parametrize(LM(64, heads=2), "mup", base=LM(16, heads=2), query=("*.q_proj",))
    assert (found.sites.attention, found.sites.query) == (0.25, 0.5)
    assert found.sites.softmax_scale == pytest.approx(0.25 / 8**0.5)  # √8/32: 1/√8 at the base, then like 1/d
    assert multipliers(found.model)["blocks.1.q_proj"] == (ScaledOutput(0.5),)
    mine = scalelab.parametrize(LM(64, heads=2), "mup", base=LM(16, heads=2), attention="mine")
    assert mine.sites == found.sites and set(multipliers(mine.model)) == {"head"}
    under_sp = scalelab.parametrize(LM(64, heads=2), "sp", base=LM(16, heads=2))  # 1/√head_dim, as it has
    assert under_sp.sites.query == 1.0 and multipliers(under_sp.model) == {}


def test_queries_that_cannot_be_told_apart_or_are_normalised_after_are_refused() -> None:
    class Attention(nn.Module):
        def __init__(self, width: int, *names: str) -> None:
            super().__init__()
            self.head_dim = width // 2
            for name in names:
                self.add_module(name, nn.LayerNorm(width // 2) if "norm" in name else nn.Linear(width, width))

    def models(*names: str) -> tuple[nn.Module, Callable[[], nn.Module]]:
        return nn.ModuleDict({"a": Attention(64, *names)}), lambda: nn.ModuleDict({"a": Attention(16, *names)})

    model, base = models("qkv_proj")
    with pytest.raises(Refused, match=r"query='a.qkv_proj' makes more than the queries"):
        scalelab.parametrize(model, "mup", base=base, query=("*.qkv_proj",), init="keep")
    model, base = models("q_proj", "q_norm")
    with pytest.raises(Refused, match=r"query='a.q_proj' is normalised after: name the norm, query=\('\*.q_norm',\)"):
        scalelab.parametrize(model, "mup", base=base, query=("*.q_proj",), init="keep")
    scalelab.parametrize(model, "mup", base=base, query=("*.q_norm",), init="keep")


def test_a_head_dim_that_is_not_seen_is_asked_for() -> None:
    class FancyAttention(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.q = nn.Linear(width, width)

    with pytest.raises(Refused, match=r"head_dim of '' is not to be seen: say head_dim=\(base, target\)"):
        scalelab.parametrize(FancyAttention(64), "mup", base=FancyAttention(16))
    found = scalelab.parametrize(FancyAttention(64), "mup", base=FancyAttention(16), head_dim=(16, 16))
    assert found.sites.query == 1.0
    scalelab.parametrize(MLP(64), "mup", base=MLP(16))  # no attention, nothing to ask
    with pytest.raises(Refused, match=r"head_dim=\(0, 16\): accepted is a pair of positive whole numbers"):
        scalelab.parametrize(MLP(64), "mup", base=MLP(16), head_dim=(0, 16))


def test_horizon_ratios_reach_the_tables_that_have_them() -> None:
    found = scalelab.parametrize(
        LM(64, 4),
        "completed_p",
        base=LM(16, 2),
        residual=RESIDUAL,
        batch_tokens=(1024, 4096),
        tokens=(10**6, 4 * 10**6),
    )
    assert (found.scales.batch, found.scales.tokens) == (4, 4) and found.betas(0.9, 0.95) == (0.9, 0.95)
    more = scalelab.parametrize(LM(64), "completed_p", base=LM(16), batch_tokens=(1024, 2048))
    assert more.betas(0.9, 0.95) == (pytest.approx(0.8), pytest.approx(0.9))
