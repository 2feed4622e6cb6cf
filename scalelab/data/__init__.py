"""The data room: deterministic streams of token ids, with no torch in it.

`load(name, **options)` gives a `Corpus`; `train_batch`, `validation_batches` and `epochs` say how a run reads it. To
add a corpus: one file with a function `read` that returns a `Corpus`, and its line in `CORPORA`.

>>> corpus = load("embedded")
>>> train_batch(corpus, seed=0, step=0, sequences=2, context=16).shape
(2, 17)
"""

import inspect
from collections.abc import Callable
from dataclasses import replace

from scalelab.data import digits, embedded, enwik8, memmap, pysrc
from scalelab.data.corpus import Corpus, epochs, train_batch, validation_batches
from scalelab.data.external import NAME as EXTERNAL
from scalelab.data.external import external
from scalelab.errors import Refused, unknown

__all__ = ["CORPORA", "EXTERNAL", "Corpus", "epochs", "external", "load", "train_batch", "validation_batches"]

CORPORA: dict[str, Callable[..., Corpus]] = {
    "embedded": embedded.read,
    "enwik8": enwik8.read,
    "pysrc": pysrc.read,
    "memmap": memmap.read,
    "digits": digits.read,
}


def load(name: str, *, unique_tokens: int | None = None, **options: object) -> Corpus:
    """The corpus `name`, one of `CORPORA`; `options` are the arguments of its function, where it has any.

    With `unique_tokens` only so many of its tokens are trained on; what is held out stays.

    Raises `Refused` for an unknown name or option, a missing option, and whatever the corpus itself refuses.
    """
    if name == EXTERNAL:
        raise Refused("data=external is read by a command (trainer=command); scalelab itself trains on another data=…")
    if name not in CORPORA:
        raise unknown("corpus", name, CORPORA)
    accepted = inspect.signature(CORPORA[name]).parameters
    for option in options:
        if option not in accepted and not accepted:
            raise Refused(f"option {option!r} of corpus {name!r}: it takes none; leave it out")
        if option not in accepted:
            raise unknown(f"option of corpus {name!r}", option, accepted)
    for option, parameter in accepted.items():
        if parameter.default is inspect.Parameter.empty and options.get(option) is None:
            raise Refused(f"corpus {name!r} without {option}: accepted is {option}=…, which it needs")
    corpus = CORPORA[name](**options)
    return corpus if unique_tokens is None else replace(corpus, unique_tokens=unique_tokens)
