"""Figures of one fit hold what the fit holds: every residual, every draw, the curve and where its domain ends."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import Fit, fit
from scalelab.laws.draw import pairs_of
from scalelab.laws.draw.rows import seen
from scalelab.laws.draw.style import at, plain, ticks


def ladder(noise: float = 0.002) -> pd.DataFrame:
    """Chinchilla's law over sizes and tokens, a run each."""
    rng = np.random.default_rng(0)
    size, tokens = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 5)))
    loss = (1.7 + 400 / size**0.34 + 410 / tokens**0.28) * np.exp(noise * rng.standard_normal(len(size)))
    return pd.DataFrame({"params_non_embedding": size, "tokens": tokens, "loss_nats": loss})


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return ladder()


@pytest.fixture(scope="module")
def fitted(rows: pd.DataFrame) -> Fit:
    return fit(rows, "chinchilla", draws=200)


def test_residuals_stand_against_the_fitted_value_and_every_input(fitted: Fit, rows: pd.DataFrame) -> None:
    figure = fitted.plot_residuals(rows=rows)
    assert len(figure.axes) == 3
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert labels == ["fitted loss (nats/token)", "non-embedding parameters N", "training tokens D"]
    expected = 100 * np.expm1(np.array(fitted.residuals) * np.log(2))
    for axis in figure.axes:
        (dots,) = [line for line in axis.lines if line.get_marker() == "o"]
        assert np.allclose(np.asarray(dots.get_ydata()), expected, atol=1e-9)
    assert figure.axes[0].get_ylabel() == "residual (% of the fitted)"


def test_residuals_without_rows_are_drawn_in_order_and_against_a_normal(fitted: Fit) -> None:
    order, normal = fitted.plot_residuals().axes
    assert len(order.lines[-1].get_ydata()) == len(normal.lines[-1].get_ydata()) == fitted.n


def test_rows_that_lack_an_input_are_refused(fitted: Fit, rows: pd.DataFrame) -> None:
    with pytest.raises(Refused, match="lack tokens"):
        fitted.plot_residuals(rows=rows.drop(columns="tokens"))


def test_the_curve_is_dashed_beyond_the_domain_and_has_a_line_for_some_values_of_the_other_input(
    fitted: Fit, rows: pd.DataFrame
) -> None:
    (axis,) = fitted.plot_curve(rows=rows, over="tokens").axes
    solid = [line for line in axis.lines if line.get_linestyle() == "-"]
    dashed = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert len(solid) == len(dashed) == 5
    assert all(np.max(np.asarray(line.get_xdata())) <= 1e11 * (1 + 1e-9) for line in solid)
    assert all(np.max(np.asarray(line.get_xdata())) == pytest.approx(4e11) for line in dashed)
    named = [text.get_text() for text in axis.get_legend().get_texts()]
    assert named[0] == "N = 10M" and named[-1] == "N = 1B"
    assert len(axis.collections[0].get_offsets()) == len(rows)
    value = fitted.predict(params=1e7, tokens=1e9).value
    assert np.asarray(solid[0].get_ydata())[0] == pytest.approx(value)


def test_an_unknown_input_of_a_curve_is_refused(fitted: Fit) -> None:
    with pytest.raises(Refused, match="unknown input 'token'"):
        fitted.plot_curve(over="token")


def test_pairs_show_every_draw_with_the_point_and_correlations(fitted: Fit) -> None:
    figure = fitted.plot_parameters()
    count = len(fitted.estimates)
    assert len(figure.axes) == count**2
    a, alpha = fitted.draws["A"], fitted.draws["alpha"]
    names = list(fitted.estimates)
    below = figure.axes[names.index("alpha") * count + names.index("A")]
    assert np.allclose(np.asarray(below.lines[0].get_xdata()), a)
    assert np.allclose(np.asarray(below.lines[0].get_ydata()), alpha)
    assert float(np.asarray(below.lines[1].get_xdata())[0]) == fitted.estimates["A"].value
    above = figure.axes[names.index("A") * count + names.index("alpha")]
    assert float(above.texts[0].get_text()) > 0.9  # A and alpha trade off


def test_pairs_leave_out_what_does_not_vary_and_say_what_was_cut() -> None:
    draws = {name: tuple(np.random.default_rng(k).normal(size=50)) for k, name in enumerate("abcdefgh")}
    figure = pairs_of(dict.fromkeys("abcdefghi", 0.0), {**draws, "i": (1.0,) * 50}, title="t")
    assert len(figure.axes) == 36 and figure.get_suptitle() == "t (the first 6 of 8 parameters)"
    with pytest.raises(Refused, match="no draws to show"):
        pairs_of({"i": 1.0}, {"i": (1.0,) * 50}, title="t")


def test_residuals_of_rows_are_those_of_the_fit(fitted: Fit, rows: pd.DataFrame) -> None:
    assert np.allclose(seen(fitted, rows).residual_N, fitted.residuals, atol=1e-12)


def test_the_same_fit_gives_the_same_picture(fitted: Fit, rows: pd.DataFrame) -> None:
    def png(figure: Figure) -> bytes:
        held = io.BytesIO()
        figure.savefig(held, dpi=40)
        return held.getvalue()

    assert png(fitted.plot_curve(rows=rows)) == png(fitted.plot_curve(rows=rows))


@pytest.mark.parametrize("low", [1e-7, 3e-3, 0.9, 4e8, 2e19])
@pytest.mark.parametrize("factor", [1.05, 1.7, 3.0, 9.0, 40.0, 1e3, 1e7])
@pytest.mark.parametrize("name", ["lr", "tokens", "width", "cost_flops"])
def test_ticks_are_few_inside_the_limits_and_told_apart(name: str, low: float, factor: float) -> None:
    values, words = ticks(name, low, low * factor)
    assert len(values) <= 7
    assert len(values) >= (2 if factor > 1.5 else 1)
    assert all(low * (1 - 1e-9) <= value <= low * factor * (1 + 1e-9) for value in values)
    assert len(set(words)) == len(words)


def test_text_of_others_is_not_read_as_a_formula() -> None:
    figure = Figure()
    figure.suptitle(plain("a_$b$_{c"))
    figure.savefig(io.BytesIO())
    assert at("weight_decay", 0.1) == "λ = 0.1"
