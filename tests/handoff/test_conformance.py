"""What every exporter owes: files that their readers take, what was left to the reader, and whose they are.

And the command: `scalelab export`.
"""

import ast
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from scalelab.errors import Refused
from scalelab.exporters import EXPORTERS, NOT_RIGHT, Export, export, export_all, made
from scalelab.optimizers import OPTIMIZERS
from scalelab.recipe import Value, read_recipe, resolved, write_recipe
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.handoff.recipes import CASES, case, handoff_of, recipe_of
from tests.helpers import one_line, scalelab, squeezed


def answer(name: str, spec: RunSpec) -> Export | str:
    """What an exporter writes of a spec, or why it refuses, in one line."""
    try:
        return made(recipe_of(spec), name, {})
    except Refused as refused:
        said = str(refused)
    assert "\n" not in said and len(said) > 20
    return said


@pytest.mark.parametrize("name", EXPORTERS)
def test_what_it_writes_says_whose_it_is_and_what_it_leaves_to_the_reader(name: str) -> None:
    written = 0
    for each in CASES:
        found, digest = answer(name, case(each)), handoff_of(case(each)).digest
        if isinstance(found, str):
            continue
        written += 1
        assert any(digest in text for text in found.files.values()), each
        for note in found.notes:
            assert any(letters(note) in letters(text) for text in found.files.values()), note
        for file, text in found.files.items():
            assert text.endswith("\n") and "/" not in file
            if file.endswith(".py"):
                ast.parse(text)
            if file.endswith(".json"):
                json.loads(text, parse_constant=no_json)
        assert answer(name, case(each)) == found
    assert written


@pytest.mark.parametrize("name", EXPORTERS)
def test_an_interval_that_nobody_knows_is_written_as_such(name: str, tmp_path: Path) -> None:
    """As recipes of published laws have it."""
    spec = case("mup-gpt-2") if name == "nanogpt_completep" else case("mup")
    lr = replace(recipe_of(spec).lr, kind="published", low=math.nan, high=math.nan)
    decay = Value(name="weight_decay", value=0.1, low=math.nan, high=math.nan, source="published", rests_on="a law")
    recipe = replace(recipe_of(spec), **resolved(spec, lr), origin="published", lr=lr, choices=(lr,), values=(decay,))
    write_recipe(recipe, tmp_path / "recipe.yaml")
    found = made(read_recipe(tmp_path / "recipe.yaml"), name, {})
    for file, text in found.files.items():
        assert not re.search(r"\bnan\b", text, re.IGNORECASE), file
        if file.endswith(".json"):
            plain = json.loads(text, parse_constant=no_json)
            assert all(group["lr_low"] is None for group in plain.get("groups", []))
    if name == "megatron":
        assert "# published, no interval\n" in found.files["megatron_args.sh"]


