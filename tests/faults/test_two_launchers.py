"""Two launchers on one study, at the same time: both go to its end, and each run is trained once."""

from pathlib import Path

import pytest

from tests.faults.helpers import launched, steps_of_attempts, trials


@pytest.mark.slow
@pytest.mark.parametrize("pair", [("basic", "basic"), ("basic", "fused")], ids=" and ".join)
def test_two_launchers_on_one_study(pair: tuple[str, str], tmp_path: Path) -> None:
    arguments = ["tokens=3200", "seed=0,1,2,3,4,5"]
    processes = [launched(tmp_path, *arguments, launcher=launcher) for launcher in pair]
    said = [process.communicate(timeout=200) for process in processes]
    # The one that came to a run second left it to the other, and says so where that had not ended yet.
    assert all(process.returncode in (0, 1) for process in processes), said
    assert not any("Traceback" in error for _, error in said), said
    found = trials(tmp_path / "runs" / "adhoc")
    assert len(found) == 6
    for name in found:
        run = tmp_path / "runs" / "adhoc" / name
        assert list(steps_of_attempts(run)) == [1], f"{name} was trained more than once"
        assert not list(run.glob(".claim*"))
    again = launched(tmp_path, *arguments)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and "6 finished, 0 to do" in output
