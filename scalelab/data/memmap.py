"""memmap: a user's own tokens, read in place.

The first load of a file passes over it once, for its digest and for token ids outside the vocabulary (a matter of
seconds for each 10^9 tokens); the answer is kept in the cache folder under the file's absolute path, size and
modification time, so later loads cost nothing. The validation split is a file of its own or the tail of the only one.
"""

import logging
import math
import os
from pathlib import Path

import numpy as np

from scalelab.data import formats
from scalelab.data.cache import remembered
from scalelab.data.corpus import Corpus, scan
from scalelab.errors import Refused, unknown

_log = logging.getLogger(__name__)

FORMATS = ("auto", "nanogpt", "megatron", "text")


def read(
    *,
    path: str | os.PathLike[str],
    format: str = "auto",
    dtype: str | None = None,
    val_path: str | os.PathLike[str] | None = None,
    val_fraction: float = 0.05,  # assumed: large enough that sampling noise stays below differences between runs
    vocab: int | None = None,
    bytes_per_token: float | None = None,
) -> Corpus:
    """The tokens at `path`.

    `format`: "nanogpt" (bare tokens, or llm.c's header), "megatron" (.bin/.idx; either, or the prefix), "text" (UTF-8,
    as bytes), or "auto". `dtype`: of nanogpt files, default uint16. `val_path`: validation file of the same format;
    without it, and only then, the last `val_fraction` of the file is held out. `vocab`: number of token ids, required
    for token files (a scan cannot tell it: rare ids may not occur). `bytes_per_token`: mean, if known, for bits/byte.
    Raises `Refused` for a missing, empty, odd-sized or corrupt file, an id outside the vocabulary, and options that
    contradict each other.
    """
    train_path = Path(path).expanduser()
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    kind = formats.detect(train_path) if format == "auto" else format
    if dtype is not None and kind != "nanogpt":
        raise Refused(f"dtype={dtype!r} with format={kind}: accepted for nanogpt files only; leave it out")
    if kind == "text":
        if vocab not in (None, 256) or bytes_per_token not in (None, 1.0):
            raise Refused(f"vocab={vocab}, bytes_per_token={bytes_per_token} for text: bytes have 256 and 1; leave out")
        vocab, bytes_per_token = 256, 1.0
    if vocab is None:
        raise Refused(
            f"no vocab for {train_path}: accepted is the number of token ids; try vocab=50257 for GPT-2 tokens"
        )
    if vocab < 1:
        raise Refused(f"vocab={vocab}: accepted is a positive number of token ids")
    if bytes_per_token is not None and not (math.isfinite(bytes_per_token) and bytes_per_token > 0):
        raise Refused(f"bytes_per_token={bytes_per_token}: accepted is a positive number, or nothing where unknown")
    tokens = _read(train_path, kind, dtype)
    files = [_data_file(train_path, kind)]
    if val_path is not None:
        files.append(_data_file(Path(val_path).expanduser(), kind))
        train, val = tokens, _read(Path(val_path).expanduser(), kind, dtype)
        if files[0].samefile(files[1]):
            raise Refused(f"val_path is the training file {files[0]}: leave val_path out, and its tail is held out")
        if val.dtype != train.dtype:
            raise Refused(
                f"{files[0]} has {train.dtype} tokens and {files[1]} {val.dtype}: accepted is one dtype for both"
            )
    else:
        train, val = _split(tokens, val_fraction)
    corpus_sha256 = _checked(train, val, vocab, files)
    return Corpus(
        name="memmap",
        train=train,
        val=val,
        vocab=vocab,
        bytes_per_token=bytes_per_token,
        sha256=corpus_sha256,
        provenance=f"{kind} file {files[0].resolve()}; the user's own, licence not known to scalelab",
    )


def _read(path: Path, kind: str, dtype: str | None) -> np.ndarray:
    if kind == "megatron":
        return formats.read_megatron(path)
    return formats.read_text(path) if kind == "text" else formats.read_raw(path, dtype or "uint16")


def _data_file(path: Path, kind: str) -> Path:
    return formats.megatron_pair(path)[0] if kind == "megatron" else path


def _split(tokens: np.ndarray, val_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """All but the tail, and the tail: what stands together in the file stays on one side, so little can leak."""
    if not 0 < val_fraction < 1:
        raise Refused(f"val_fraction={val_fraction}: accepted is a number between 0 and 1; try 0.05, or val_path")
    cut = tokens.size - round(tokens.size * val_fraction)
    if not 0 < cut < tokens.size:
        raise Refused(f"val_fraction={val_fraction} of {tokens.size} tokens leaves one split empty: try a larger file")
    return tokens[:cut], tokens[cut:]


def _checked(train: np.ndarray, val: np.ndarray, vocab: int, files: list[Path]) -> str:
    """The corpus digest, once every id is known to be in the vocabulary."""

    def pass_over() -> dict[str, str | int]:
        _log.info("reading %d tokens once, for their digest: %s", train.size + val.size, files[0])
        return scan(train, val, vocab)

    # Sizes and dtype belong to the question: one file can be read as several corpora.
    question = f"corpus vocab={vocab} dtype={train.dtype.name} train={train.size} val={val.size}"
    facts = remembered(question, files, pass_over)
    if int(facts["largest"]) >= vocab:
        raise Refused(
            f"token id {facts['largest']} in {' or '.join(map(str, files))}: accepted are ids below vocab={vocab}; "
            "try the vocabulary size of the tokenizer that wrote the file, or another dtype"
        )
    return str(facts["sha256"])
