"""recipe.yaml as it is read: what is wrong in it is said in one line, and what is read is what was written."""

import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from scalelab.errors import Refused
from scalelab.exporters import made
from scalelab.overrides import overrides_of
from scalelab.recipe import NextRun, Recipe, Regret, Value, read_recipe, recipe_of, write_recipe
from scalelab.report.found import Found
from scalelab.report.recipes import recipe as section
from scalelab.spec import as_plain
from tests.conftest import make_spec
from tests.handoff import recipes
from tests.helpers import one_line, scalelab
from tests.leaves import changed, leaves

OTHERS: dict[str, Any] = {
    "text": "a", "no text": "", "NaN": math.nan, "inf": math.inf, "-inf": -math.inf, "0": 0, "0.0": 0.0, "-1": -1,
    "1.5": 1.5, "true": True, "null": None, "a list": [], "a list of it": [1.0], "a mapping": {},
    "a date": date(2026, 1, 1), "bytes": b"a", "a set": {1}, "too long": 10**400, "keys that are no texts": {1: 2},
}  # fmt: skip

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("origins", "study", "confirmation", "search")), "folder": Path(), "launches": (), "studies": (),
    "checks": (), "fitted": False, "unfitted": "",
}  # fmt: skip


def whole() -> Recipe:
    """A recipe with something in each of its lists."""
    recipe = recipes.recipe_of(recipes.case("mup"))
    return replace(
        recipe,
        values=(Value(name="weight_decay", value=0.1, low=0.05, high=math.nan, source="both",
                      theory_weight=0.5, rests_on="x"),
                Value(name="schedule", value="cosine", source="proxies", rests_on="x"),
                Value(name="clip_norm", value=None, source="proxies", rests_on="x")),
        regrets=(Regret(setting="lr", factor=2.0, nats=0.1, high=math.nan, loss_percent=None, compute_percent=1.0),),
        confirm=(NextRun(overrides=("lr=1",), why="x", cost_flops=1.0, risk_nats=0.1, risk_after_nats=0.0),),
        evidence={"laws": [{"form": "c · x", "value": math.nan}]},
        warnings=("x",),
    )  # fmt: skip


PLAIN = as_plain(whole())
PLACES = [place for place, _ in leaves(PLAIN) if all(each == 0 for each in place if isinstance(each, int))]
PARTS = list(dict.fromkeys(place[:length] for place in PLACES for length in range(1, len(place))))  # lists, mappings


def holds(plain: Any) -> bool:
    """Whether it is a recipe: refused in one line, or read as it is, shown, and exported or refused in one line."""
    try:
        found = recipe_of(plain)
    except Refused as refused:
        said = str(refused)
    else:
        assert repr(as_plain(found)) == repr(plain)
        section(Found(**{**NOTHING, "recipe": found}))
        try:
            made(found, "param_groups", {})
        except Refused as refused:
            assert len(str(refused).splitlines()) == 1  # noqa: PT017
        return True
    assert len(said.splitlines()) == 1 and len(said) < 600
    return False


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_every_value_is_refused_or_read_whatever_is_put_in_its_place(other: Any) -> None:
    for place in (*PLACES, *PARTS):
        holds(changed(PLAIN, place, other))


@pytest.mark.parametrize("place", [place for place in PLACES if place[0] not in ("spec", "evidence")],
                         ids=lambda place: ".".join(map(str, place)))  # fmt: skip
def test_a_value_of_another_type_is_refused(place: tuple[Any, ...]) -> None:
    others: tuple[Any, ...] = ([], {}, b"a", True, date(2026, 1, 1))
    for other in others:
        with pytest.raises(Refused):
            recipe_of(changed(PLAIN, place, other))


REFUSED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "a kind": (("lr", "kind"), "averaged\n)\ntouch x\nX=(", "lr.kind is .*accepted is one of averaged, theory"),
    "a source": (("values", 0, "source"), "law\n)", r"values\[0\]\.source is .*accepted is one of theory, law"),
    "an origin": (("origin",), "somewhere", "origin is 'somewhere': accepted is one of sweep, published"),
    "a rate of 0": (("lr", "value"), 0.0, "lr.value is 0.0: accepted is a number > 0"),
    "a rate of NaN": (("lr", "value"), math.nan, "lr.value is nan: accepted is a number > 0"),
    "a bound": (("values", 0, "low"), "a", r"values\[0\]\.low is 'a': accepted is a number or NaN or null"),
    "a cost": (("cost_flops",), "x", "cost_flops is 'x': accepted is a number ≥ 0"),
    "a size": (("target", "width"), 64.5, "target.width is 64.5: accepted is a whole number ≥ 0"),
    "a size that is missing": (("target",), {"width": 64}, "target lacks vocab"),
    "a std": (("groups", 0, "init_std"), -1.0, r"groups\[0\]\.init_std is -1.0"),
    "a pattern": (("groups", 0, "patterns", 0), 1, r"groups\[0\]\.patterns\[0\] is 1: accepted is text"),
    "patterns": (("groups", 0, "patterns"), "embedding.weight", "patterns is 'embedding.weight': accepted is a list"),
    "a field of a part": (("lr",), {"value": 0.1}, "lr has .*missing or unknown"),
    "a rate of the spec": (("spec", "hparams", "lr"), math.nan, "spec.hparams.lr is nan|lr=nan"),
    "a decay of the run": (("run", "weight_decay"), "x", "run.weight_decay is 'x': accepted is a number"),
    "a seed": (("spec", "seed"), "1", "spec.seed is '1': accepted is a whole number"),
    "an option of the data": (("spec", "data", "options"), [1], r"spec.data.options\[0\] is 1: accepted is a list"),
}  # fmt: skip


@pytest.mark.parametrize(("place", "value", "said"), REFUSED.values(), ids=REFUSED)
def test_a_damaged_file_says_where(place: tuple[Any, ...], value: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    plain = changed(PLAIN, place, value)
    file.write_text(yaml.safe_dump({"kind": "scalelab recipe", "version": 3, **plain}, sort_keys=False))
    with pytest.raises(Refused, match=said) as refused:
        read_recipe(file)
    assert "recipe.yaml is damaged" in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_no_yaml_or_has_no_end_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    write_recipe(whole(), file)
    text = file.read_text()
    for bad in ("a: 2024-99-99", "a: [", "[" * 5000, text.replace("evidence:", "evidence: &a\n  a: *a")):
        file.write_text(bad)
        with pytest.raises(Refused, match="recipe"):
            read_recipe(file)


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    write_recipe(whole(), tmp_path / "recipe.yaml")
    assert repr(as_plain(read_recipe(tmp_path / "recipe.yaml"))) == repr(PLAIN)
    assert holds(PLAIN)


def test_next_runs_are_trained_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = make_spec(width=64)
    run = NextRun(
        overrides=(*overrides_of(spec), "lr=0.01,0.02", "study=confirm"), why="x", cost_flops=1.0, risk_nats=0.1,
        risk_after_nats=0.0,
    )  # fmt: skip
    write_recipe(replace(whole(), confirm=(run,)), tmp_path / "recipe.yaml")
    asked = ("train", "--recipe", "recipe.yaml", "--dry-run", "--next")
    planned = json.loads(scalelab(*asked, "1", "--json").stdout)["runs"]
    assert sorted(each["lr"] for each in planned) == [0.01, 0.02]
    assert one_line(scalelab(*asked, "2")) == "scalelab: --next 2: the recipe's are 1 to 1"
    assert one_line(scalelab("train", "--next", "1")) == "scalelab: --next 1 without --recipe: which recipe's?"
