"""What the user says of a file's columns: `--column NAME=THEIRS`, `--column NAME:=VALUE`, `--column NAME:=`."""

from collections.abc import Iterable
from dataclasses import dataclass

from scalelab.errors import Refused, unknown
from scalelab.laws.columns import COLUMNS, PARAMS

# Ours in thousands of thousands: params_non_embedding_millions=…, tokens_billions=…
COUNTED_IN = {"millions": 1e6, "billions": 1e9}
SCALED: dict[str, tuple[str, float]] = {
    f"{name}_{word}": (name, factor) for name in (*PARAMS, "tokens") for word, factor in COUNTED_IN.items()
}

# Not columns of ours, but ways to state one in another unit. They convert when they are named, never otherwise.
IN_OTHER_UNITS: dict[str, str] = {
    "batch_sequences": "sequences a step, with sequence_length",
    "sequence_length": "tokens a sequence",
    "steps": "optimizer steps, with a batch",
    "loss_bits": "bits a token",
    "loss_bits_per_byte": "with bytes_per_token",
    "bytes_per_token": "of the tokenizer on the validation set",
    "log_lr": "natural logarithm of the peak learning rate",
    "log2_lr": "its binary logarithm",
    "log10_lr": "its decimal logarithm",
    "flops_per_token": "training FLOPs a token, with tokens",
    **{name: f"{of} in {name.rsplit('_', 1)[1]}" for name, (of, _) in SCALED.items()},
}
ACCEPTED = (*COLUMNS, *IN_OTHER_UNITS)

# Which quantity a name states, where more than one name states it.
QUANTITY: dict[str, str] = {
    **dict.fromkeys(("batch_tokens", "batch_sequences"), "batch"),
    **dict.fromkeys(("loss_nats", "loss_bits", "loss_bits_per_byte"), "loss"),
    **dict.fromkeys(("lr", "log_lr", "log2_lr", "log10_lr"), "lr"),
    **{name: of for name, (of, _) in SCALED.items()},
}


@dataclass(frozen=True)
class Constant:
    """A value for every row of a file, as it was written; the empty one leaves the column out."""

    text: str


def parse_columns(given: Iterable[str]) -> dict[str, str | Constant]:
    """`["loss_nats=val_loss", "sequence_length:=2048", "seed:="]` as a mapping from names of ours.

    A value is their column, or a `Constant` where `:=` gives one number or word for every row; an empty `:=` leaves
    that column of the file out.

    Raises:
        Refused: on another form, a name that is not ours, or a name (or quantity) stated twice.

    >>> parse_columns(["loss_nats=val_loss", "sequence_length:=2048"])
    {'loss_nats': 'val_loss', 'sequence_length': Constant(text='2048')}
    """
    found: dict[str, str | Constant] = {}
    for item in given:
        ours, equals, theirs = item.partition("=")
        constant = ours.endswith(":")
        ours = ours.removesuffix(":")
        if not equals or not (theirs or constant):
            raise Refused(
                f"--column {item!r}: accepted is NAME=THEIRS, for example loss_nats=val_loss, or NAME:=VALUE for one"
                " value in every row, for example sequence_length:=2048"
            )
        if ours not in ACCEPTED:
            raise unknown("column", ours, ACCEPTED)
        for earlier in found:
            if ours == earlier or (quantity(ours) == quantity(earlier) != "loss"):
                raise Refused(f"--column {item!r}: {earlier} is given already, and one column states {quantity(ours)}")
        found[ours] = Constant(theirs) if constant else theirs
    return found


def quantity(name: str) -> str:
    """What a name states: "loss" for loss_bits, itself for most."""
    return QUANTITY.get(name, name)
