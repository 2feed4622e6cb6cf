"""A recipe is a file that comes from others: whatever its texts are, a generated file runs and says what it would."""

import ast
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from scalelab.errors import Refused
from scalelab.exporters import EXPORTERS, Export, made
from scalelab.recipe import NextRun, Recipe, Regret, Value, read_recipe, write_recipe
from scalelab.spec import as_plain
from tests.handoff.recipes import case, recipe_of
from tests.handoff.test_conformance import no_json
from tests.helpers import one_line, scalelab
from tests.leaves import changed, leaves

HOSTILE = {
    "a new line": "law\n)\n: > PWNED\nX=(",
    "a carriage return": "law\r)\r: > PWNED\rX=(",
    "another new line": "law\u2028import os\x85import os\x0cimport os\x0bimport os",
    "a substitution": "$(: > PWNED) `: > PWNED` ${X:-$(: > PWNED)} !!",
    "single quotes": "' ; : > PWNED ; '''\nimport os\n'''",
    "double quotes": '" ; : > PWNED ; """\nimport os\n"""',
    "a quote at the end": 'law"',
    "braces": "{law} {0} {{law}} %s %(law)s",
    "a backslash at the end": "law\\",
    "backslashes": "\\N{BULLET} \\x \\u12 \\\n: > PWNED",
    "a comment's end": "law */ --> # ; : > PWNED",
    "control": "law\x00\x1b[2J\x07\x7f",
    "the other way": "law\u202e\u2066 dnammoc \ud800",
}
ALL = "".join(HOSTILE.values()).replace("\ud800", "")  # which no file can hold
NANOGPT = "nanogpt_completep"  # takes nothing but GPT-2


def whole(name: str) -> Recipe:
    """A recipe with something in each of its lists, for an exporter that takes it."""
    recipe = recipe_of(case("mup-gpt-2" if name == NANOGPT else "mup"))
    names = ("lr", "weight_decay", "beta1", "eps", "schedule", "warmup", "tokens", "batch_tokens", "clip_norm")
    return replace(
        recipe,
        values=tuple(Value(name=each, value=1.0, unit="nats", source="law", rests_on="a test") for each in names),
        regrets=(Regret(setting="lr", factor=2.0, nats=0.1, high=0.2, loss_percent=None, compute_percent=1.0),),
        confirm=(NextRun(overrides=("lr=1",), why="a test", cost_flops=1.0, risk_nats=0.1, risk_after_nats=0.0),),
        evidence={"law": {"form": "c · x"}},
        warnings=("a test",),
    )


