"""The corpus and the order in which a run reads it.

A corpus is two arrays of token ids. Everything random about training data happens in `train_batch`, a pure function of
(corpus, seed, step, sequences, context): nothing is carried from batch to batch, so a resumed run, a run on other
hardware and a run with another batch size all read the same windows in the same order.

The order: the training split is cut into windows that start every `context` tokens and are `context + 1` long, so that
every token after the first is a target exactly once an epoch (less a tail shorter than one window). Each epoch visits
the windows in a permutation of its own, computed position by position (`permutation.py`), because a permutation of the
10^9 windows of a large file should not be held in memory. Where only some of the tokens are to be trained on
(`unique_tokens`), an epoch is that many windows, spread evenly over the split, as those of validation are.

A corpus of records (an image and its label) is cut between them instead: a window is one whole record, the stride is
its length, and all else is the same.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from scalelab.data.permutation import permute
from scalelab.errors import Refused

_CHUNK = 1 << 22  # tokens read at a time when a whole corpus is scanned: bounded memory for memmaps of any size


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Token ids to train on, token ids held out, and what identifies them.

    Two corpora compare equal by their digest and names, not by walking their arrays. Raises `Refused` when the arrays
    are not 1-D unsigned integers of one dtype, or when a count is senseless.
    """

    name: str
    train: np.ndarray = field(compare=False, repr=False)
    """1-D, unsigned integers; may be a np.memmap."""
    val: np.ndarray = field(compare=False, repr=False)
    """1-D, the same dtype, disjoint from train."""
    vocab: int
    """Number of token ids: every id is below it. 256 for bytes."""
    bytes_per_token: float | None
    """1.0 for bytes, None where unknown. Turns nats/token into bits/byte."""
    sha256: str
    """Hex digest over the tokens of train and val and the vocabulary: the corpus part of a run's identity."""
    provenance: str
    """One line: where the text comes from, and its licence."""
    record: int | None = None
    """Tokens a record, where both splits are whole records and a window is one; None for running text."""
    unique_tokens: int | None = None
    """Target tokens of an epoch, in whole windows spread evenly over train; None for all of it."""

    def __post_init__(self) -> None:
        for split, tokens in (("train", self.train), ("val", self.val)):
            if tokens.ndim != 1 or tokens.dtype.kind != "u" or tokens.dtype != self.train.dtype:
                raise Refused(
                    f"corpus {self.name!r}: {split} is a {tokens.ndim}-D array of {tokens.dtype}: accepted are 1-D "
                    "arrays of unsigned integers, the same dtype for train and val; try array.astype('uint16')"
                )
        if self.vocab < 1:
            raise Refused(f"corpus {self.name!r}: vocab={self.vocab}: accepted is a positive number of token ids")
        sizes = self.train.size, self.val.size
        if self.record is not None and (self.record < 2 or any(size % self.record for size in sizes)):
            raise Refused(
                f"corpus {self.name!r}: record={self.record}: accepted are two tokens or more, whole records in train"
                f" ({self.train.size:,} tokens) and val ({self.val.size:,})"
            )
        if self.unique_tokens is not None and not 0 < self.unique_tokens <= self.train.size:
            raise Refused(
                f"unique_tokens={self.unique_tokens:,}: accepted are 1 to {self.train.size:,}, which corpus"
                f" {self.name!r} has to train on, or null for all of them"
            )

    def gathered(self, windows: np.ndarray, context: int) -> np.ndarray:
        """The tokens of these windows of the training split, of any shape: int64 […, context+1]."""
        return _gather(self, "train", windows, context)


