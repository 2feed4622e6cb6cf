"""Whatever the table, an answer or one line that says what to do; and no certainty where the data have none.

Tables are generated: a sweep, from which columns are dropped, to which bad values, duplicates and divergence are added,
whose scales are made one, or to rise together. Warnings are errors here, so that arithmetic on nonsense shows.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.laws import study
from scalelab.laws.fitted import Estimate
from scalelab.laws.forms import LAWS
from scalelab.laws.one import fit
from scalelab.laws.study import Laws
from tests.laws.synthetic import Grid

LONGEST = 400  # characters of a refusal
NARROW = 0.1  # of an exponent: the width of an interval that a good sweep of several cells has
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MORE = settings(FEW, max_examples=80)
LOSS_LAWS = ("chinchilla", "kaplan", "kaplan_size", "kaplan_data", "asymptote", "gadre", "three_term", "muennighoff")
OTHER_LAWS = ("step_law_lr", "step_law_batch", "conditional_lr", "power_lines_tau", "power_width", "minicpm_batch")
BAD_VALUES = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-320, 1e300, "words", None, True)


def sweep(seed: int, *, cells: int, lrs: int, batches: int = 1, noise: float = 0.003) -> pd.DataFrame:
    """A small sweep of up to six cells."""
    sizes = ((3e7, 2e9), (1e8, 2e9), (3e7, 8e9), (1e8, 8e9), (3e8, 8e9), (3e8, 2e9))[:cells]
    found = Grid(
        cells=sizes, lr_octaves=range(-(lrs // 2), lrs - lrs // 2), noise=noise, batch_octaves=range(batches)
    ).draw(np.random.default_rng(seed))  # fmt: skip
    return found.assign(
        run=[f"run{n}" for n in range(len(found))],
        weight_decay=0.1,
        width=np.sqrt(found["params_non_embedding"] / 48).round(),
    )


Change = Any  # table → table


def dropped(columns: list[str]) -> Change:
    return lambda table: table.drop(columns=[name for name in columns if name in table])


def spoiled(column: str, row: int, value: Any) -> Change:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        if column not in table:
            return table
        table = table.astype({column: object})
        table.iloc[row % len(table), table.columns.get_loc(column)] = value
        return table

    return change


def one_value(column: str) -> Change:
    return lambda table: table.assign(**{column: table[column].iloc[0]}) if column in table else table


def tied(table: pd.DataFrame) -> pd.DataFrame:
    """Tokens at twenty a parameter."""
    return table.assign(tokens=20 * table["params_non_embedding"]) if "params_non_embedding" in table else table


def mixed_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Some rows count parameters with embeddings and some without."""
    if "params_non_embedding" not in table:
        return table
    half = np.arange(len(table)) % 2 == 0
    count = table["params_non_embedding"]
    return table.assign(params_non_embedding=count.where(half), params_total=count.where(~half))


def with_outcome(outcome: str, every: int) -> Change:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        ended = np.where(np.arange(len(table)) % every == 0, outcome, "OK")
        lost = ended != "OK"
        loss = table["loss_nats"].where(~lost, np.nan) if "loss_nats" in table else np.nan
        return table.assign(outcome=ended, loss_nats=loss)

    return change


def edge(table: pd.DataFrame) -> pd.DataFrame:
    """Losses that fall with the learning rate to the end of every grid."""
    return (
        table.assign(loss_nats=3.0 + 0.1 * table["lr"].rank(pct=True)) if {"lr", "loss_nats"} <= set(table) else table
    )


def copied(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.iloc[:3]])


