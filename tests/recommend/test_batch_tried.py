"""Batches that were swept and of which the smallest was best: there is no valley, and they were tried all the same."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from scalelab.laws import Laws, study
from scalelab.readers import read
from scalelab.recipe import Recipe, Value
from scalelab.recommend import recommend
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.helpers import write_trial

BATCHES = (64, 128, 256)


def runs() -> Iterator[tuple[RunSpec, float]]:
    for width in (32, 64, 96):
        for batch in BATCHES:
            for log2_lr in range(-8, -3):
                spec = make_spec(width=width, tokens=20480)
                horizon, hparams = (
                    replace(spec.horizon, batch_tokens=batch),
                    replace(spec.hparams, lr=2.0**log2_lr),
                )
                at = replace(spec, horizon=horizon, hparams=hparams)
                yield at, 3.0 - width / 400 + batch / 1000 + 0.05 * (log2_lr + 6) ** 2


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Laws:
    folder = tmp_path_factory.mktemp("edge")
    for spec, nats in runs():
        write_trial(folder, spec, nats)
    found = read([folder])
    laws = study(found.table, draws=100)
    return replace(laws, template=found.template, sources=list(found.sources))


def batch_of(recipe: Recipe) -> Value:
    (said,) = (value for value in recipe.values if value.name == "batch_tokens")
    return said


def test_the_best_of_those_tried_is_taken_and_said_to_be_an_edge(edge: Laws) -> None:
    recipe = recommend(edge, {"width": 128})
    said = batch_of(recipe)
    assert recipe.target["batch_tokens"] == said.value == BATCHES[0]
    assert "64: 2.8" in said.rests_on and "the smallest: smaller ones may be better" in said.rests_on
    assert "no batch was swept" not in said.rests_on
    assert any("what another batch would gain is not in them" in warning for warning in recipe.warnings)


def test_one_that_is_asked_for_stays_and_the_best_is_named(edge: Laws) -> None:
    recipe = recommend(edge, {"width": 128, "batch_tokens": BATCHES[1]})
    assert recipe.target["batch_tokens"] == BATCHES[1]
    assert batch_of(recipe).rests_on.startswith("as asked: the best of those tried at the largest scale (64: ")
