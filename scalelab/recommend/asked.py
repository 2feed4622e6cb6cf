"""`recommend --published` as the command line says it: names, a target, and keys of conf/train.yaml."""

import re
from collections.abc import Mapping, Sequence

from scalelab.errors import Refused
from scalelab.recipe import Recipe
from scalelab.recommend.published import published, split

DEFAULT = "parametrization=sp"  # what published rates are of: one for every tensor


def asked(names: str, target: Mapping[str, int], overrides: Sequence[str] = (), *, vocab: int | None = None) -> Recipe:
    """The recipe of published laws, names between commas; `overrides` are KEY=VALUE of conf/train.yaml.

    Raises:
        Refused: as `published`, or on an override that is none.
    """
    from scalelab.composing import as_mapping, composed_from  # Hydra: only here

    for override in overrides:
        if not re.match(r"\+{0,2}[a-z_]+(\.\w+)*=", override):
            raise Refused(f"{override!r} with --published: accepted is KEY=VALUE of conf/train.yaml")
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    own = [] if "parametrization" in given else [DEFAULT]
    config = as_mapping(composed_from([*own, *overrides]))
    return published(split(names), config, target, given, vocab=vocab)
