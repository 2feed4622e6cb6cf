"""pysrc: the Python sources of the running installation, a corpus of code that needs no download.

The standard library and, where it is installed, the torch package. Files are sorted by path; a file whose bytes were
seen before, or that is not UTF-8, is skipped; about 5 % of the files, chosen by their content, are held out. The text
differs from one Python or torch version to the next, and so does the corpus digest: compare runs only at equal digest.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sysconfig
from pathlib import Path

import numpy as np

from scalelab.data.cache import cache_dir, remembered, whole_file
from scalelab.data.corpus import Corpus, scan
from scalelab.errors import Refused

_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}  # other people's packages, and no sources
_HELD_OUT = 13  # of 256 values of the first byte of a file's SHA-256: 5.1 % of the files
_HEADER_BYTES = 8  # the cached file: the length of train as a little-endian uint64, then train, then val


def read() -> Corpus:
    """The installation's Python sources as bytes (vocab 256); read once, then memmapped from the cache folder.

    Raises `Refused` when no source files are found, or when the cache folder cannot be written.
    """
    roots = _roots()
    files = _files(roots)
    torch_version = importlib.metadata.version("torch") if "torch" in roots else "none"
    versions = f"python {platform.python_version()}, torch {torch_version}"
    path = cache_dir() / "pysrc" / f"{_listing_digest(versions, files)}.bin"
    if not path.exists():
        _write(path, files)
    size = path.stat().st_size - _HEADER_BYTES
    train_bytes = int(np.fromfile(path, dtype="<u8", count=1)[0])
    text = np.memmap(path, dtype=np.uint8, mode="r", offset=_HEADER_BYTES, shape=(size,))
    train, val = text[:train_bytes], text[train_bytes:]
    facts = remembered("corpus", [path], lambda: scan(train, val, 256))
    return Corpus(
        name="pysrc",
        train=train,
        val=val,
        vocab=256,
        bytes_per_token=1.0,
        sha256=str(facts["sha256"]),
        provenance=f"Python sources of this installation ({versions}); PSF licence; torch: BSD-3-Clause and others",
    )


def _roots() -> dict[str, Path]:
    """Package name → folder. A top-level find_spec finds torch without importing it."""
    roots = {"stdlib": Path(sysconfig.get_path("stdlib"))}
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.submodule_search_locations:
        roots["torch"] = Path(next(iter(torch.submodule_search_locations)))
    return roots


def _files(roots: dict[str, Path]) -> list[tuple[str, Path, os.stat_result]]:
    """(name, path, stat) of every .py file, sorted by name: "stdlib/abc.py", …"""
    found = []
    for package, root in roots.items():
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
            for name in names:
                path = Path(folder, name)
                if name.endswith(".py") and path.is_file():
                    found.append((f"{package}/{path.relative_to(root).as_posix()}", path, path.stat()))
    return sorted(found)


def _listing_digest(versions: str, files: list[tuple[str, Path, os.stat_result]]) -> str:
    """Names the cached file. Sizes and times stand for contents, so that a second load need not read 10^4 files."""
    digest = hashlib.sha256(f"{versions}\n".encode())
    for name, _, stat in files:
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _write(path: Path, files: list[tuple[str, Path, os.stat_result]]) -> None:
    train, val, seen = bytearray(), bytearray(), set()
    for _, source, _ in files:
        text = source.read_bytes()
        digest = hashlib.sha256(text).digest()
        if not text or digest in seen or not _is_utf8(text):
            continue
        seen.add(digest)
        (val if digest[0] < _HELD_OUT else train).extend(text)
    if not train or not val:
        raise Refused(
            f"pysrc: {len(seen)} Python source files found in this installation, too few for two splits: "
            "this Python ships no sources; try corpus embedded or enwik8"
        )
    with whole_file(path) as file:
        file.write(len(train).to_bytes(_HEADER_BYTES, "little"))
        file.write(train)
        file.write(val)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
