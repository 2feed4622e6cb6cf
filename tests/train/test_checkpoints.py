"""Checkpoints: an ordinary state dict, whole or not there, from which a run goes on with the same bits."""

import errno
import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scalelab.networks import build
from scalelab.optimizers import OPTIMIZERS
from scalelab.spec import RunSpec
from scalelab.train import checkpoint, loop
from scalelab.train.batches import Batches, corpus_of
from tests.conftest import make_spec
from tests.train.running import (
    NARROW,
    Killed,
    Ran,
    Recorder,
    alone,
    assert_same,
    assert_same_state,
    population,
    run_each,
    stepped,
    to_horizon,
)

KILL = 6  # the step after whose losses a run is killed


@pytest.fixture(autouse=True)
def saved_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)


def specs_of(optimizer: str = "adamw") -> list[RunSpec]:
    given = {"schedule": "wsd"} if OPTIMIZERS[optimizer].then else {}
    hparams: list[dict[str, Any]] = [{}, {"lr": 0.02, "clip_norm": None, "momentum": 0.9}, {"weight_decay": 0.0}]
    return [
        to_horizon(make_spec(**NARROW, optimizer=optimizer, hparams=each, seed=seed, **given), 10)
        for seed, each in enumerate(hparams)
    ]


def killed(specs: list[RunSpec], folder: Path, *, members: int, at: int = KILL) -> tuple[list[Path], list[Recorder]]:
    """The checkpoints that a killed population leaves, and what was told until then."""
    paths = [folder / f"{index}.pt" for index in range(len(specs))]
    recorders = [Recorder(kill=at if index == 0 else None) for index in range(len(specs))]
    with pytest.raises(Killed):
        run_each(specs, checkpoints=paths, recorders=recorders, members=members)
    for recorder in recorders:
        recorder.kill = None
    return paths, recorders


def test_a_members_state_is_that_of_an_ordinary_network() -> None:
    specs = specs_of()
    trained = population(specs)
    stepped(trained, 5)
    batches = Batches(corpus_of(specs[0]), specs[0], "cpu")
    validated = trained.validate(range(3), batches.validation())
    for member, (mean, _) in zip(trained.members, validated, strict=True):
        network = build(member.spec)
        network.load_state_dict(member.state()["network"], strict=True)
        with torch.no_grad():
            losses = torch.cat([network.losses(batch) for batch in batches.validation()])
        assert losses.mean().item() == mean
        assert member.state()["optimizer"].keys() == dict(network.named_parameters()).keys()