def level(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(loss_nats=3.0)


COLUMNS = ("params_non_embedding", "tokens", "batch_tokens", "lr", "seed", "loss_nats", "run", "weight_decay", "width")
CHANGES = st.one_of(
    st.lists(st.sampled_from(COLUMNS), max_size=4).map(dropped),
    st.builds(spoiled, st.sampled_from(COLUMNS), st.integers(0, 60), st.sampled_from(BAD_VALUES)),
    st.sampled_from(COLUMNS).map(one_value),
    st.sampled_from([tied, mixed_counts, edge, copied, level]),
    st.builds(with_outcome, st.sampled_from(["DIVERGED", "FAILED"]), st.sampled_from([1, 2, 3, 7])),
    st.integers(0, 12).map(lambda rows: lambda table: table.iloc[:rows]),
)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    table = sweep(
        draw(st.integers(0, 5)), cells=draw(st.integers(1, 5)), lrs=draw(st.integers(1, 5)),
        batches=draw(st.sampled_from([1, 1, 3])), noise=draw(st.sampled_from([0.0, 0.003, 0.3])),
    )  # fmt: skip
    for change in draw(st.lists(CHANGES, max_size=3)):
        if len(table) and "loss_nats" in table:
            table = change(table)
    return table


def in_one_line(refusal: Refused) -> None:
    text = str(refusal)
    assert "\n" not in text
    assert 15 < len(text) < LONGEST, text


def sound(found: Laws) -> None:
    """Numbers that are numbers, in intervals that hold them, and none of them narrow on two scales."""
    for group in found.groups:
        fits = [*group.loss_fits.values(), *group.lr_fits.values()]
        estimates = [e for fit in fits for e in fit.estimates.values()]
        for e in [*estimates, *(group.joint.estimates.values() if group.joint is not None else ())]:
            orderly(e)
        if group.joint is not None and group.joint.n_cells <= 2:
            for name, e in group.joint.estimates.items():
                if " ~ " in name and "curvature" not in name and "batch_tokens" not in name.split(" ~ ")[1]:
                    assert e.high - e.low > NARROW, name


def orderly(e: Estimate) -> None:
    assert not np.isnan([e.value, e.low, e.high, e.sd]).any()
    assert e.low <= e.value * (1 + 1e-6) + 1e-9 and e.value <= e.high * (1 + 1e-6) + 1e-9


@FEW
@given(tables())
def test_a_study_answers_or_refuses_in_one_line(table):
    try:
        sound(study(table, draws=100))
    except Refused as refusal:
        in_one_line(refusal)


@MORE
@given(tables(), st.sampled_from([*LOSS_LAWS, *OTHER_LAWS]))
def test_a_fit_answers_or_refuses_in_one_line(table, law):
    try:
        found = fit(table, law, draws=100)
    except Refused as refusal:
        in_one_line(refusal)
        return
    assert found.n > len(LAWS[law].parameters)
    for e in found.estimates.values():
        orderly(e)
    at = {name: found.domain[name][1] for name in found.reference}
    predicted = found.predict(**at)
    assert predicted.low <= predicted.high and np.isfinite(predicted.value)


@pytest.mark.parametrize("law", LOSS_LAWS)
@pytest.mark.parametrize("value", [1e-320, 1e300])
@pytest.mark.parametrize("column", ["params_non_embedding", "tokens", "loss_nats"])
def test_values_at_the_ends_of_floating_point_are_no_accident(law, column, value):
    table = spoiled(column, 3, value)(sweep(0, cells=5, lrs=3))
    try:
        fit(table, law, draws=100)
    except Refused as refusal:
        in_one_line(refusal)


def test_batches_that_differ_without_a_valley_are_compared_at_the_reference():
    """Two batches a cell: the two-stage law depends on the batch, of which the joint fit finds no best."""
    found = study(sweep(0, cells=4, lrs=5, batches=2), draws=100)
    (group,) = found.groups
    assert group.joint is not None and set(group.joint.coordinates) == {"lr"}
    assert group.validation is not None
    sound(found)


@pytest.mark.parametrize("lrs", [3, 5])
@pytest.mark.parametrize("cells", [1, 2])
def test_one_or_two_scales_never_give_a_narrow_exponent(cells, lrs):
    table = sweep(1, cells=cells, lrs=lrs, noise=0.0)
    if cells == 1:
        with pytest.raises(Refused, match="one scale only"):
            study(table, draws=100)
        return
    (group,) = study(table, draws=100).groups
    assert group.loss_fits == {}
    for fitted in group.lr_fits.values():
        wide = [e.high - e.low for name, e in fitted.estimates.items() if name in ("width", "params_non_embedding")]
        assert all(width > NARROW or width == 0 for width in wide)  # 0 is the law that holds the exponent
    assert group.joint is not None
    (size,) = [name for name in group.joint.estimates if name in ("lr ~ width", "lr ~ params_non_embedding")]
    assert group.joint.estimates[size].high - group.joint.estimates[size].low > NARROW


def test_a_single_learning_rate_a_scale_gives_no_law_of_it():
    """A ladder of sizes at one learning rate each is for loss laws alone."""
    table = sweep(1, cells=5, lrs=1).assign(lr=lambda t: 2.0**-8 * (1e8 / t["params_non_embedding"]) ** 0.5)
    (group,) = study(table, draws=100).groups
    assert group.lr_fits == {} and group.joint is None and group.optima == []
    with pytest.raises(Refused) as refusal:
        fit(table, "step_law_lr", draws=100)
    in_one_line(refusal.value)


@pytest.mark.parametrize("law", ["chinchilla", "kaplan", "gadre"])
def test_sizes_and_tokens_that_rise_together_are_not_told_apart(law):
    table = sweep(1, cells=5, lrs=3).drop_duplicates(["params_non_embedding", "lr"])
    with pytest.raises(Refused, match=r"rise together|needs tokens_per_param to vary"):
        fit(tied(table), law, draws=100)


def test_more_parameters_than_runs_are_refused():
    with pytest.raises(Refused, match="needed are more of them than parameters"):
        fit(sweep(1, cells=5, lrs=1), "chinchilla", draws=100)


def test_a_law_without_starting_points_is_refused():
    bare = replace(LAWS["chinchilla"], name="bare", starts=None)
    with pytest.raises(Refused, match="bare has no starting points"):
        fit(sweep(1, cells=8, lrs=3), bare, draws=100)
