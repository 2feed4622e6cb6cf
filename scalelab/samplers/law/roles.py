"""What a search parameter is, by its name: so that priors from the literature find it."""

import re

from scalelab.laws.columns import PARAMS

ALIASES: dict[str, tuple[str, ...]] = {
    "lr": ("lr", "learningrate", "peaklr", "maxlr", "lrpeak", "baselr"),
    "batch_tokens": ("batchtokens", "batch", "bs", "batchsize", "globalbatchsize", "sequences"),
    "weight_decay": ("weightdecay", "wd", "decay"),
    "width": ("width", "dmodel", "hiddensize"),
    "depth": ("depth", "layers", "nlayers", "numlayers"),
    "params": ("n", "params", "parameters", *(name.replace("_", "") for name in PARAMS)),
    "tokens": ("d", "tokens", "data", "horizon"),
    "experts": ("experts", "numexperts"),
}


def role(name: str) -> str:
    """The role of a parameter of this name, `optimizer.` and other prefixes left aside; its own name where it has none.

    >>> role("optimizer.weight_decay"), role("N"), role("momentum")
    ('weight_decay', 'params', 'momentum')
    """
    plain = re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower())
    return next((known for known, names in ALIASES.items() if plain in names), name)
