"""The file that the exporter to OLMo-core fills in."""

TEMPLATE = '''"""A run for OLMo-core {version}.

{provenance}.

    from {module} import GLOBAL_BATCH_SIZE, MAX_DURATION, SEQUENCE_LENGTH, build
    train_module = build()  # fields of its config may be given: build(dp_config=..., compile_model=True)

Give the data loader GLOBAL_BATCH_SIZE (tokens) and sequences of SEQUENCE_LENGTH, the trainer MAX_DURATION, and call
`init_` on no model that was trained.

{notes}
"""

import zlib
from dataclasses import replace
from fnmatch import fnmatch

import torch
{dtype_import}from olmo_core.distributed.utils import distribute_like, get_local_tensor
from olmo_core.nn.attention import AttentionConfig
from olmo_core.nn.feed_forward import FeedForwardConfig
from olmo_core.nn.layer_norm import LayerNormConfig, LayerNormType
from olmo_core.nn.lm_head import LMHeadConfig
from olmo_core.nn.rope import RoPEConfig
from olmo_core.nn.transformer import TransformerBlockConfig, TransformerConfig
from olmo_core.optim import AdamWConfig, OptimGroupOverride
from olmo_core.optim import scheduler as schedulers
from olmo_core.train import Duration
from olmo_core.train.train_module import TransformerTrainModuleConfig

SEQUENCE_LENGTH = {context}
GLOBAL_BATCH_SIZE = {batch}  # tokens
MAX_DURATION = Duration.tokens({tokens})  # {steps} steps
SEED = {seed}

norm = LayerNormConfig(name=LayerNormType.rms, eps={norm_eps!r}, elementwise_affine={gains}, bias=False)
model_config = TransformerConfig(
    d_model={width},
    vocab_size={vocab},
    n_layers={depth},
    embed_scale={embedding!r},
    tie_word_embeddings={tied},
    block=TransformerBlockConfig(
        sequence_mixer=AttentionConfig(
            n_heads={heads},
            n_kv_heads={kv_heads},
            bias={biases},
            rope=RoPEConfig(theta={theta}),
            qk_norm={qk_norm},
            use_head_qk_norm={head_qk_norm},
        ),
        feed_forward=FeedForwardConfig(hidden_size={ffn}, bias={biases}),
        layer_norm=norm,
        attention_residual_alpha={residual!r},
        feed_forward_residual_alpha={residual!r},
    ),
    lm_head=LMHeadConfig(layer_norm=norm, bias=False),
)

# What matches starts as a normal of this mean and standard deviation, not truncated.
INIT = {{
{init}
}}

optim_config = AdamWConfig(
    lr={lr!r},
    betas=({beta1!r}, {beta2!r}),
    group_overrides=[
{groups}
    ],
)

{schedule}

train_module_config = TransformerTrainModuleConfig(
    rank_microbatch_size={microbatch},  # tokens
    max_sequence_length=SEQUENCE_LENGTH,
    optim=optim_config,
    scheduler=scheduler,
    max_grad_norm={clip!r},
    z_loss_multiplier={z_loss!r},
    autocast_precision={autocast},
)


@torch.no_grad()
def init_(model, seed=SEED):
    """Fill a model, whole or sharded: what a parameter gets depends on the seed and its name alone."""
    for name, parameter in model.named_parameters():
        ((mean, std),) = [start for pattern, start in INIT.items() if fnmatch(name, pattern)]
        generator = torch.Generator(parameter.device).manual_seed(zlib.crc32(f"{{seed}}/{{name}}".encode()))
        whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        whole.normal_(mean, std, generator=generator)
        get_local_tensor(parameter).copy_(get_local_tensor(distribute_like(parameter, whole)))


def build(**changes):
    """The model, filled, in its train module with AdamW and the schedule."""
    train_module = replace(train_module_config, **changes).build(model_config.build(init_device="meta"))
    init_(train_module.model)
    return train_module
'''
