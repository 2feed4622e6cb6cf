"""The house: what may import what, what stays light, how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "scalelab"

# In the direction of the data: a room may import those of the rows above it, and those of its own row.
ORDER: tuple[tuple[str, ...], ...] = (
    ("claims", "console", "counted", "errors", "files", "scale", "stopping"),
    ("answering", "named", "secrets", "shape", "typed", "values"),
    ("parametrizations",),
    ("models", "optimizers"),
    ("hparams", "compare", "external", "keys"),
    ("spec",),
    ("resolve",),
    ("data", "derivations", "parallel", "programs", "trunks"),
    ("trials", "machine"),
    ("collection",),
    ("laws",),
    ("samplers", "pruners"),
    ("config", "readers", "recipe"),
    ("target", "confirm", "trackers", "evidence", "overrides", "explain", "search_views", "tables_json"),
    ("composing", "hydra_errors", "preflight"),
    ("recommend", "exporters", "doctor", "replications"),
    ("networks",),
    ("optim",),
    ("modules",),
    ("train", "probe", "command"),
    ("jobs", "lr_range"),
    (
        "plots",
        "progress",
        "status",
        "show_tables",
        "show_explained",
        "show_checks",
        "catalogue_tables",
        "search_json",
        "show_doctor",
    ),
    (
        "report",
        "show",
        "show_laws",
        "plan",
        "catalogue_measured",
        "plots_checks",
        "show_lr_range",
        "show_search",
        "show_status",
        "show_export",
    ),
    ("sizes", "plan_json", "catalogue"),
    ("checks", "fitting", "ranging", "search"),
    ("workers",),
    ("engines",),
    ("launch",),
    ("commands",),
    ("searching",),
    ("cli_group", "completion"),
    ("cli_recipe", "cli_search", "cli_show"),
    ("cli",),
)
PLACE = {room: row for row, rooms in enumerate(ORDER) for room in rooms}

# Backwards, each with the reason: not when a module is imported, but when a program starts. (`models.build` reaches its
# network by name, too, and only when it is called: what a model's parameters are is known without torch.)
EXCEPTIONS = {
    ("train", "cli"): "python -m scalelab.train is the command line",
}

LIGHT = (
    "console", "errors", "files", "named", "scale", "shape", "typed", "values",
    "parametrizations", "optimizers", "models", "hparams", "external", "spec", "resolve",
    "data", "trials", "collection", "readers", "laws", "recipe", "config", "overrides", "target", "recommend",
    "confirm", "compare", "derivations", "explain", "show_tables", "show_explained", "catalogue_tables", "programs",
    "trunks", "machine", "parallel", "status", "show_status", "exporters", "replications",
)  # fmt: skip
HEAVY = ("torch", "hydra", "omegaconf", "optuna", "wandb", "matplotlib")

FILES = sorted(file for file in PACKAGE.rglob("*.py"))


def room_of(name: str) -> str | None:
    """The room of a dotted module name, the longest that is listed; None for the package itself."""
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in PLACE:
            return ".".join(parts[:length])
    return None


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    """The modules of scalelab that a file imports anywhere, also inside functions and for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            # `from scalelab import show` imports a room; `from scalelab.show import table` does too.
            if node.module == "scalelab":
                found |= {f"scalelab.{alias.name}" for alias in node.names}
            elif node.module is not None:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "scalelab"}


def test_every_file_is_in_a_room() -> None:
    assert [file for file in FILES if file.parent != PACKAGE or file.name != "__init__.py"
            if room_of(module_name(file)) is None] == []  # fmt: skip


def test_no_room_imports_a_later_one() -> None:
    backwards = set()
    for file in FILES:
        mine = room_of(module_name(file))
        if mine is None:
            continue
        for name in imports(file):
            theirs = room_of(name)
            if theirs is not None and theirs != mine and PLACE[theirs] > PLACE[mine]:
                backwards.add((mine, theirs))
    assert backwards == EXCEPTIONS.keys()


def test_rooms_of_one_row_do_not_know_each_other() -> None:
    known = set()
    for file in FILES:
        mine = room_of(module_name(file))
        for name in imports(file):
            theirs = room_of(name)
            if mine is not None and theirs is not None and theirs != mine and PLACE[theirs] == PLACE[mine]:
                known.add((mine, theirs))
    assert known == set()


def test_the_lower_rooms_import_nothing_heavy() -> None:
    code = (
        "import importlib, sys\n"
        f"for room in {LIGHT!r}:\n"
        "    importlib.import_module(f'scalelab.{room}')\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    assert not heavy, (room, heavy)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_command_line_imports_nothing_but_its_own_tools() -> None:
    allowed = {
        "scalelab.errors.Refused", "scalelab.completion",
        *(f"scalelab.answering.{name}" for name in ("FINE", "HELP", "NO", "AsJson", "answering", "console")),
        *(f"scalelab.cli_group.{name}" for name in ("BEFORE", "LAWS", "RUN", "InOrder")),
        "scalelab.cli_recipe", "scalelab.cli_search", "scalelab.cli_show",
    }  # fmt: skip
    tree = ast.parse((PACKAGE / "cli.py").read_text())
    at_import = {
        f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("scalelab")
        for alias in node.names
    }
    assert at_import <= allowed


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 250


def test_nothing_is_attached_to_a_tensor_and_nothing_evaluates_text() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "setattr"), f"{file}:{node.lineno}"
