"""No exporter drops a field of a run: where the field is another, so is what it writes, or it refuses.

What stands in comments, docstrings and notes alone does not count, nor whose file it is.
"""

import ast
import json
import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from scalelab.errors import Refused
from scalelab.exporters import EXPORTERS, made
from scalelab.hparams import Horizon, Hparams
from scalelab.shape import Architecture, Shape
from scalelab.spec import RunSpec
from tests.handoff.recipes import MULTIPLIED, recipe_of, spec_of

Given = Mapping[str, Any]

# A recipe with something in every field, and one for an exporter that takes nothing but GPT-2.
WHOLE: Given = {"hparams": {"clip_norm": 1.0, **MULTIPLIED}}
GPT2: Given = {
    "architecture": {"mlp": "gelu", "positions": "learned", "tied_head": True},
    "hparams": {"clip_norm": 1.0, "residual_multiplier": 0.6, "logits_multiplier": 2.5},
    "horizon": {"warmup_fraction": 0.0},
}
# Where a field means something, if not everywhere.
SGD: Given = {"optimizer": "sgd", "hparams": {"lr": 0.05}}
EXPERTS: Given = {"model": "moe", "sizes": {"experts": 4, "top_k": 2}, "base_sizes": {"experts": 4, "top_k": 2}}
WIDE_HEADS: Given = {"sizes": {"heads": 4}, "base_sizes": {"heads": 4}}
BY_HORIZON: Given = {"parametrization": "completed_p"}
ONLY: dict[str, Given] = {
    "momentum": SGD, "balance_loss": EXPERTS, "experts": EXPERTS, "top_k": EXPERTS, "attention_scale": WIDE_HEADS,
    "base_tokens": BY_HORIZON, "base_batch_tokens": BY_HORIZON,
}  # fmt: skip

CHANGES: dict[str, Given] = {
    "lr": {"hparams": {"lr": 0.02}},
    "weight_decay": {"hparams": {"weight_decay": 0.2}},
    "beta1": {"hparams": {"beta1": 0.85}},
    "beta2": {"hparams": {"beta2": 0.99}},
    "eps": {"hparams": {"eps": 1e-7}},
    "momentum": {"hparams": {"momentum": 0.5}},
    "clip_norm": {"hparams": {"clip_norm": 0.5}},
    "no clip_norm": {"hparams": {"clip_norm": None}},
    "init_gain": {"hparams": {"init_gain": 0.7}},
    "embedding_std": {"hparams": {"embedding_std": 0.3}},
    **{name: {"hparams": {name: 1.3}} for name in MULTIPLIED},
    "z_loss": {"hparams": {"z_loss": 1e-4}},
    "balance_loss": {"hparams": {"balance_loss": 0.02}},
    "schedule": {"horizon": {"schedule": "linear"}},
    "wsd": {"horizon": {"schedule": "wsd"}},
    "decay_fraction": {"horizon": {"schedule": "wsd", "decay_fraction": 0.5}},
    "warmup_fraction": {"horizon": {"warmup_fraction": 0.4}},
    "warmup_tokens": {"horizon": {"warmup_fraction": 0.0, "warmup_tokens": 128}},
    "final_lr_ratio": {"horizon": {"final_lr_ratio": 0.05}},
    "tokens": {},
    "batch_tokens": {},
    "tied_head": {"architecture": {"tied_head": True}},
    "qk_norm": {"architecture": {"qk_norm": True}},
    "biases": {"architecture": {"biases": True}},
    "mlp": {"architecture": {"mlp": "gelu"}},
    "norm_gains": {"architecture": {"norm_gains": "none"}},
    "positions": {"architecture": {"positions": "learned"}},
    "attention_scale": {"architecture": {"attention_scale": "sqrt"}},
    "readout_init": {"architecture": {"readout_init": "fan_in"}},
    "zero_init_readout": {"architecture": {"zero_init_readout": True}},
    "zero_init_query": {"architecture": {"zero_init_query": True}},
    "residual_init": {"architecture": {"residual_init": "depth-scaled"}},
    "width": {"width": 96},
    "depth": {"depth": 4},
    "heads": {"sizes": {"heads": 2}, "base_sizes": {"heads": 1}},
    "kv_heads": {"sizes": {"heads": 4, "kv_heads": 2}, "base_sizes": {"heads": 2, "kv_heads": 1}},
    "ffn": {"sizes": {"ffn": 320}, "base_sizes": {"ffn": 160}},
    "experts": {"sizes": {"experts": 8}, "base_sizes": {"experts": 8}},
    "top_k": {"sizes": {"top_k": 3}, "base_sizes": {"top_k": 3}},
    "vocab": {},
    "context": {"sizes": {"context": 32}, "base_sizes": {"context": 32}},
    "parametrization": {"parametrization": "sp"},
    "optimizer": SGD,
    "model": EXPERTS,
    "base": {"base_width": 16},
    "seed": {"seed": 7},
    "base_tokens": {"base_tokens": 640},
    "base_batch_tokens": {"base_batch_tokens": 32},
    "weight_decay_policy": {"weight_decay_policy": "constant"},
    "dtype": {"dtype": "bfloat16"},
}
EXEMPT = {
    "architecture": "its fields are here", "shape": "its fields are here", "hparams": "its fields are here",
    "horizon": "its fields are here",
    "data": "whoever trains has a corpus; what a recipe rests on of it, vocab and context, are fields of the shape",
    "command": "what trained the proxies: no value of the run that is handed over",
    "activation_multiplier": "of unit-scaled networks, which are refused",
    "residual_attention_ratio": "of unit-scaled networks, which are refused",
    "shape_factor": "of matrix optimizers, which are refused",
    "handed_lr_factor": "of matrix optimizers, which are refused",
    "damping": "of matrix optimizers, which are refused",
}  # fmt: skip
TWICE = {"no clip_norm", "wsd"}  # a second change of one field
OF_A_READOUT = ("embedding_std", "readout_init", "zero_init_readout")  # a tied table has none of its own


