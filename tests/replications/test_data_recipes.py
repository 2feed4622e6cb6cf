"""The script that writes the texts of sweeps/data_recipes: each is what its name says, and the same each time."""

import importlib.util
import random

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "sweeps" / "data_recipes" / "recipes.py"
spec = importlib.util.spec_from_file_location("recipes", SCRIPT)
assert spec is not None and spec.loader is not None
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)

ENGLISH = "".join(f"It is the {n}th truth universally acknowledged, that a man\nmust\n" for n in range(4000))
CODE = "def of(code): return code[0]  # nothing that prose has\n" * 4000


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found: dict[str, str] = made.recipes(ENGLISH, CODE)
    return found


def test_they_are_the_same_each_time(texts: dict[str, str]) -> None:
    assert made.recipes(ENGLISH, CODE) == texts and len(set(texts.values())) == len(texts) == 12


@pytest.mark.parametrize(("name", "share"), [("python_20", 0.2), ("python_50", 0.5)])
def test_a_mixture_has_its_share_of_code(texts: dict[str, str], name: str, share: float) -> None:
    line = CODE[: CODE.index("\n") + 1]
    assert texts[name].count("prose has") * len(line) / len(texts[name]) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("name", "share"), [("noise_02", 0.02), ("noise_10", 0.1)])
def test_noise_replaces_its_share_of_the_characters(texts: dict[str, str], name: str, share: float) -> None:
    changed = sum(a != b for a, b in zip(texts[name], ENGLISH, strict=True))
    assert changed / len(ENGLISH) == pytest.approx(share, rel=0.05)


def test_what_is_repeated_is_short_and_from_all_over() -> None:
    text = "".join(f"{place:08d}" for place in range(200_000))
    thin = made.thinned(text, 16 * made.BLOCK)
    assert 15 <= len(thin) / made.BLOCK <= 18
    places = [int(block[8:16]) for block in made.blocks(thin)]
    assert places == sorted(places) and places[-1] > 180_000


def test_filters_and_shuffles_keep_to_their_lines(texts: dict[str, str]) -> None:
    assert "\nmust\n" not in texts["long_lines"]
    first = texts["words"].split("\n")[0]
    assert first != ENGLISH.split("\n")[0] and sorted(first.split()) == sorted(ENGLISH.split("\n")[0].split())
    assert texts["first_half"] + texts["second_half"] == ENGLISH and texts["lower"] == ENGLISH.lower()


def test_the_draw_of_a_mixture_is_of_its_generator() -> None:
    assert made.mixed(ENGLISH, CODE, 0.5, random.Random(1)) != made.mixed(ENGLISH, CODE, 0.5, random.Random(2))
