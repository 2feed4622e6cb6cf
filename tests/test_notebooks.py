"""The notebooks of analysis/: they call scalelab and nothing else, on small tables; numbers in prose come from results.

That notebook and script are the same holds tests/test_pages.py; `make notebooks` runs all of them.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

jupytext = pytest.importorskip("jupytext")

ANALYSIS = ROOT / "analysis"
NOTEBOOKS = sorted(ANALYSIS.glob("*.ipynb"))
ALLOWED = {"scalelab", "pandas", "IPython", "os", "pathlib"}
LARGEST_BYTES = 100_000


def cells(notebook: Path, kind: str) -> list[str]:
    return [cell.source for cell in jupytext.read(notebook).cells if cell.cell_type == kind]


def code(notebook: Path) -> ast.Module:
    """Its code, magics aside."""
    lines = (line for cell in cells(notebook, "code") for line in cell.splitlines() if not line.startswith("%"))
    return ast.parse("\n".join(lines))


def test_what_is_promised_is_there() -> None:
    names = {notebook.stem for notebook in NOTEBOOKS}
    assert names >= {
        "width_transfer", "depth_transfer", "batch_and_horizon", "search_comparison", "published_laws", "template",
        "u_curves",
    }  # fmt: skip


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_calls_scalelab_alone(notebook: Path) -> None:
    imported = set()
    for node in ast.walk(code(notebook)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= ALLOWED and "scalelab" in imported


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_numbers_in_prose_come_from_results(notebook: Path) -> None:
    prose = [re.sub(r"arXiv:\S+|^    .*$", "", text, flags=re.MULTILINE) for text in cells(notebook, "markdown")]
    assert [found for text in prose for found in re.findall(r"\d+\.\d+|[−+-]\d+|\d{3,}", text)] == []
    assert any("%matplotlib inline" in cell for cell in cells(notebook, "code"))  # or a figure is shown as its name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_tables_it_reads_are_there_small_and_with_the_command_that_made_them(notebook: Path) -> None:
    text = "\n".join(cells(notebook, "code"))
    tables = [ANALYSIS / "results" / name for name in re.findall(r'"results" / "([\w.]+)"', text)]
    for name in re.findall(r'replications\.read\("(\w+)"\)', text):
        tables += sorted((ROOT / "sweeps" / name).glob("*.csv"))
    assert tables
    for table in tables:
        assert 0 < table.stat().st_size <= LARGEST_BYTES
    if notebook.stem not in ("template", "u_curves"):
        launched = r"^    (scalelab train|python analysis/|sweeps/replicate\.sh)"
        commands = re.findall(launched, "\n".join(cells(notebook, "markdown")), re.MULTILINE)
        assert commands, "the command that made its table"


@pytest.mark.slow
@pytest.mark.parametrize(
    "notebook", [path for path in NOTEBOOKS if path.stem == "template"], ids=lambda path: path.stem
)
def test_the_template_runs_on_ones_own_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from tests.helpers import sweep, valley

    sweep(tmp_path / "runs", valley(exponent=-0.3))
    monkeypatch.setenv("SCALELAB_RUNS", str(tmp_path / "runs"))
    ran = subprocess.run(
        [sys.executable, str(notebook.with_suffix(".py"))], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