def merged(one: Given, other: Given) -> dict[str, Any]:
    both = {key: {**one.get(key, {}), **value} if isinstance(value, Mapping) else value for key, value in other.items()}
    return {**one, **both}


def before(base: Given, name: str) -> RunSpec:
    return spec_of(**merged(base, ONLY.get(name, {})))


def changed(base: Given, name: str) -> RunSpec:
    spec = spec_of(**merged(merged(base, ONLY.get(name, {})), CHANGES[name]))
    if name == "vocab":
        shapes = {each: replace(getattr(spec, each), vocab=320) for each in ("shape", "base")}
        return replace(spec, **shapes, data=replace(spec.data, vocab=320))
    if name == "tokens":
        return replace(spec, horizon=replace(spec.horizon, tokens=2 * spec.horizon.tokens))
    if name == "batch_tokens":
        return replace(spec, horizon=replace(spec.horizon, batch_tokens=32, tokens=20 * 32))
    return spec


def read_by_machines(file: str, text: str) -> str:
    """What of a file is more than words for people."""
    if file.endswith(".json"):
        plain = json.loads(text)
        return json.dumps({key: value for key, value in plain.items() if key not in ("provenance", "recipe", "notes")})
    if file.endswith(".sh"):
        return "\n".join(shlex.split(text, comments=True))
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def said(name: str, spec: RunSpec) -> list[str] | None:
    """What an exporter writes for machines; None where it refuses."""
    try:
        found = made(recipe_of(spec), name, {})
    except Refused:
        return None
    return [read_by_machines(file, text) for file, text in found.files.items()]


def base_of(name: str) -> Given:
    return next(base for base in (WHOLE, GPT2) if said(name, spec_of(**base)) is not None)


def dropped(name: str, field: str, base: Given) -> bool:
    """Whether an exporter writes the same of two runs that differ in a field."""
    one, other = before(base, field), changed(base, field)
    files = said(name, one)
    return one != other and files is not None and files == said(name, other)


@pytest.mark.parametrize("name", EXPORTERS)
def test_no_field_is_dropped(name: str) -> None:
    base = base_of(name)
    unused = OF_A_READOUT if base is GPT2 else ()
    assert [field for field in CHANGES if field not in unused and dropped(name, field, base)] == []


def test_every_field_of_a_run_is_changed_or_exempt_for_a_reason() -> None:
    there = {field.name for part in (RunSpec, Hparams, Horizon, Architecture, Shape) for field in fields(part)}
    assert (CHANGES.keys() - TWICE) | EXEMPT.keys() == there
    assert not CHANGES.keys() & EXEMPT.keys()


def test_each_change_is_one() -> None:
    assert [name for name in CHANGES if changed(WHOLE, name).fingerprint == before(WHOLE, name).fingerprint] == []


@pytest.mark.parametrize("field", ONLY)
def test_what_is_something_only_there_is_shown_there(field: str) -> None:
    """The bases of `ONLY` are not such that every exporter refuses them."""
    one, other = said("param_groups", before(WHOLE, field)), said("param_groups", changed(WHOLE, field))
    assert one is not None and other is not None and one != other


def test_a_value_in_a_comment_alone_is_dropped() -> None:
    assert read_by_machines("a.sh", "A=(\n  --lr 1  # 2\n)\n") == read_by_machines("a.sh", "A=(\n  --lr 1  # 3\n)\n")
    assert read_by_machines("a.py", '"""1"""\nA = 1  # 2\n') == read_by_machines("a.py", '"""2"""\nA = 1\n')
    assert read_by_machines("a.py", "A = 1\n") != read_by_machines("a.py", "A = 2\n")
    assert read_by_machines("a.json", '{"seed": 1}') != read_by_machines("a.json", '{"seed": 2}')