def shape(source: str) -> str:
    """The syntax tree of a Python file, its values left out: what it does, with whatever numbers and texts."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = None
    return ast.dump(tree)


def sourced(text: str, folder: Path) -> str:
    """The array of a bash file that is read in an empty environment; nothing else comes of it."""
    (folder / "args.sh").write_text(text)
    assert subprocess.run(["bash", "-n", "args.sh"], cwd=folder, check=False).returncode == 0
    script = "set -eu; source ./args.sh; printf '%s\\n' \"${SCALELAB_ARGS[@]}\"; declare -F; compgen -A variable X || :"
    found = subprocess.run(
        ["/bin/bash", "--norc", "-c", script], cwd=folder, env={}, capture_output=True, text=True, check=True
    )
    assert found.stderr == "" and [file.name for file in folder.iterdir()] == ["args.sh"]
    return found.stdout


def same(found: Export, plain: Export, folder: Path) -> None:
    """Two exports that do the same when they are read or run."""
    assert found.files.keys() == plain.files.keys()
    for file, text in found.files.items():
        assert "\r" not in text and "\x1b" not in text and "\u202e" not in text
        text.encode()
        if file.endswith(".py"):
            compile(text, file, "exec", dont_inherit=True)
            assert shape(text) == shape(plain.files[file]), file
        elif file.endswith(".sh"):
            assert sourced(text, folder) == sourced(plain.files[file], folder)
        else:
            assert json.loads(text, parse_constant=no_json).keys() == json.loads(plain.files[file]).keys()


def test_a_recipe_with_words_of_a_shell_is_refused_in_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    plain = changed(as_plain(whole("megatron")), ("lr", "kind"), HOSTILE["a new line"])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"kind": "scalelab recipe", "version": 3, **plain}))
    result = scalelab("export", str(tmp_path / "recipe.yaml"), "--to", "megatron", "-o", str(tmp_path / "out"))
    assert "lr.kind is" in one_line(result) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", EXPORTERS)
def test_texts_that_no_file_was_asked_for_do_no_harm_either(name: str, hostile: str, tmp_path: Path) -> None:
    """A `Recipe` that was built in Python, which `read_recipe` never saw."""
    recipe = whole(name)
    lr = replace(recipe.lr, kind=hostile, law=hostile, rests_on=hostile)
    bad = replace(
        recipe, origin=hostile, lr=lr, choices=(lr,), why=hostile, warnings=(hostile,), evidence={hostile: hostile},
        values=tuple(replace(each, unit=hostile, source=hostile, rests_on=hostile) for each in recipe.values),
    )  # fmt: skip
    same(made(bad, name, {}), made(recipe, name, {}), tmp_path)


def test_every_text_of_a_recipe_is_refused_or_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    recipe = whole("megatron")
    plain = as_plain(recipe)
    exported = {name: made(recipe, name, {}) for name in EXPORTERS if name != NANOGPT}
    accepted = 0
    texts = [place for place, value in leaves(plain) if isinstance(value, str)]
    for place in [each for each in texts if 1 not in each]:  # of a list the first
        if (bad := read(tmp_path, changed(plain, place, ALL))) is None:
            continue
        for name, export in exported.items():
            if (found := answer(partial(made, bad, name, {}))) is not None:
                accepted += 1
                same(found, export, tmp_path / "out")
    assert accepted > 20


def answer(call: Callable[[], Any]) -> Any:
    """What is returned; None where it refuses, in one line."""
    try:
        return call()
    except Refused as refused:
        said = str(refused)
    assert "\n" not in said and "\x1b" not in said
    return None


def read(folder: Path, plain: dict[str, Any]) -> Any:
    """The recipe in a file that holds this; None where it is refused."""
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"kind": "scalelab recipe", "version": 3, **plain}))
    return answer(lambda: read_recipe(file))


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in EXPORTERS for option in EXPORTERS[name].options]
)
def test_options_are_words_too(name: str, option: str, tmp_path: Path) -> None:
    recipe = whole(name)
    for hostile in HOSTILE.values():
        found = answer(partial(made, recipe, name, {option: hostile}))
        if found is not None:
            same(found, made(recipe, name, {}), tmp_path)


CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "the rate": lambda r: replace(r, lr=replace(r.lr, value=2 * r.lr.value)),
    "the rate of a group": lambda r: replace(r, groups=(replace(r.groups[0], lr=1.0), *r.groups[1:])),
    "the interval alone": lambda r: replace(r, lr=replace(r.lr, low=r.lr.low / 2)),
    "the eps of a group": lambda r: replace(r, groups=(*r.groups[:-1], replace(r.groups[-1], eps=1e-3))),
    "a group left out": lambda r: replace(r, groups=r.groups[1:]),
    "the width": lambda r: replace(r, target={**r.target, "width": 96}),
    "the schedule": lambda r: replace(r, run={**r.run, "schedule": "linear"}),
    "the softmax scale": lambda r: replace(r, sites={**r.sites, "softmax_scale": 1.0}),
    "another table": lambda r: replace(r, parametrization="sp"),
    "an override": lambda r: replace(r, overrides=tuple(re.sub(r"^lr=.*", "lr=0.5", each) for each in r.overrides)),
    "the spec": lambda r: replace(r, spec={**r.spec, "hparams": {**r.spec["hparams"], "lr": 0.5}}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_edited_beside_the_spec_is_refused_and_not_dropped(change: Callable[[Recipe], Recipe]) -> None:
    recipe = whole("megatron")
    with pytest.raises(Refused, match=r"in the recipe and .* by its spec.*scalelab recommend"):
        made(change(recipe), "megatron", {})


def test_rounding_is_no_edit(tmp_path: Path) -> None:
    recipe = whole("megatron")
    near = tuple(replace(group, lr=float(f"{group.lr:.12g}")) for group in recipe.groups)
    assert (
        made(replace(recipe, groups=near), "hf", {}).files["config.json"] == made(recipe, "hf", {}).files["config.json"]
    )
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert made(read_recipe(tmp_path / "recipe.yaml"), "hf", {}) == made(recipe, "hf", {})
