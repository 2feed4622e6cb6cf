"""The pages that are generated or paired say what the code says now."""

import ast
import functools
import itertools
import re

import pytest
import torch

from scalelab import catalogue
from scalelab.catalogue import blocks
from scalelab.parametrizations import TABLES
from scalelab.parametrizations.proofs import EVERY, PROOFS
from tests.conftest import ROOT
from tests.helpers import scalelab, squeezed

CITED = sorted({(name, t, proof.slow) for name, proofs in PROOFS.items() for proof in proofs for t in proof.tests})


made = functools.cache(blocks)  # one of them is fitted


def test_the_tables_of_the_readme_are_those_of_the_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "blocks", made)
    page = (ROOT / "README.md").read_text()
    assert catalogue.rewritten(page, ROOT) == page, "run: python -m scalelab.catalogue README.md"
    assert all(block in page for block in made(ROOT).values())


def test_every_table_of_the_page_is_generated_or_its_rows_name_their_tests() -> None:
    page = (ROOT / "README.md").read_text()
    for name in made(ROOT):
        page = re.sub(f"<!-- {name} -->.*?<!-- /{name} -->", "", page, flags=re.DOTALL)
    rows = re.findall(r"^\|.*\|$", page, flags=re.MULTILINE)
    heads = [row for row, below in itertools.pairwise(rows) if set(below) <= set("|-")]
    assert [head.rsplit("|", 2)[1].strip() for head in heads] == ["test"] * 2
    reproductions = functions("tests/laws/test_reproductions.py")
    for row in rows:
        if row in heads or set(row) <= set("|-"):
            continue
        for named in re.findall(r"`([^`]+)`", row.rsplit("|", 2)[1]) or [""]:
            assert named in reproductions or (named.startswith("tests/") and (ROOT / named).exists()), row


def examples() -> dict[str, list[str]]:
    """The page's `explain` and `compare` commands, each with the lines that the page says they print."""
    page = (ROOT / "README.md").read_text().replace("\\\n", "")
    found: dict[str, list[str]] = {}
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL):
        command = ""
        for line in block.splitlines():
            if line.startswith("$ "):
                command = squeezed(line.removeprefix("$ "))
            elif command.split()[1] in ("explain", "compare") and line.strip() != "…":
                found.setdefault(command, []).append(squeezed(line).strip())
    return found


@pytest.mark.parametrize("command", examples())
def test_what_the_page_shows_is_what_is_printed(command: str) -> None:
    printed = [squeezed(line).strip() for line in scalelab(*command.split()[1:]).stdout.splitlines()]
    assert [line for line in examples()[command] if line not in printed] == []


@functools.cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    """The functions at the top of a test file."""
    return {node.name: node for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_proofs_are_of_tables_that_there_are() -> None:
    assert set(PROOFS) <= {EVERY, *TABLES}
    assert all(proof.claim and proof.tests for proofs in PROOFS.values() for proof in proofs)
    for name, proofs in PROOFS.items():
        families = {family for _, family in TABLES[name].rules} if name in TABLES else set()
        assert name == EVERY or all(set(proof.families) <= families for proof in proofs), name


@pytest.mark.parametrize(("name", "test", "slow"), CITED)
def test_a_proof_names_a_test_that_is_collected(name: str, test: str, slow: bool) -> None:
    """It is a function of a test file, is slow only where that is said, and its file speaks of the table or of all."""
    file, _, function = test.partition("::")
    assert (ROOT / file).name.startswith("test_") and file.startswith("tests/")
    assert function.startswith("test_") and function in functions(file), test
    marks = {ast.unparse(mark).split("(")[0] for mark in functions(file)[function].decorator_list}
    assert not marks & {"pytest.mark.network", "pytest.mark.skip", "pytest.mark.xfail"}
    assert ("pytest.mark.slow" in marks) == slow
    text = (ROOT / file).read_text()
    assert name in (EVERY, "u_mup") or f'"{name}"' in text or "TABLES" in text or "FORMS" in text


def test_every_test_of_the_proofs_is_linked_from_the_page() -> None:
    page = (ROOT / "README.md").read_text()
    for _, test, _ in CITED:
        file, _, function = test.partition("::")
        assert f"[`{function}`]({file})" in page


def test_every_file_that_the_page_names_is_there() -> None:
    page = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`((?:tests|benchmarks|analysis|sweeps|conf|scalelab)/[\w/.-]+)`", page))
    assert len(named) > 20 and "@@" not in page
    assert [name for name in sorted(named) if not (ROOT / name).exists() and "NAME" not in name] == []


def test_notebook_and_script_are_the_same() -> None:
    jupytext = pytest.importorskip("jupytext")
    for notebook in (ROOT / "analysis").glob("*.ipynb"):
        script = notebook.with_suffix(".py")
        paired = jupytext.read(notebook)
        cells = [(cell.cell_type, cell.source) for cell in jupytext.read(script).cells]
        assert [(cell.cell_type, cell.source) for cell in paired.cells] == cells, f"run: jupytext --sync {script}"
        assert not any(cell.get("outputs") for cell in paired.cells)


def test_the_readmes_example_on_ones_own_module_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="its example is a Llama of transformers")
    code, shown = re.findall(
        r"```python\n(.*?)```\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL
    )[0]
    torch.manual_seed(0)
    exec(compile(code, "README.md", "exec"), {})
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    for line in shown.splitlines():
        assert line == "…" or line in printed, line
