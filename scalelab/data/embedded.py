"""embedded: the default corpus, a few megabytes of public-domain English inside the package.

Novels, plays, verse and an essay; each work's last part is held out. `texts/PROVENANCE.md` says what is in it and
`texts/build.py` made it. It is for first steps, tests and small proxies: a run of more than a few epochs
(`scalelab.data.epochs`) repeats it, and repeated tokens bend a scaling law.
"""

import functools
import hashlib
import json
import lzma
from importlib import resources

import numpy as np

from scalelab.data.corpus import Corpus
from scalelab.errors import Refused


@functools.cache  # 80 ms of decompression, and the package does not change under a running process
def read() -> Corpus:
    """Bytes (vocab 256); everything is decompressed into memory and checked against the manifest. Reads no cache."""
    folder = resources.files("scalelab.data") / "texts"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    text = lzma.decompress((folder / "english.xz").read_bytes())
    if hashlib.sha256(text).hexdigest() != manifest["text_sha256"]:
        raise Refused("the embedded texts are not those of their manifest: the installation is damaged, reinstall it")
    tokens = np.frombuffer(text, dtype=np.uint8)
    return Corpus(
        name="embedded",
        train=tokens[: manifest["train_bytes"]],
        val=tokens[manifest["train_bytes"] :],
        vocab=256,
        bytes_per_token=1.0,
        sha256=manifest["corpus_sha256"],
        provenance=manifest["provenance"],
    )
