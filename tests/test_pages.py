"""The pages that are generated or paired say what the code says now."""

import pytest

from scalelab.catalogue import blocks, rewritten
from tests.conftest import ROOT


def test_the_tables_of_the_readme_are_those_of_the_registries() -> None:
    page = (ROOT / "README.md").read_text()
    assert rewritten(page) == page, "run: python -m scalelab.catalogue README.md"
    assert all(block in page for block in blocks().values())


def test_notebook_and_script_are_the_same() -> None:
    jupytext = pytest.importorskip("jupytext")
    for script in (ROOT / "analysis").glob("*.py"):
        paired = jupytext.read(script.with_suffix(".ipynb"))
        cells = [(cell.cell_type, cell.source) for cell in jupytext.read(script).cells]
        assert [(cell.cell_type, cell.source) for cell in paired.cells] == cells, f"run: jupytext --sync {script}"
        assert not any(cell.get("outputs") for cell in paired.cells)
