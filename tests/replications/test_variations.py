"""The study `variations`: a file a variation, all of them in the sweep, each another network, optimizer or horizon."""

from pathlib import Path

import pytest
import yaml

from scalelab.plan import plan
from tests.conftest import ROOT

STUDY = ROOT / "sweeps" / "variations"
GROUP = "sweep/variations/change"
COUNT = 17


def names(size: str) -> list[str]:
    stated = yaml.safe_load((STUDY / f"{size}.yaml").read_text())
    return [str(name) for name in stated["hydra"]["sweeper"]["params"][GROUP].split(",")]


def test_every_variation_has_a_file_and_every_file_is_swept() -> None:
    proxy, gpu = names("proxy"), names("gpu")
    files = {str(file.relative_to(STUDY / "change").with_suffix("")) for file in (STUDY / "change").rglob("*.yaml")}
    assert {*proxy, *gpu} == files
    assert [Path(name).name for name in gpu] == proxy and len(proxy) == COUNT


@pytest.mark.parametrize("size", ["proxy", "gpu"])
def test_a_variation_is_another_run_in_a_folder_of_its_name(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    smallest = "32" if size == "proxy" else "128"
    arguments = [f"+sweep=variations/{size}", f"width={smallest}", "lr_factor=1", "seed=0", "device=cpu"]
    runs = plan([*arguments, "data=embedded", "validation_tokens=16384"], multirun=True).runs
    assert [run.folder.path.parent.name for run in runs] == [Path(name).name for name in names(size)]
    assert len({run.spec.fingerprint for run in runs}) == COUNT
