"""Models of the transformers library, built from configurations: nothing is downloaded."""

import os
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

import scalelab
from scalelab.errors import Refused
from scalelab.modules import ScaledInput, ScaledOutput, multipliers

transformers = pytest.importorskip("transformers", reason="models to parametrize: pip install transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

VOCAB = 100
IDS = {"bos_token_id": 0, "eos_token_id": 1}


def gpt2(width: int, depth: int = 2, heads: int = 2) -> Any:
    torch.manual_seed(width)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_embd=width, n_layer=depth, n_head=heads, vocab_size=VOCAB, n_positions=32, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, **IDS))  # fmt: skip


def llama(width: int, depth: int = 2, heads: int = 4, kv_heads: int = 2) -> Any:
    torch.manual_seed(width)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=width, intermediate_size=3 * width, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=VOCAB, **IDS))  # fmt: skip


def mixtral(width: int) -> Any:
    torch.manual_seed(width)
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=width // 16,
        num_key_value_heads=width // 16, vocab_size=VOCAB, num_local_experts=4, **IDS))  # fmt: skip


def vit(width: int) -> Any:
    torch.manual_seed(width)
    return transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=width // 16,
        image_size=32, patch_size=8))  # fmt: skip


def resnet(width: int) -> Any:
    torch.manual_seed(width)
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(
        embedding_size=width, hidden_sizes=[width, 2 * width], depths=[2, 2], layer_type="basic"))  # fmt: skip


def settings(found: scalelab.Parametrized) -> dict[str, Any]:
    return {each.tensor.name: each for each in found.settings}


