"""digits: 1,797 handwritten digits of 8×8 pixels, real images small enough for proxies; they come with scikit-learn.

An image is a record of 65 tokens: its pixels row by row, 17 grey levels from 0 (paper) to 16 (ink), then the digit, 0
to 9. So a token stream carries a classification task, and what trains on text trains on images: the last token of a
record is what an image model predicts. A run of more than 96,000 tokens repeats images.
"""

import functools

import numpy as np

from scalelab.data.corpus import Corpus, scan

VOCAB = 17  # grey levels; the ten digits are among them
HELD_OUT = 297  # the last images; the set is in the order of its 13 writers, so these are of writers seldom trained on


@functools.cache  # importing scikit-learn takes a second
def read() -> Corpus:
    """1,500 images to train on and the last 297 held out, in the order of the set. Reads no cache and no network."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    found = load_digits()
    records = np.column_stack([found.data, found.target]).astype(np.uint8)
    train, val = records[:-HELD_OUT].ravel(), records[-HELD_OUT:].ravel()
    return Corpus(
        name="digits",
        train=train,
        val=val,
        vocab=VOCAB,
        bytes_per_token=None,
        sha256=str(scan(train, val, VOCAB)["sha256"]),
        provenance="Optical Recognition of Handwritten Digits, test set (Alpaydin & Kaynak 1998, UCI,"
        " doi:10.24432/C50P49), CC BY 4.0",
        record=records.shape[1],
    )