def test_a_state_is_a_copy() -> None:
    trained = population(specs_of())
    stepped(trained, 2)
    before, again = trained.members[1].state(), trained.members[1].state()
    stepped(trained, 1)
    assert_same_state(before, again)
    assert not torch.equal(before["network"]["readout.weight"], trained.members[1].state()["network"]["readout.weight"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_killed_run_goes_on_in_another_population(optimizer: str, tmp_path: Path) -> None:
    before, after = {"adamw": (1, 3), "sgd": (3, 1)}.get(optimizer, (3, 2))
    specs = specs_of(optimizer)
    paths, recorders = killed(specs, tmp_path, members=before)
    assert paths[0].exists() and len(recorders[0].curve) == KILL
    for spec, ran in zip(specs, run_each(specs, checkpoints=paths, recorders=recorders, members=after), strict=True):
        assert_same(alone(spec), ran)


def test_a_resumed_run_begins_at_its_checkpoint(tmp_path: Path) -> None:
    specs = specs_of()
    paths, _ = killed(specs, tmp_path, members=3)
    fresh = [Recorder() for _ in specs]
    for ran in run_each(specs, checkpoints=paths, recorders=fresh, members=3):
        assert [at["step"] for at in ran.curve] == list(range(KILL, 10))


@pytest.fixture
def good(tmp_path: Path) -> tuple[RunSpec, Path, Ran]:
    """A run, the checkpoint that it left when it was killed, and the same run uninterrupted."""
    spec = specs_of()[0]
    (path,), _ = killed([spec], tmp_path, members=1)
    return spec, path, alone(spec)


def other_version(whole: bytes) -> bytes:
    state = torch.load(io.BytesIO(whole), weights_only=True)
    return saved({**state, "version": 99})


def other_run(whole: bytes) -> bytes:
    state = torch.load(io.BytesIO(whole), weights_only=True)
    return saved({**state, "fingerprint": "0123456789ab"})


def flipped(whole: bytes) -> bytes:
    """One bit of one weight: torch would load it."""
    state = torch.load(io.BytesIO(whole), weights_only=True)
    at = whole.index(state["network"]["readout.weight"].numpy().tobytes())
    return whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :]


def saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


CORRUPT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "a tenth": lambda whole: whole[: len(whole) // 10],
    "a half": lambda whole: whole[: len(whole) // 2],
    "all but a byte": lambda whole: whole[:-1],
    "noise": lambda whole: random.Random(0).randbytes(5000),
    "a bit": flipped,
    "text": lambda whole: b"{}",
    "no mapping": lambda whole: saved([1, 2]),
    "another version": other_version,
    "another run": other_run,
    "half a mapping": lambda whole: saved({"version": checkpoint.VERSION}),
}


@pytest.mark.parametrize("how", CORRUPT)
def test_a_corrupt_checkpoint_is_named_set_aside_and_not_used(how: str, good: tuple[RunSpec, Path, Ran]) -> None:
    spec, path, uninterrupted = good
    broken = CORRUPT[how](path.read_bytes())
    path.write_bytes(broken)
    with pytest.warns(UserWarning, match=r"0\.pt .*kept as 0\.pt\.unusable, the run starts anew") as warned:
        (ran,) = run_each([spec], checkpoints=[path])
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    assert path.with_name("0.pt.unusable").read_bytes() == broken
    assert_same(uninterrupted, ran)


def test_no_cut_and_no_flipped_bit_goes_unnoticed_or_unhandled(good: tuple[RunSpec, Path, Ran]) -> None:
    spec, path, _ = good
    whole, rng = path.read_bytes(), random.Random(1)
    before = checkpoint.load(path, spec, "cpu")
    assert before is not None
    for _ in range(40):
        broken = bytearray(whole)
        if rng.random() < 0.5:
            broken = broken[: rng.randrange(len(whole))]
        else:
            broken[rng.randrange(len(whole) * 9 // 10)] ^= 1 << rng.randrange(8)  # the rest is the table of contents
        path.write_bytes(broken)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint.warnings, "warn", lambda *args, **kwargs: None)
            after = checkpoint.load(path, spec, "cpu")
        if after is not None:  # a bit of the padding
            assert_same_state(before, after)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["EVIL"],)


@pytest.mark.parametrize("kind", ["torch's file", "a bare pickle"])
def test_code_in_a_checkpoint_is_not_run(
    kind: str, good: tuple[RunSpec, Path, Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path, uninterrupted = good
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    state = {"version": checkpoint.VERSION, "fingerprint": spec.fingerprint, "network": Evil()}
    path.write_bytes(pickle.dumps(state) if kind == "a bare pickle" else saved(state))
    with pytest.warns(UserWarning, match="is corrupt"):
        (ran,) = run_each([spec], checkpoints=[path])
    assert not (tmp_path / "evil").exists()
    assert_same(uninterrupted, ran)


def test_torch_writes_checksums(good: tuple[RunSpec, Path, Ran]) -> None:
    """What `load` relies on."""
    with zipfile.ZipFile(good[1]) as archive:
        assert all(entry.CRC for entry in archive.infolist() if entry.file_size > 8)


def test_a_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = specs_of()[0]
    (path,), _ = killed([spec], tmp_path, members=1)
    whole = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            run_each([spec], checkpoints=[path])
    assert path.read_bytes() == whole
    assert os.listdir(tmp_path) == [path.name]
    (ran,) = run_each([spec], checkpoints=[path])
    expected = alone(spec)
    assert ran.trial.loss_nats == expected.trial.loss_nats
    assert ran.state is not None and expected.state is not None
    assert_same_state(expected.state, ran.state)


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_each(specs_of())
    assert not list(tmp_path.iterdir())
