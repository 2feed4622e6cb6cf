"""The keys of a configuration: which are accepted, which have to be there, and which are groups of others."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalelab.errors import Refused

KEYS = frozenset((
    "out", "study", "parametrization", "width", "depth", "head_dim", "heads", "kv_heads", "ffn", "experts", "top_k",
    "granularity", "context", "base", "lr", "lr_factor", "seed", "tokens", "batch_tokens", "schedule",
    "warmup_fraction", "warmup_tokens", "decay_fraction", "final_lr_ratio", "weight_decay_policy", "dtype", "compile",
    "pruning",
    "independent_weight_decay", "z_loss", "balance_loss", "init",
    "multipliers", "validation_tokens", "unique_tokens", "device", "threads", "model", "optimizer", "data", "parallel",
    "trainer", "tracker", "hydra",
))  # fmt: skip
CHOSEN = ("model", "optimizer", "data", "parallel", "trainer", "tracker")  # each a file of conf/NAME/
MULTIPLIERS = {  # the keys below multipliers, by what `Hparams` calls them
    **{site: f"{site}_multiplier" for site in ("embedding", "attention", "residual", "logits", "activation")},
    "attention_ratio": "residual_attention_ratio",
}
# Below which keys what has to be there; of an optimizer besides what it reads, as `config` asks for.
NEEDED: dict[str, tuple[str, ...]] = {
    "base": ("width", "depth"), "init": ("gain", "embedding_std"), "multipliers": tuple(MULTIPLIERS),
    **dict.fromkeys(CHOSEN, ("name",)), "model": ("name", "mlp_ratio"),
}  # fmt: skip

SHARED = re.compile(r"(^|/)shared[^/]*$|/.*/")  # of sweeps/: what several studies have in common, and is none


def check_keys(config: Mapping[str, Any]) -> None:
    """`Refused` on a key that is not accepted, one that is missing, and a value where keys are to be."""
    if odd := sorted(set(config) - KEYS):
        raise Refused(f"unknown key {', '.join(odd)}: accepted are {', '.join(sorted(KEYS))}")
    if gone := sorted(KEYS - {"hydra"} - set(config)):
        raise Refused(f"{gone[0]} was taken away: a run needs every key of conf/train.yaml")
    for name, needed in NEEDED.items():
        there = below(config, name)
        if lost := [key for key in needed if key not in there]:
            raise Refused(
                f"{name}.{lost[0]} was taken away: a run needs every key of conf/train.yaml and what it chooses"
            )
    for name in CHOSEN:
        _text(f"{name}.name", config[name]["name"])
    _text("parametrization", config["parametrization"])


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise Refused(f"{name}={value!r}: accepted is a name")


def below(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys below a key, to be taken out one by one; `Refused` where it has a value instead."""
    found = config[name]
    if isinstance(found, Mapping):
        return dict(found)
    said = f"{name}={found!r}: accepted are keys below it, {name}.KEY=VALUE; see conf/train.yaml"
    if name in CHOSEN:
        said += f". A file of conf/{name} is chosen in a study's defaults, `- override /{name}: NAME`"
    raise Refused(said)


def names_in(group: Path) -> list[str]:
    """What can be chosen in a folder of conf/, also in folders below it; of sweeps/ only what is a study."""
    names = sorted(file.relative_to(group).with_suffix("").as_posix() for file in group.rglob("*.yaml"))
    return [name for name in names if not SHARED.search(name)] if group.name == "sweep" else names


def studies_like(group: Path, name: str) -> list[str]:
    """The studies in the folder that a name begins with; else those in none, and the folders."""
    names = names_in(group)
    inside = [each for each in names if each.startswith(f"{name.partition('/')[0]}/")]
    return inside or sorted({folder + stroke for folder, stroke, _ in (each.partition("/") for each in names)})