def no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def letters(text: str) -> str:
    """A text without what a file may put between its words: line breaks, comment signs, quotes."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


@pytest.mark.parametrize("name", EXPORTERS)
def test_it_says_what_it_does(name: str) -> None:
    exporter = EXPORTERS[name]
    assert all((exporter.title, exporter.checked, exporter.expresses, exporter.folds, exporter.refuses))


@pytest.mark.parametrize("name", EXPORTERS)
def test_optimizers_that_it_has_not_are_refused(name: str) -> None:
    for optimizer in set(OPTIMIZERS) - {"adamw", "sgd", "adamw_muon"}:
        with pytest.raises(Refused):
            made(recipe_of(make_spec(optimizer=optimizer)), name, {})


@pytest.mark.parametrize("name", NOT_RIGHT)
def test_what_cannot_be_right_is_refused_with_the_reason(name: str, recipe_file: Path) -> None:
    result = scalelab("export", str(recipe_file), "--to", name, "-o", str(recipe_file.parent / "out"))
    assert NOT_RIGHT[name] in one_line(result)
    assert not (recipe_file.parent / "out").exists()


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_files_and_says_so(recipe_file: Path) -> None:
    out = recipe_file.parent / "out"
    one = scalelab("export", str(recipe_file), "--to", "torchtitan", "-o", str(out))
    assert one.exit_code == 0, one.output
    assert [file.name for file in (out / "torchtitan").iterdir()] == ["torchtitan_recipe.py"]
    assert "torchtitan_recipe.py" in one.output and "note: " in one.output


def test_several_frameworks_have_a_folder_each(recipe_file: Path) -> None:
    out = recipe_file.parent / "out"
    result = scalelab("export", str(recipe_file), "--to", "param_groups", "--to", "torchtitan", "-o", str(out))
    assert result.exit_code == 0, result.output
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*.*")) == [
        "param_groups/param_groups.json", "param_groups/param_groups.py", "torchtitan/torchtitan_recipe.py",
    ]  # fmt: skip


def test_it_answers_in_json(recipe_file: Path) -> None:
    out = recipe_file.parent / "out"
    result = scalelab("export", str(recipe_file), "--to", "torchtitan", "-o", str(out), "--json")
    (found,) = json.loads(result.stdout)["exported"]
    assert (
        found["name"] == "torchtitan"
        and found["files"] == [str(out / "torchtitan" / "torchtitan_recipe.py")]
        and found["notes"]
    )
    listed = json.loads(scalelab("export", "--list", "--json").stdout)
    assert listed["frameworks"].keys() == EXPORTERS.keys() and listed["not_right"].keys() == NOT_RIGHT.keys()


def test_it_lists_the_frameworks_with_their_options() -> None:
    result = scalelab("export", "--list")
    assert result.exit_code == 0
    said = squeezed(result.output)
    for name, exporter in EXPORTERS.items():
        assert name in said and all(option in said for option in exporter.options)
    assert "none to nanotron: its muP is spectral" in said


def test_options_go_to_the_framework_that_has_them(recipe_file: Path) -> None:
    out = recipe_file.parent / "out"
    arguments = ("--to", "param_groups", "--to", "torchtitan", "-o", str(out))
    result = scalelab("export", str(recipe_file), *arguments, "--set", "fold=false", "--set", "dataset=mine")
    assert result.exit_code == 0, result.output
    assert 'dataset="mine"' in (out / "torchtitan" / "torchtitan_recipe.py").read_text()
    assert json.loads((out / "param_groups" / "param_groups.json").read_text())["forward"]["folded"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "torchtitn"], "unknown framework 'torchtitn': accepted are"),
        ([], "export to what? give --to, of param_groups"),
        (["--to", "torchtitan", "--set", "datasets=c4"], "unknown option of torchtitan 'datasets': accepted are"),
        (["--to", "torchtitan", "--set", "dataset"], "--set dataset: accepted is OPTION=VALUE"),
        (["--to", "torchtitan", "--set", "dataset=a", "--set", "dataset=b"], "--set dataset is given twice: a and b"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_in_one_line(arguments: list[str], said: str, recipe_file: Path) -> None:
    assert said in one_line(scalelab("export", str(recipe_file), *arguments))


def test_a_missing_recipe_is_answered_in_one_line(tmp_path: Path) -> None:
    assert "does not exist" in one_line(scalelab("export", str(tmp_path / "recipe.yaml"), "--to", "torchtitan"))
    assert "export what? give a recipe.yaml" in one_line(scalelab("export", "--to", "torchtitan"))


def test_where_one_refuses_nothing_is_written(tmp_path: Path) -> None:
    recipe = recipe_of(case("mup-gelu"))
    with pytest.raises(Refused, match=r"model.mlp=gelu has no place in torchtitan's models"):
        export_all(recipe, ["param_groups", "torchtitan"], tmp_path, {})
    assert not list(tmp_path.iterdir())
    assert export(recipe, "param_groups", tmp_path, {})[0]


def test_a_recipe_that_was_written_and_read_exports_the_same(tmp_path: Path) -> None:
    recipe = recipe_of(case("completep-multipliers"))
    write_recipe(recipe, tmp_path / "recipe.yaml")
    again = read_recipe(tmp_path / "recipe.yaml")
    assert made(again, "param_groups", {}) == made(recipe, "param_groups", {})
