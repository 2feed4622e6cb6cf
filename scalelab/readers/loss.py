"""The loss in nats a token, from what a file has."""

import numpy as np

from scalelab.readers.choose import option
from scalelab.readers.draft import Draft
from scalelab.readers.names import BITS, NOT_A_LOSS, words

NATS_A_BIT = float(np.log(2))
AGREE = 0.01  # two columns that state one loss may differ by this, relative


def loss(draft: Draft) -> Draft:
    """Raises `Refused` where the column's name says another unit, or two columns state two losses."""
    if "loss_nats" in draft:
        _check_name(draft)
    stated = {}
    if "loss_bits" in draft:
        stated["loss_bits"] = draft["loss_bits"] * NATS_A_BIT
    if "loss_bits_per_byte" in draft:
        if "bytes_per_token" in draft:
            stated["loss_bits_per_byte"] = draft["loss_bits_per_byte"] * draft["bytes_per_token"] * NATS_A_BIT
        elif "loss_nats" not in draft and not stated:
            raise draft.refused(
                f"{draft.theirs['loss_bits_per_byte']} is in bits a byte: nats a token need --column"
                " bytes_per_token:=VALUE (or a column of it), that of the tokenizer on the validation set"
            )
    for name, nats in stated.items():
        if "loss_nats" not in draft:
            unit = "bits" if name == "loss_bits" else "bits a byte and bytes a token"
            draft = draft.put("loss_nats", nats, f"{draft.theirs[name]}, from {unit}")
            continue
        both = np.isfinite(nats) & np.isfinite(draft["loss_nats"])
        differ = both & (np.abs(nats - draft["loss_nats"]) > AGREE * np.abs(nats))
        if differ.any():
            raise draft.refused(
                f"{draft.theirs[name]} ({name}) and {draft.theirs['loss_nats']} state two losses in"
                f" {int(differ.sum())} of {int(both.sum())} rows (1 bit is 0.693 nats): give one, leave the other out"
                f" with --column {name}:="
            )
    draft = draft.without(["loss_bits", "loss_bits_per_byte", "bytes_per_token"])
    if "loss_nats" not in draft:
        return draft
    smoothed = " (smoothed)" if words(draft.theirs["loss_nats"]) & {"smooth", "smoothed"} else ""
    told = stated or "loss_nats" in draft.told or "nats" in words(draft.name("loss_nats"))
    return draft.convention(
        "loss", f"nats a token, {draft.theirs['loss_nats']}{smoothed}" + ("" if told else " (taken as nats)")
    )


def _check_name(draft: Draft) -> None:
    said, theirs = draft.theirs["loss_nats"], draft.name("loss_nats")
    if words(said) & NOT_A_LOSS:
        raise draft.refused(f"{said} is no cross entropy by its name: loss_nats needs one in nats a token")
    if words(said) & BITS:
        raise draft.refused(
            f"{said} seems to be in bits by its name, and loss_nats is in nats a token: write"
            f" {option('loss_bits', theirs)} (bits a token), or {option('loss_bits_per_byte', theirs)} --column"
            " bytes_per_token:=VALUE"
        )
