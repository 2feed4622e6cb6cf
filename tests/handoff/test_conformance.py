"""What every exporter owes: it expresses, folds or refuses each field, says what was left to the reader, and whose.

And the command: `scalelab export`.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalelab.errors import Refused
from scalelab.exporters import EXPORTERS, NOT_RIGHT, Export, export, export_all, made
from scalelab.optimizers import OPTIMIZERS
from scalelab.recipe import write_recipe
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.handoff.recipes import CASES, MULTIPLIED, case, handoff_of, recipe_of, spec_of
from tests.helpers import one_line, scalelab, squeezed

# A recipe with something in every field, and each field changed. Each exporter shows the change or refuses.
WHOLE = {"hparams": {"clip_norm": 1.0, **MULTIPLIED}}
GPT2 = {  # for one that is so, and takes nothing else
    "architecture": {"mlp": "gelu", "positions": "learned", "tied_head": True},
    "hparams": {"clip_norm": 1.0, "residual_multiplier": 0.6, "logits_multiplier": 2.5},
    "horizon": {"warmup_fraction": 0.0},
}
CHANGES: dict[str, dict[str, Any]] = {
    "lr": {"hparams": {"lr": 0.02}},
    "weight_decay": {"hparams": {"weight_decay": 0.2}},
    "beta1": {"hparams": {"beta1": 0.85}},
    "beta2": {"hparams": {"beta2": 0.99}},
    "eps": {"hparams": {"eps": 1e-7}},
    "clip_norm": {"hparams": {"clip_norm": 0.5}},
    "no clip_norm": {"hparams": {"clip_norm": None}},
    "init_gain": {"hparams": {"init_gain": 0.7}},
    "embedding_std": {"hparams": {"embedding_std": 0.3}},
    **{name: {"hparams": {name: 1.3}} for name in MULTIPLIED},
    "z_loss": {"hparams": {"z_loss": 1e-4}},
    "schedule": {"horizon": {"schedule": "linear"}},
    "wsd": {"horizon": {"schedule": "wsd"}},
    "decay_fraction": {"horizon": {"schedule": "wsd", "decay_fraction": 0.5}},
    "warmup_fraction": {"horizon": {"warmup_fraction": 0.4}},
    "final_lr_ratio": {"horizon": {"final_lr_ratio": 0.05}},
    "tied_head": {"architecture": {"tied_head": True}},
    "qk_norm": {"architecture": {"qk_norm": True}},
    "biases": {"architecture": {"biases": True}},
    "mlp": {"architecture": {"mlp": "gelu"}},
    "norm_gains": {"architecture": {"norm_gains": "none"}},
    "positions": {"architecture": {"positions": "learned"}},
    "readout_init": {"architecture": {"readout_init": "fan_in"}},
    "zero_init_readout": {"architecture": {"zero_init_readout": True}},
    "zero_init_query": {"architecture": {"zero_init_query": True}},
    "residual_init": {"architecture": {"residual_init": "depth-scaled"}},
    "width": {"width": 96},
    "depth": {"depth": 4},
    "heads": {"sizes": {"heads": 2}, "base_sizes": {"heads": 1}},
    "kv_heads": {"sizes": {"heads": 4, "kv_heads": 2}, "base_sizes": {"heads": 2, "kv_heads": 1}},
    "ffn": {"sizes": {"ffn": 320}, "base_sizes": {"ffn": 160}},
    "vocab": {},
    "context": {"sizes": {"context": 32}, "base_sizes": {"context": 32}},
    "dtype": {"dtype": "bfloat16"},
    "weight_decay_policy": {"weight_decay_policy": "constant"},
    "tokens": {},
    "batch_tokens": {},
}
OF_A_READOUT = ("embedding_std", "readout_init", "zero_init_readout")  # a tied table has none of its own


def changed(base: Mapping[str, Any], name: str) -> RunSpec:
    change = {key: {**base.get(key, {}), **value} if isinstance(value, dict) else value
              for key, value in CHANGES[name].items()}  # fmt: skip
    spec = spec_of(**{**base, **change})
    if name == "vocab":
        shapes = {each: replace(getattr(spec, each), vocab=320) for each in ("shape", "base")}
        return replace(spec, **shapes, data=replace(spec.data, vocab=320))
    if name == "tokens":
        return replace(spec, horizon=replace(spec.horizon, tokens=2 * spec.horizon.tokens))
    if name == "batch_tokens":
        return replace(spec, horizon=replace(spec.horizon, batch_tokens=32, tokens=20 * 32))
    return spec


def answer(name: str, spec: RunSpec) -> Export | str:
    """What an exporter writes of a spec, or why it refuses, in one line."""
    try:
        return made(recipe_of(spec), name, {})
    except Refused as refused:
        said = str(refused)
    assert "\n" not in said and len(said) > 20
    return said


def text_of(name: str, spec: RunSpec) -> str | None:
    """What an exporter writes of a spec, its notes too, without whose it is; None where it refuses."""
    found = answer(name, spec)
    if isinstance(found, str):
        return None
    run = handoff_of(spec)
    everything = squeezed("\n".join([*found.files.values(), *found.notes]))
    return everything.replace(squeezed(run.provenance), "").replace(run.digest, "")


@pytest.mark.parametrize("name", EXPORTERS)
def test_no_field_is_dropped(name: str) -> None:
    base = next(base for base in (WHOLE, GPT2) if text_of(name, spec_of(**base)) is not None)
    spec = spec_of(**base)
    whole, unused = text_of(name, spec), OF_A_READOUT if base is GPT2 else ()
    changes = {field: changed(base, field) for field in CHANGES if field not in unused}
    assert [field for field, other in changes.items() if other != spec and text_of(name, other) == whole] == []


def test_each_change_is_one() -> None:
    assert all(changed(WHOLE, field).fingerprint != spec_of(**WHOLE).fingerprint for field in CHANGES)


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
                json.loads(text)
        assert answer(name, case(each)) == found
    assert written


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
    assert [file.name for file in out.iterdir()] == ["torchtitan_recipe.py"]
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
    assert found["name"] == "torchtitan" and found["files"] == [str(out / "torchtitan_recipe.py")] and found["notes"]
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
    from scalelab.recipe import read_recipe

    recipe = recipe_of(case("completep-multipliers"))
    write_recipe(recipe, tmp_path / "recipe.yaml")
    again = read_recipe(tmp_path / "recipe.yaml")
    assert made(again, "param_groups", {}) == made(recipe, "param_groups", {})
