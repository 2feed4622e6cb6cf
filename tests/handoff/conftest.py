"""What the tests of every exporter may use: each case of `recipes` as a recipe file, a recipe of muP, its handoff."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scalelab.exporters import Handoff
from scalelab.recipe import Recipe, write_recipe
from scalelab.spec import RunSpec
from tests.handoff import recipes


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """At these sizes more threads take longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=recipes.CASES)
def spec(request: pytest.FixtureRequest) -> RunSpec:
    """Each of `recipes.CASES` in turn."""
    return recipes.case(request.param)


@pytest.fixture(scope="session")
def mup() -> Handoff:
    """The plainest case."""
    return recipes.handoff_of(recipes.case("mup"))


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """The plainest case, as a recipe."""
    return recipes.recipe_of(recipes.case("mup"))


@pytest.fixture
def recipe_file(tmp_path: Path, recipe: Recipe) -> Path:
    """The same in a file."""
    write_recipe(recipe, tmp_path / "recipe.yaml")
    return tmp_path / "recipe.yaml"
