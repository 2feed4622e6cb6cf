"""The file that the exporter to torchtitan fills in."""

TEMPLATE = '''"""A run for torchtitan 0.3.0.

{provenance}.

    PYTHONPATH=FOLDER torchrun --nproc_per_node=8 -m torchtitan.train --module torchtitan_recipe --config recipe

{notes}
"""

import re
from functools import partial
from typing import Any

from torch import nn
from torchtitan.components.loss import ChunkedLossWrapper, CrossEntropyLoss
from torchtitan.components.optimizer import LRSchedulersContainer, OptimizersContainer, ParamGroupConfig
from torchtitan.config import DebugConfig, TrainingConfig
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.hf_datasets.text_datasets import HuggingFaceTextDataLoader
from torchtitan.models.common import {rope}, Embedding, Linear, RMSNorm
from torchtitan.models.common.attention import GQAttention, QKVLinear
from torchtitan.models.common.config_utils import get_attention_config
from torchtitan.models.common.feed_forward import FeedForward
from torchtitan.models.common.param_init import skip_param_init
from torchtitan.models.{module} import parallelize_{parallelize}
from torchtitan.models.{module}.model import {model}Model, {model}TransformerBlock
from torchtitan.models.{module}.state_dict_adapter import {model}StateDictAdapter
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.trainer import Trainer

VOCAB, WIDTH, DEPTH, FFN, CONTEXT = {vocab}, {width}, {depth}, {ffn}, {context}
HEADS, KV_HEADS, HEAD_DIM = {heads}, {kv_heads}, {head_dim}
BIASES = {biases}
TIED = {tied}


def normal(std: float) -> partial[Any]:
    """How a weight starts: a normal about 0, or zeros."""
    return partial(nn.init.normal_, mean=0.0, std=std) if std else partial(nn.init.constant_, val=0.0)


def linear(fan_in: int, fan_out: int, std: float, *, bias: bool = BIASES) -> Linear.Config:
    start = {{"weight": normal(std), "bias": nn.init.zeros_}}
    return Linear.Config(in_features=fan_in, out_features=fan_out, bias=bias, param_init=start)


def norm(length: int, gain: float) -> RMSNorm.Config:
    return RMSNorm.Config(
        normalized_shape=length, eps={norm_eps!r}, param_init={{"weight": partial(nn.init.constant_, val=gain)}}
    )


def layer() -> {model}TransformerBlock.Config:
    return {model}TransformerBlock.Config(
        attention_norm=norm(WIDTH, gain={attention_norm!r}),
        attention=GQAttention.Config(
            n_heads=HEADS,
            n_kv_heads=KV_HEADS,
            head_dim=HEAD_DIM,  # the softmax scale is 1/sqrt of it
            dim=WIDTH,
            qkv_linear=QKVLinear.Config(
                head_dim=HEAD_DIM,
                wq=linear(WIDTH, HEADS * HEAD_DIM, std={query!r}),
                wkv=linear(WIDTH, KV_HEADS * HEAD_DIM, std={key_value!r}),
            ),
            qk_norm={qk_norm},
            wo=linear(HEADS * HEAD_DIM, WIDTH, std={output!r}),
            inner_attention=get_attention_config({attn_backend}),
            rope={rope}.Config(dim=HEAD_DIM, max_seq_len=CONTEXT, theta={theta!r}),
        ),
        ffn_norm=norm(WIDTH, gain={mlp_norm!r}),
        feed_forward=FeedForward.Config(
            w1=linear(WIDTH, FFN, std={gate!r}),
            w3=linear(WIDTH, FFN, std={up!r}),
            w2=linear(FFN, WIDTH, std={down!r}),
        ),
    )


def model() -> {model}Model.Config:
    table = {embedding!r}  # standard deviation of the token table
    start = {{"weight": skip_param_init if TIED else normal(table)}}
    return {model}Model.Config(
        dim=WIDTH,
        vocab_size=VOCAB,
        enable_weight_tying=TIED,
        tok_embeddings=Embedding.Config(num_embeddings=VOCAB, embedding_dim=WIDTH, param_init=start),
        layers=[layer() for _ in range(DEPTH)],
        norm=norm(WIDTH, gain={last_norm!r}),
        lm_head=linear(WIDTH, VOCAB, std={readout}, bias=False),
    )


def group(*names: str, lr: float, weight_decay: float, eps: float) -> ParamGroupConfig:
    """Parameters by the ends of their names; a step decays them by lr·weight_decay."""
    return ParamGroupConfig(
        pattern=rf"(^|\\.)({{'|'.join(map(re.escape, names))}})$",
        optimizer_name="AdamW",
        optimizer_kwargs={{"lr": lr, "betas": ({beta1!r}, {beta2!r}), "eps": eps, "weight_decay": weight_decay}},
    )


GROUPS = [
{groups}
]


def recipe() -> Trainer.Config:
    spec = ModelSpec(
        name="{module}",
        flavor="scalelab",
        model=model(),
        parallelize_fn=parallelize_{parallelize},
        pipelining_fn=pipeline_llm,
        post_optimizer_build_fn=None,
        state_dict_adapter={model}StateDictAdapter,
    )
    return Trainer.Config(
        model_spec=spec,
        loss=ChunkedLossWrapper.Config(loss_fn=CrossEntropyLoss.Config(global_vocab_size=VOCAB)),
        hf_assets_path={hf_assets_path},
        dataloader=HuggingFaceTextDataLoader.Config(dataset={dataset}),
        optimizer=OptimizersContainer.Config(param_groups=GROUPS),
        lr_scheduler=LRSchedulersContainer.Config(
            warmup_steps={warmup_steps},
            decay_ratio={decay_ratio!r},
            decay_type="{decay_type}",
            min_lr_factor={min_lr!r},
        ),
        training=TrainingConfig(
            steps={steps},
            seq_len=CONTEXT,
            global_batch_size={sequences},  # sequences: {batch_tokens} tokens a step
            local_batch_size={local_batch_size},
            max_norm={max_norm},
            dtype="float32",
            mixed_precision_param="{dtype}",
        ),
        debug=DebugConfig(seed={seed}),
    )
'''
