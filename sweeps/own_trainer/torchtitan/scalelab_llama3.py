"""torchtitan's Llama 3 of any size, each group of its parameters with the values that a parametrization gives it.

torchtitan (0.3) takes sizes, inits and the optimizer's groups from Python and not from flags: this is the function that
--module scalelab_llama3 --config llama3 names. The numbers are those of groups.json in the run's folder. The readout's
multiplier a is folded into its matrix, V = a·W: std·a, lr·a, eps/a, decay/a (exact where nothing is clipped).
"""

import dataclasses
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchtitan.components.loss import ChunkedLossWrapper, CrossEntropyLoss
from torchtitan.components.optimizer import OptimizersContainer
from torchtitan.components.optimizer.optimizer import ParamGroupConfig
from torchtitan.models.common import ComplexRoPE, Embedding, Linear, RMSNorm
from torchtitan.models.common.config_utils import get_attention_config, make_ffn_config, make_gqa_config
from torchtitan.models.llama3 import Llama3Model, model_registry
from torchtitan.models.llama3.config_registry import llama3_debugmodel
from torchtitan.models.llama3.model import Llama3TransformerBlock
from torchtitan.trainer import Trainer

# torchtitan's parameters, by the first pattern that is found in their names → scalelab's.
KINDS = (
    (r"tok_embeddings\.", "embedding.embedding"),
    (r"lm_head\.", "readout.readout"),
    (r"attention_norm\.", "gain.attention_norm"),
    (r"ffn_norm\.", "gain.mlp_norm"),
    (r"(^|\.)norm\.", "gain.norm"),
    (r"\.attention\..*wo\.", "hidden.attention_output"),
    (r"\.attention\.", "hidden.attention_query"),
    (r"\.feed_forward\.w1\.", "hidden.mlp_gate"),
    (r"\.feed_forward\.w2\.", "hidden.mlp_down"),
    (r"\.feed_forward\.w3\.", "hidden.mlp_up"),
)
GAIN = {"weight": nn.init.ones_}


def llama3() -> Trainer.Config:
    """The whole configuration; steps, batch and schedule are flags, which are put on top."""
    values = json.loads(Path(os.environ["SCALELAB_GROUPS"]).read_text())["values"]
    config = llama3_debugmodel()
    config.model_spec = dataclasses.replace(model_registry("debugmodel"), flavor="scalelab", model=model(values))
    config.loss = ChunkedLossWrapper.Config(loss_fn=CrossEntropyLoss.Config(global_vocab_size=values["vocab"]))
    config.optimizer = OptimizersContainer.Config(
        param_groups=[group(pattern, kind, values) for pattern, kind in KINDS],
        implementation="fused" if torch.cuda.is_available() else "foreach",
    )
    return config


def group(pattern: str, kind: str, values: dict[str, Any]) -> ParamGroupConfig:
    fold = values["multiplier.logits"] if kind.startswith("readout") else 1.0
    return ParamGroupConfig(
        pattern=pattern,
        optimizer_name="AdamW",
        optimizer_kwargs={
            "lr": values[f"lr.{kind}"] * fold,
            "weight_decay": values[f"weight_decay.{kind}"] / fold,
            "eps": values[f"eps.{kind}"] / fold,
            "betas": (values["beta1"], values["beta2"]),
        },
    )


def normal(std: float) -> dict[str, Any]:
    return {"weight": partial(nn.init.normal_, std=std)}


def model(values: dict[str, Any]) -> Llama3Model.Config:
    width, vocab = values["width"], values["vocab"]
    std = {kind: values[f"init_std.{kind}"] for _, kind in KINDS}
    rope = ComplexRoPE.Config(dim=values["head_dim"], max_seq_len=values["context"], theta=10000.0, scaling="none")

    def block() -> Llama3TransformerBlock.Config:
        mlp = make_ffn_config(
            dim=width, hidden_dim=values["ffn"], w1_param_init=normal(std["hidden.mlp_gate"]),
            w2w3_param_init=normal(std["hidden.mlp_up"]),
        )  # fmt: skip
        mlp.w2.param_init = normal(std["hidden.mlp_down"])
        return Llama3TransformerBlock.Config(
            attention_norm=RMSNorm.Config(normalized_shape=width, param_init=GAIN),
            ffn_norm=RMSNorm.Config(normalized_shape=width, param_init=GAIN),
            attention=make_gqa_config(
                dim=width, n_heads=values["heads"], n_kv_heads=values["kv_heads"], head_dim=values["head_dim"],
                wqkv_param_init=normal(std["hidden.attention_query"]),
                wo_param_init=normal(std["hidden.attention_output"]),
                inner_attention=get_attention_config("flex"), rope=rope, fuse_qkv=True,
            ),
            feed_forward=mlp,
        )  # fmt: skip

    return Llama3Model.Config(
        dim=width,
        vocab_size=vocab,
        tok_embeddings=Embedding.Config(
            num_embeddings=vocab, embedding_dim=width, param_init=normal(std["embedding.embedding"])
        ),
        norm=RMSNorm.Config(normalized_shape=width, param_init=GAIN),
        lm_head=Linear.Config(
            in_features=width, out_features=vocab,
            param_init=normal(std["readout.readout"] * values["multiplier.logits"]),
        ),
        layers=[block() for _ in range(values["depth"])],
    )  # fmt: skip
