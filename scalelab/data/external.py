"""A corpus that scalelab never sees: the command that trains reads it. Known are its name, vocabulary and density."""

import hashlib
import math
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.external import Command
from scalelab.spec import DataSpec
from scalelab.values import integer, real

NAME = "external"
OPTIONS = ("dataset", "vocab", "bytes_per_token")


def external(name: str, options: tuple[tuple[str, Any], ...], command: Command) -> DataSpec:
    """The corpus of a command, whose identity is what was said of it; `Refused` on what is not accepted."""
    if name != NAME:
        raise Refused(
            f"data={name} with trainer=command, which reads its own: accepted is data=external data.dataset=…"
            " data.vocab=…"
        )
    given = dict(options)
    for option in given:
        if option not in OPTIONS:
            raise unknown("option of data=external", option, OPTIONS)
    if not str(given.get("dataset", "")).strip():
        raise Refused("data=external without data.dataset: accepted is its name and revision, which tells runs apart")
    if "vocab" not in given:
        raise Refused("data=external without data.vocab: accepted is the number of token ids, as the model has them")
    vocab = integer("data.vocab", given["vocab"])
    density = real("data.bytes_per_token", given["bytes_per_token"]) if "bytes_per_token" in given else None
    for option, value in (("vocab", vocab), ("bytes_per_token", density)):
        if value is not None and not 0 < value < math.inf:
            raise Refused(f"data.{option}={value:g}: accepted is a positive number")
    if command.reading.unit == "bits_per_byte" and density is None:
        raise Refused("trainer.metrics.unit=bits_per_byte without data.bytes_per_token: give it, losses are in nats")
    said = f"external dataset={given['dataset']} vocab={vocab} bytes_per_token={density!r}"
    return DataSpec(
        name=NAME, sha256=hashlib.sha256(said.encode()).hexdigest(), vocab=vocab, bytes_per_token=density,
        validation_tokens=0, options=options,
    )  # fmt: skip
