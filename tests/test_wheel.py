"""The wheel: what works in the checkout works outside it."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers import TINY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of a freshly built wheel, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", str(folder / "dist"), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (folder / "dist").glob("scalelab-*-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(folder / "unpacked")
    return folder / "unpacked"


def run(unpacked: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command line of the wheel, from a folder that is not the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "SCALELAB_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "scalelab.cli", *arguments],
        capture_output=True, text=True, timeout=180, check=False, cwd=folder, env=environment,
    )  # fmt: skip


def test_it_carries_configuration_studies_texts_and_template(unpacked: Path) -> None:
    package = unpacked / "scalelab"
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert (package / "conf" / file.relative_to(ROOT / "conf")).read_bytes() == file.read_bytes()
    studies = [file for file in (ROOT / "sweeps").rglob("*") if file.suffix in (".yaml", ".py")]
    for file in studies:
        assert (package / "conf" / "sweep" / file.relative_to(ROOT / "sweeps")).read_bytes() == file.read_bytes()
    for name in ("english.xz", "manifest.json", "PROVENANCE.md"):
        assert (package / "data" / "texts" / name).read_bytes() == (ROOT / "scalelab/data/texts" / name).read_bytes()
    for file in (ROOT / "scalelab" / "report").glob("*.jinja"):
        assert (package / "report" / file.name).read_bytes() == file.read_bytes()
    modules = {file.relative_to(ROOT) for file in (ROOT / "scalelab").rglob("*.py")} - {
        Path("scalelab/data/texts/build.py")
    }
    assert modules == {
        file.relative_to(unpacked) for file in package.rglob("*.py") if package / "conf" not in file.parents
    }
    assert not (unpacked / "tests").exists()


def test_it_is_what_python_imports(unpacked: Path, tmp_path: Path) -> None:
    code = "import scalelab, scalelab.config as c; print(scalelab.__file__, c.config_dir())"
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path,
        env=environment,
    )  # fmt: skip
    assert found.stdout.split() == [str(unpacked / "scalelab" / "__init__.py"), str(unpacked / "scalelab" / "conf")]


def test_it_trains_a_sweep_and_a_study_from_another_folder(unpacked: Path, tmp_path: Path) -> None:
    ran = run(unpacked, tmp_path, "train", "-m", *TINY, "lr=0.01,0.02")
    assert ran.returncode == 0, ran.stderr
    assert "2 runs: 2 OK" in ran.stdout
    assert len(list((tmp_path / "runs" / "adhoc").glob("*/trial.json"))) == 2
    planned = run(unpacked, tmp_path, "train", "-m", "--dry-run", "+sweep=lr_width", "seed=0", "lr=0.01")
    assert planned.returncode == 0, planned.stderr
    assert "plan: 6 runs" in planned.stdout
    refused = run(unpacked, tmp_path, "train", "lr=-1")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