def trains(found: scalelab.Parametrized, inputs: dict[str, torch.Tensor], lr: float = 0.01) -> list[float]:
    optimizer = found.optimizer(lr=lr, weight_decay=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = found.model(**inputs).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def text() -> dict[str, torch.Tensor]:
    tokens = torch.randint(0, VOCAB, (4, 16), generator=torch.Generator().manual_seed(0))
    return {"input_ids": tokens, "labels": tokens}


def test_gpt2_tied_and_stored_the_other_way_round() -> None:
    found = scalelab.parametrize(gpt2(256, heads=8), "mup", base=gpt2(64))
    at = settings(found)
    roles = {name: str(each.tensor.role) for name, each in at.items()}
    assert roles["transformer.wte.weight"] == "tied" and roles["transformer.wpe.weight"] == "embedding"
    up = at["transformer.h.1.mlp.c_fc.weight"]  # Conv1D: [in, out]
    assert (up.tensor.fan_in.size, up.tensor.fan_out.size, up.lr, up.weight_decay) == (256, 1024, 0.25, 4)
    assert sorted(set(roles.values())) == ["bias", "embedding", "gain", "hidden", "tied"]
    assert found.sites.softmax_scale == 1 / 32**0.5 and found.notes == ()
    assert multipliers(found.model) == {"lm_head": (ScaledInput(0.25),)}
    assert found.model.transformer.wte.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert up.init_std == pytest.approx(0.01, rel=0.02)
    losses = trains(found, text())
    assert losses[-1] < losses[0] - 0.5


def test_gpt2_under_a_depth_rule() -> None:
    writers = ("*.attn.c_proj", "*.mlp.c_proj")
    with pytest.raises(Refused, match=r"c_proj starts at 0.25.* of its siblings, 1/√\(2·depth\)"):
        scalelab.parametrize(gpt2(256, 8, 8), "completep", base=gpt2(64), residual=writers)
    model = gpt2(256, 8, 8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.weight"):
                parameter.normal_(std=0.02)
    found = scalelab.parametrize(model, "completep", base=gpt2(64), residual=writers, std=0.02)
    assert found.sites.residual == 0.25 and multipliers(model)["transformer.h.7.mlp.c_proj"] == (ScaledOutput(0.25),)
    assert settings(found)["transformer.h.7.attn.c_proj.weight"].eps == 1 / 16
    with pytest.raises(Refused, match=r"query='transformer.h.0.attn.c_attn' makes more than the queries.*'mine'"):
        scalelab.parametrize(gpt2(256), "mup", base=gpt2(64), query=("*.c_attn",))


def test_llama_with_grouped_queries_in_width_and_depth() -> None:
    found = scalelab.parametrize(
        llama(256, 8), "completep", base=llama(64), query=("*.q_proj",), residual=("*.o_proj", "*.down_proj")
    )
    at = settings(found)
    key = at["model.layers.7.self_attn.k_proj.weight"]
    assert (str(key.tensor.role), key.lr, key.eps) == ("hidden", 0.25, 1 / 16)
    assert str(at["model.layers.0.mlp.gate_proj.weight"].tensor.role) == "hidden"  # SwiGLU's gate routes nothing
    assert str(at["lm_head.weight"].tensor.role) == "readout" and at["lm_head.weight"].multiplier == 0.25
    assert (found.sites.query, found.sites.softmax_scale) == (0.5, 1 / 16)
    hooks = multipliers(found.model)
    assert hooks["model.layers.3.self_attn.q_proj"] == (ScaledOutput(0.5),) and len(hooks) == 1 + 8 * 3
    losses = trains(found, text())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_llama_with_keys_of_fixed_width(kv_heads: int) -> None:
    found = scalelab.parametrize(llama(256, heads=16, kv_heads=kv_heads), "mup", base=llama(64, kv_heads=kv_heads))
    key = settings(found)["model.layers.0.self_attn.k_proj.weight"]
    assert (str(key.tensor.role), key.lr, key.tensor.fan_out.ratio) == ("hidden", 0.25, 1)
    assert {note.split(":")[0].split(".")[-2] for note in found.notes} == {"k_proj", "v_proj"}


def test_mixtral_has_stacked_experts_and_a_router_of_its_own_class() -> None:
    with pytest.raises(Refused, match=r"mlp.gate.weight has a multiplier of 0.25 and MixtralTopKRouter is not known"):
        scalelab.parametrize(mixtral(64), "mup", base=mixtral(16))
    found = scalelab.parametrize(mixtral(64), "mup", base=mixtral(16), linear=("*.mlp.gate",))
    at = settings(found)
    assert str(at["model.layers.0.mlp.gate.weight"].tensor.role) == "router"
    experts = at["model.layers.1.mlp.experts.gate_up_proj"]
    assert (str(experts.tensor.role), experts.lr, experts.tensor.fan_in.size) == ("expert", 0.25, 64)
    losses = trains(found, text())
    assert losses[-1] < losses[0] - 0.5


def test_a_base_that_is_only_described() -> None:
    found = scalelab.parametrize(llama(256), "mup", base=lambda: llama(64), query=("*.q_proj",), std=0.02)
    std = {each.tensor.name: each.init_std for each in found.settings}
    assert std["lm_head.weight"] == 0.02 and std["model.layers.0.mlp.up_proj.weight"] == 0.01
    assert multipliers(found.model)["lm_head"] == (ScaledInput(0.25),)


def test_resnet_in_depth() -> None:
    def build(width: int, depth: int) -> Any:
        config = transformers.ResNetConfig(
            embedding_size=width, hidden_sizes=[width, 2 * width], depths=[depth, depth], layer_type="basic"
        )
        return transformers.ResNetForImageClassification(config)

    with pytest.raises(Refused, match=r"by 0.5 and nothing in 'resnet.encoder.stages.0.layers.0' is named"):
        scalelab.parametrize(build(32, 4), "completep", base=build(8, 2))
    found = scalelab.parametrize(build(32, 4), "completep", base=build(8, 2), residual=("*.stages.*.layer.1",))
    assert found.scales.depth == 2 and len(multipliers(found.model)) == 8 + 1
    assert settings(found)["resnet.encoder.stages.1.layers.0.layer.0.convolution.weight"].tensor.in_block


def test_vit_has_a_class_token_and_positions() -> None:
    found = scalelab.parametrize(vit(64), "mup", base=vit(16))
    at = {name: str(each.tensor.role) for name, each in settings(found).items()}
    inputs = [name for name, role in at.items() if role == "embedding"]
    assert [name.split(".")[2] for name in inputs] == ["cls_token", "position_embeddings", "patch_embeddings"]
    assert at["classifier.weight"] == "readout" and at["vit.layers.0.mlp.fc1.weight"] == "hidden"
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    losses = trains(found, {"pixel_values": images, "labels": torch.tensor([0, 1, 0, 1])})
    assert losses[-1] < losses[0]


def test_resnet_has_batch_norms_and_shortcuts() -> None:
    found = scalelab.parametrize(resnet(32), "mup", base=resnet(8), optimizer="sgd")
    at = settings(found)
    stages = "resnet.encoder.stages"
    assert str(at[f"{stages}.1.layers.0.shortcut.convolution.weight"].tensor.role) == "hidden"
    gain = at[f"{stages}.0.layers.1.layer.0.normalization.weight"]
    assert (str(gain.tensor.role), gain.lr, gain.eps) == ("gain", 4.0, None)
    stem, head = at["resnet.embedder.embedder.convolution.weight"], at["classifier.1.weight"]
    assert (str(stem.tensor.role), str(head.tensor.role)) == ("embedding", "readout")
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    losses = trains(found, {"pixel_values": images, "labels": torch.tensor([0, 1] * 4)}, lr=0.01)
    assert losses[-1] < losses[0]