def windows(tokens: int, context: int) -> int:
    """How many windows of `context + 1` tokens, one starting every `context` tokens, a split of `tokens` holds.

    >>> windows(101, 10)
    10
    """
    return max(0, (tokens - 1) // context)


def train_batch(corpus: Corpus, *, seed: int, step: int, sequences: int, context: int) -> np.ndarray:
    """Windows [step*sequences, (step+1)*sequences) of the endless training order of `seed`.

    Returns int64 [sequences, context+1]: inputs are [:, :-1], targets are [:, 1:]. A pure function of its arguments.
    No token is a target twice within an epoch; a batch may reach over the end of one.
    Raises `Refused` for a split shorter than one window, a senseless argument, or an id outside the vocabulary.
    """
    windows = training_windows(corpus, seed=seed, step=step, steps=1, sequences=sequences, context=context)
    return corpus.gathered(windows[0], context)


def training_windows(corpus: Corpus, *, seed: int, step: int, steps: int, sequences: int, context: int) -> np.ndarray:
    """Which windows of the training split `steps` batches from `step` on read: int64 [steps, sequences].

    Drawn for many steps at once, they cost a step next to nothing. Raises `Refused` as `train_batch`.
    """
    count, available = _epoch(corpus, context), _windows_of(corpus, "train", context)
    _at_least("sequences", sequences, 1)
    _at_least("step", step, 0)
    _at_least("seed", seed, 0)
    position = np.arange(step * sequences, (step + steps) * sequences, dtype=np.uint64)
    epoch, index = np.divmod(position, np.uint64(count))
    drawn = _spread(permute(index, size=count, seed=seed, stream=epoch), count, available)
    return drawn.astype(np.int64).reshape(steps, sequences)


def validation_batches(corpus: Corpus, *, tokens: int, sequences: int, context: int) -> Iterator[np.ndarray]:
    """The fixed validation set of tokens // context windows, spread evenly over the validation split.

    Yields int64 [<=sequences, context+1]. Which tokens are covered depends on `tokens` and `context` only: every run
    and every batch size sees the same. Raises `Refused`, at the call and not at the first batch, when the split holds
    fewer target tokens than asked.
    """
    available = _windows_of(corpus, "val", context)
    _at_least("sequences", sequences, 1)
    if tokens < context:
        raise Refused(
            f"validation on {tokens:,} tokens: accepted is at least one window of context={context:,} tokens; "
            "try more tokens or a shorter context"
        )
    count = tokens // context
    if count > available:
        raise Refused(
            f"validation on {tokens:,} tokens: the validation split of corpus {corpus.name!r} has "
            f"{available * context:,} in windows of context={context:,}; try tokens={available * context}"
        )
    window = _spread(np.arange(count, dtype=np.uint64), count, available)
    return (_gather(corpus, "val", window[at : at + sequences], context) for at in range(0, count, sequences))


def epochs(corpus: Corpus, *, tokens: int, context: int) -> float:
    """How often a run of `tokens` target tokens passes over what it trains on; above 1 it repeats tokens."""
    return tokens / (_epoch(corpus, context) * context)


def scan(train: np.ndarray, val: np.ndarray, vocab: int) -> dict[str, str | int]:
    """One pass over both splits: {"sha256": hex digest of the corpus, "largest": the largest token id}.

    The digest covers vocabulary, dtype, lengths and the tokens as little-endian bytes: the same on every machine.
    """
    digest = hashlib.sha256(f"vocab={vocab} dtype={train.dtype.name} train={train.size} val={val.size}\n".encode())
    largest = 0
    little = train.dtype.newbyteorder("<")
    for split in (train, val):
        for start in range(0, split.size, _CHUNK):
            chunk = np.ascontiguousarray(split[start : start + _CHUNK], dtype=little)
            digest.update(chunk.data)
            largest = max(largest, int(chunk.max()))
    return {"sha256": digest.hexdigest(), "largest": largest}


def _windows_of(corpus: Corpus, split: str, context: int) -> int:
    _at_least("context", context, 1)
    size = (corpus.train if split == "train" else corpus.val).size
    if corpus.record is not None and context != corpus.record - 1:
        raise Refused(
            f"context={context:,} with corpus {corpus.name!r}: a window is one record of {corpus.record:,} tokens, the"
            f" last its label; use context={corpus.record - 1}"
        )
    count = windows(size, context) if corpus.record is None else size // corpus.record
    if count == 0:
        raise Refused(
            f"context={context:,} with corpus {corpus.name!r}: its {split} split has {size:,} tokens and one window "
            f"takes {context + 1:,}; try a shorter context or a larger corpus"
        )
    return count


def _epoch(corpus: Corpus, context: int) -> int:
    """The windows of an epoch."""
    available = _windows_of(corpus, "train", context)
    if corpus.unique_tokens is None:
        return available
    count = corpus.unique_tokens // context
    if not 0 < count <= available:
        raise Refused(
            f"unique_tokens={corpus.unique_tokens:,} with context={context:,}: accepted are one window of it to the"
            f" {available:,} that corpus {corpus.name!r} has to train on; try unique_tokens={available * context}"
        )
    return count


def _spread(index: np.ndarray, count: int, available: int) -> np.ndarray:
    """Which of `available` windows the entries of 0..count-1 are, evenly spread."""
    return index if count == available else index * np.uint64(available) // np.uint64(count)


def _gather(corpus: Corpus, split: str, window: np.ndarray, context: int) -> np.ndarray:
    source = corpus.train if split == "train" else corpus.val
    batch = source[window.astype(np.int64)[..., None] * (corpus.record or context) + np.arange(context + 1)]
    # The dtype often has room above the vocabulary (uint16, vocab 50257); such an id would index past an embedding.
    if np.iinfo(batch.dtype).max >= corpus.vocab and batch.max() >= corpus.vocab:
        raise Refused(
            f"corpus {corpus.name!r}: token id {int(batch.max())} in its {split} split: accepted are ids below "
            f"vocab={corpus.vocab}; try the vocabulary size of the tokenizer that wrote the file"
        )
    return np.asarray(batch, dtype=np.int64)


def _at_least(what: str, given: int, least: int) -> None:
    if given < least:
        raise Refused(f"{what}={given}: accepted is an integer of at least {least}")
