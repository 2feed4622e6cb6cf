"""Recipes at sizes that train in a second, around specs that differ in all that an exporter must express or fold.

`CASES` names the specs; `recipe_of` puts a recipe around one without a sweep, `handoff_of` resolves it.
"""

from dataclasses import replace
from functools import cache
from typing import Any

from scalelab.exporters import Handoff, handoff
from scalelab.recipe import LrChoice, Recipe
from scalelab.recommend.assembled import assembled
from scalelab.shape import Architecture
from scalelab.spec import Horizon, RunSpec
from tests.conftest import make_spec

STEPS, BATCH_TOKENS, CONTEXT = 20, 64, 16
UNCLIPPED: dict[str, Any] = {"clip_norm": None}
MULTIPLIED: dict[str, Any] = {  # all that a network has beside its tensors, none of it 1
    "embedding_multiplier": 3.0, "attention_multiplier": 1.7, "residual_multiplier": 0.6, "logits_multiplier": 2.5,
}  # fmt: skip


def spec_of(
    parametrization: str = "mup",
    *,
    architecture: dict[str, Any] | None = None,
    hparams: dict[str, Any] | None = None,
    horizon: dict[str, Any] | None = None,
    sizes: dict[str, int] | None = None,
    base_sizes: dict[str, int] | None = None,
    **given: Any,
) -> RunSpec:
    """A target of width 64 and 3 blocks over a base of width 32 and 2; heads of 16, 20 steps, no clipping."""
    spec = make_spec(
        parametrization,
        depth=given.pop("depth", 3),
        architecture=Architecture(**{"mlp": "swiglu", **(architecture or {})}),
        hparams={"eps": 1e-6, "embedding_std": 0.5, **UNCLIPPED, **(hparams or {})},
        sizes=sizes,
        base_sizes=base_sizes,
        tokens=STEPS * BATCH_TOKENS,
        **given,
    )
    kept = {"schedule": "cosine", "warmup_fraction": 0.2, "final_lr_ratio": 0.1, **(horizon or {})}
    return replace(spec, horizon=Horizon(tokens=STEPS * BATCH_TOKENS, batch_tokens=BATCH_TOKENS, **kept))


CASES: dict[str, dict[str, Any]] = {
    "mup": {},
    "mup-gelu": {"architecture": {"mlp": "gelu"}},
    "mup-multipliers": {"hparams": MULTIPLIED},
    "mup-wide-heads": {"sizes": {"heads": 4}, "base_sizes": {"heads": 4}},  # softmax scale is not 1/√head_dim
    "mup-grouped-query": {"sizes": {"heads": 4, "kv_heads": 2}, "base_sizes": {"heads": 2, "kv_heads": 1}},
    "mup-qk-norm": {"architecture": {"qk_norm": True}, "hparams": MULTIPLIED},
    "mup-biases": {"architecture": {"biases": True}, "hparams": MULTIPLIED},
    "mup-tied": {"architecture": {"tied_head": True}},
    "mup-tied-multipliers": {"architecture": {"tied_head": True}, "hparams": MULTIPLIED},
    "mup-tied-no-gains": {"architecture": {"tied_head": True, "norm_gains": "none"}},  # nothing can hold its factor
    "mup-zero": {"architecture": {"zero_init_readout": True, "zero_init_query": True}},
    "mup-no-gains": {"architecture": {"norm_gains": "none"}},
    "mup-scalar-gains": {"architecture": {"norm_gains": "scalar"}},
    "mup-learned-positions": {"architecture": {"positions": "learned", "mlp": "gelu"}, "hparams": MULTIPLIED},
    "mup-gpt-2": {
        "architecture": {"positions": "learned", "mlp": "gelu", "tied_head": True},
        "horizon": {"warmup_fraction": 0.0},
    },
    "mup-independent-decay": {"weight_decay_policy": "independent"},
    "mup-clipped": {"hparams": {"clip_norm": 1.0}},
    "mup-wsd": {"horizon": {"schedule": "wsd", "decay_fraction": 0.3}},
    "mup-linear": {"horizon": {"schedule": "linear", "final_lr_ratio": 0.0}},
    "mup-constant": {"horizon": {"schedule": "constant"}},
    "mup-undecayed": {"hparams": {"weight_decay": 0.0}},
    "mup-sgd": {"optimizer": "sgd", "hparams": {"lr": 0.05, "momentum": 0.9, **MULTIPLIED}},
    "completep": {"depth": 4},
    "completep-multipliers": {"depth": 4, "hparams": MULTIPLIED},
    "completep-biases": {"depth": 4, "architecture": {"biases": True}},
    "depth-mup": {"parametrization": "depth_mup", "depth": 4},
    "sp": {"parametrization": "sp", "architecture": {"residual_init": "depth-scaled"}},
    "mean-field": {"parametrization": "mean_field_full"},
    "ntk": {"parametrization": "ntk_full"},
}


@cache
def case(name: str) -> RunSpec:
    """The spec of one of `CASES`."""
    given = dict(CASES[name])
    parametrization = given.pop("parametrization", "completep" if name.startswith("completep") else "mup")
    return spec_of(parametrization, **given)


def recipe_of(spec: RunSpec) -> Recipe:
    """The recipe of a spec, without a sweep behind it."""
    lr = spec.hparams.lr
    chosen = LrChoice(kind="theory", value=lr, low=lr / 2, high=lr * 2, law="constant", rests_on="a test")
    return assembled(
        spec, chosen, origin="sweep", why="a test", choices=[chosen], values=[], regrets=[], confirm=[], evidence={},
        warnings=[],
    )  # fmt: skip


def handoff_of(spec: RunSpec) -> Handoff:
    """A spec as exporters take it."""
    return handoff(recipe_of(spec))
