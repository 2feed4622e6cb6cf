"""Reading the token files teams already have: raw or llm.c tokens, Megatron's .bin/.idx pair, plain text.

Each reader takes a path and returns a 1-D memmap of unsigned integers, or raises `Refused` with what is wrong with the
file. Nothing is read but headers, and a text once. Signed files (Megatron writes int32) are viewed as unsigned of the
same width: a negative id then is a huge one, and the check against the vocabulary finds it.
"""

import os
import struct
from pathlib import Path

import numpy as np

from scalelab.data.cache import Facts, remembered
from scalelab.errors import Refused

RAW_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int32", "int64")
TEXT_SUFFIXES = (".txt", ".md", ".text")

_LLMC_MAGIC, _LLMC_VERSION, _LLMC_HEADER_BYTES = 20240520, 1, 256 * 4
_MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_MEGATRON_DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 8: "uint16"}  # 6 and 7 are floats
_MEGATRON_HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, sequences, documents + 1


def detect(path: Path) -> str:
    """The format of the file at `path`: "megatron", "nanogpt" or "text"; refuses where the name does not tell."""
    binary, index = megatron_pair(path)
    if index.is_file() and (binary.is_file() or path == index):
        return "megatron"
    if path.suffix == ".bin":
        return "nanogpt"
    if path.suffix in TEXT_SUFFIXES:
        return "text"
    raise Refused(
        f"cannot tell the format of {path} from its name: detected are .bin with and without .idx, "
        f"{', '.join(TEXT_SUFFIXES)}; try format=nanogpt, format=megatron or format=text"
    )


def read_raw(path: Path, dtype: str) -> np.ndarray:
    """Bare tokens of `dtype` (nanoGPT), or uint16 tokens behind llm.c's header, which is recognised by its magic."""
    if dtype not in RAW_DTYPES:
        raise Refused(f"dtype={dtype!r}: accepted are {', '.join(RAW_DTYPES)}")
    size = _size_of(path)
    with path.open("rb") as file:
        head = file.read(_LLMC_HEADER_BYTES)
    if head.startswith(b"\x93NUMPY"):
        raise Refused(f"{path} has a numpy header: accepted are bare tokens; try np.load(path).tofile(other_path)")
    if len(head) >= 12 and struct.unpack_from("<i", head)[0] == _LLMC_MAGIC:
        _, version, tokens = struct.unpack_from("<3i", head)
        if version != _LLMC_VERSION or _LLMC_HEADER_BYTES + 2 * tokens != size or dtype != "uint16":
            raise Refused(
                f"{path} has an llm.c header of version {version} and {tokens:,} tokens, in {size:,} bytes, read as "
                f"{dtype}: accepted is version {_LLMC_VERSION}, uint16, of 1024 + 2*tokens bytes; write the file again"
            )
        return _map(path, "uint16", offset=_LLMC_HEADER_BYTES)
    return _map(path, dtype)


def read_text(path: Path) -> np.ndarray:
    """The bytes of a UTF-8 file. The whole file is decoded once, to be sure; refuses where that fails."""
    _size_of(path)
    remembered("is UTF-8", [path], lambda: _decode(path))
    return _map(path, "uint8")


def _decode(path: Path) -> Facts:
    with path.open(encoding="utf-8") as file:
        try:
            while file.read(1 << 22):
                pass
        except UnicodeDecodeError as error:
            raise Refused(
                f"{path} is not UTF-8 text ({error.reason}): try format=nanogpt for a file of tokens"
            ) from error
    return {}


def read_megatron(path: Path) -> np.ndarray:
    """The token stream of a Megatron-LM indexed dataset: `path` is its .bin, its .idx, or their common prefix.

    All documents in file order. The index is checked against the size of the .bin; document bounds are not used, as
    training windows run across documents here.
    """
    binary, index = megatron_pair(path)
    index_bytes, binary_bytes = _size_of(index), _size_of(binary)
    if index_bytes < _MEGATRON_HEADER.size:
        raise _corrupt(index, f"{index_bytes} bytes are too few for its header")
    with index.open("rb") as file:
        magic, version, code, sequences, documents = _MEGATRON_HEADER.unpack(file.read(_MEGATRON_HEADER.size))
    if magic != _MEGATRON_MAGIC or version != 1:
        raise _corrupt(index, "it does not begin with MMIDIDX and version 1")
    if code not in _MEGATRON_DTYPES:
        raise _corrupt(index, f"its dtype code is {code}; accepted are {sorted(_MEGATRON_DTYPES)}")
    expected = _MEGATRON_HEADER.size + sequences * (4 + 8) + documents * 8
    if sequences == 0 or index_bytes not in (expected, expected + sequences):  # multimodal files add a byte a sequence
        raise _corrupt(index, f"{index_bytes:,} bytes do not hold {sequences:,} sequences and {documents:,} documents")
    dtype = np.dtype(_MEGATRON_DTYPES[code])
    offset = _MEGATRON_HEADER.size
    lengths = np.memmap(index, dtype="<i4", mode="r", offset=offset, shape=(sequences,))
    pointers = np.memmap(index, dtype="<i8", mode="r", offset=offset + 4 * sequences, shape=(sequences,))
    total = int(lengths.sum(dtype=np.int64)) * dtype.itemsize
    last_end = int(pointers[-1]) + int(lengths[-1]) * dtype.itemsize
    if lengths.min() < 0 or pointers[0] != 0 or last_end != total or total != binary_bytes:
        raise _corrupt(index, f"its sequences take {total:,} bytes and {binary.name} has {binary_bytes:,}")
    return _map(binary, dtype.name)


def megatron_pair(path: Path) -> tuple[Path, Path]:
    """The .bin and the .idx that belong to a .bin, an .idx or a prefix (whose own dots are kept)."""
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    return prefix.with_name(prefix.name + ".bin"), prefix.with_name(prefix.name + ".idx")


def _map(path: Path, dtype: str, offset: int = 0) -> np.ndarray:
    itemsize = np.dtype(dtype).itemsize
    payload = _size_of(path) - offset
    if payload <= 0 or payload % itemsize:
        raise Refused(
            f"{path} has {payload:,} bytes of tokens: accepted is a positive multiple of {itemsize} for dtype={dtype}; "
            "try the dtype it was written with"
        )
    return np.memmap(path, dtype=f"<u{itemsize}", mode="r", offset=offset)


def _size_of(path: Path) -> int:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise Refused(f"no file {path} that can be read: accepted is the path of one; try an absolute path")
    size = path.stat().st_size
    if size == 0:
        raise Refused(f"{path} is empty: accepted is a file with tokens or text")
    return size


def _corrupt(index: Path, why: str) -> Refused:
    return Refused(f"{index} is no Megatron index ({why}): preprocess the data again, or copy both files again")
