"""Many writers in one study, some killed: every run is there, whole, and none is another's."""

from pathlib import Path

import pytest

from benchmarks.store import torn_or_lost, written
from scalelab.claims import holder, leases


@pytest.mark.slow
def test_thousands_of_runs_by_many_writers_of_which_some_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (holder, leases):
        monkeypatch.setattr(room, "LEASE_SECONDS", 4.0)  # for which a writer holds a claim that it did not get to sign
    study = tmp_path / "study"
    killed = written(study, runs=5_000, writers=64, killed=32, records=10, seed=0, pause_seconds=0.1)
    assert killed == 32
    lost, torn, again = torn_or_lost(study, 5_000, 10)
    assert (lost, torn) == (0, 0) and again <= 32
    assert len(list(study.iterdir())) == 5_000
