"""How a run may be spread: what is refused before it is launched, and what is not trusted of a checkpoint."""

import os
import pickle
from pathlib import Path

import pytest

from scalelab.parallel import Parallel, parallel_of
from scalelab.train import SHARDED, spread
from scalelab.train.spread.group import Group
from scalelab.train.watch import Watch
from tests.conftest import make_spec
from tests.helpers import TINY, one_line, scalelab
from tests.train.spreading import SMALL, trained

DDP, FSDP = ("parallel=ddp",), ("parallel=fsdp",)
REFUSED = [
    ((*DDP, "parallel.processes=3"), "4 sequences a step", "1, 2, 4"),
    ((*DDP, "parallel.micro_sequences=4"), "2 sequences per process", "1, 2"),
    ((*FSDP, "optimizer=muon"), "optimizer=muon", "parallel=ddp"),
    ((*DDP, "parallel.micro_sequences=1", "model=moe", "experts=4", "top_k=2"), "balance loss", "micro_sequences=2"),
    (("parallel.processes=2",), "parallel=none", "parallel=fsdp"),
    (("parallel.micro_sequences=0",), "parallel.micro_sequences=0", "≥ 1"),
    (("parallel.activation_checkpointing=1",), "parallel.activation_checkpointing=1", "true, false"),
    ((*DDP, "compile=true"), "compile=true", "compile=false"),
    (("parallel=dp",), "parallel/dp", "ddp, fsdp, none"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "given", "accepted"), REFUSED, ids=[" ".join(each[0]) for each in REFUSED])
def test_what_cannot_be_spread_is_refused_in_one_line(
    asked: tuple[str, ...], given: str, accepted: str, tmp_path: Path
) -> None:
    line = one_line(scalelab("train", *TINY, f"out={tmp_path}", *asked))
    assert given in line and accepted in line
    assert not any(tmp_path.iterdir())


def test_how_it_is_spread_is_no_part_of_a_run(tmp_path: Path) -> None:
    for asked in ((), ("parallel=ddp",), ("parallel.micro_sequences=2",)):
        assert scalelab("train", *TINY, f"out={tmp_path}", *asked).exit_code == 0
        (folder,) = (tmp_path / "adhoc").iterdir()  # one, and finished after the first
        assert (folder / "trial.json").exists()


def test_by_torchrun_the_processes_are_those_that_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    found = parallel_of({"name": "fsdp", "processes": 2})
    assert found.processes == 16 and found.copies == 0.5


class Harmful:
    """A pickle that runs a command when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_an_index_that_would_run_code_is_set_aside(tmp_path: Path) -> None:
    spec, path, mark = make_spec(), tmp_path / "checkpoint.pt", tmp_path / "harmed"
    assert trained(spec, SMALL, Group(), checkpoint=path, stop=3)[0] is None
    (index,) = (tmp_path / SHARDED).glob("*/.metadata")
    before = index.read_bytes()
    index.write_bytes(pickle.dumps(Harmful(mark)))
    manifest = index.with_name("manifest.json")  # whoever writes an index can write its digest
    manifest.write_text(manifest.read_text().replace(_digest(before), _digest(index.read_bytes())))
    with pytest.warns(UserWarning, match=r"mkdir, which no index does"):
        trial, curve = trained(spec, SMALL, Group(), checkpoint=path)
    assert trial.loss_nats is not None and len(curve) == spec.horizon.steps
    assert not mark.exists()


def test_a_save_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    spec, path = make_spec(), tmp_path / "checkpoint.pt"
    trained(spec, SMALL, Group(), checkpoint=path, stop=3)
    (tmp_path / SHARDED / "000000009-killed").mkdir()
    _, curve = trained(spec, SMALL, Group(), checkpoint=path, stop=2)
    assert [row["step"] for row in curve] == [3, 4]
    assert len([each for each in (tmp_path / SHARDED).iterdir() if each.is_dir()]) == 1


def test_a_pruner_is_refused() -> None:
    class Never:
        rungs = ()

    with pytest.raises(ValueError, match="with a pruner"):
        spread.run(
            [make_spec()], watches=[Watch(pruner=Never())], device="cpu", threads=1, parallel=SMALL  # type: ignore[arg-type]
        )  # fmt: skip


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_a_setting_says_how_many_passes_it_makes() -> None:
    spec = make_spec()  # 4 sequences
    assert Parallel(name="ddp", processes=2, micro_sequences=1).passes(spec) == 2
    assert Parallel().passes(spec) == 1 and not Parallel(name="ddp").spreads
