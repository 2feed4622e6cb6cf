"""The figures of a study: the right panels, labels and lines; bounds as arrows; no more panels than can be read."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from scalelab import plots
from scalelab.errors import Refused
from scalelab.laws import Laws, study
from scalelab.plots.named import independent, titles
from scalelab.plots.valleys import LOST, MOST_PANELS, OPTIMA
from tests.laws.sweeps import sweep
from tests.laws.test_draw import ladder

WIDE, NARROW = tuple(range(-10, -3)), tuple(range(-10, -7))


def grid(sizes: int, horizons: int, batches: int) -> pd.DataFrame:
    """Sizes × tokens × batches × learning rates: lr* = 2^-7 (N/1e7)^-0.5 (B/1e5)^0.5, B* = 1e5 (D/1e9)^0.5."""
    rng = np.random.default_rng(0)
    rows = []
    for n, d, b in itertools.product(range(sizes), range(horizons), range(batches)):
        size, tokens, batch = 1e7 * 2.0**n, 1e9 * 2.0**d, 2.0**15 * 4.0**b
        best = -7 - 0.5 * np.log2(size / 1e7) + 0.5 * np.log2(batch / 1e5)
        off = np.log2(batch / (1e5 * np.sqrt(tokens / 1e9)))
        for x in range(-11, -3):
            loss = 2 + 3 * (size / 1e7) ** -0.3 + (tokens / 1e9) ** -0.3 + 0.03 * (x - best) ** 2 + 0.01 * off**2
            rows.append((size, tokens, batch, 2.0**x, loss + 0.002 * rng.standard_normal()))
    return pd.DataFrame(rows, columns=["params_non_embedding", "tokens", "batch_tokens", "lr", "loss_nats"])


@pytest.fixture(scope="module")
def censored() -> tuple[Laws, pd.DataFrame]:
    """Two parametrizations; under sp the smallest width's optimum is above its grid and the next one's below."""
    mup = sweep(np.random.default_rng(0), seeds=2)
    sp = sweep(np.random.default_rng(1), seeds=2, centre=-5.0, exponent=-1.0, parametrization="sp")
    above, below = (sp["width"] == 128) & (sp["lr"] > 2**-6.5), (sp["width"] == 256) & (sp["lr"] < 2**-5.5)
    runs = pd.concat([mup, sp[~above & ~below]], ignore_index=True)
    hot = (runs["width"] == 1024) & (runs["lr"] > 2**-4.5)
    runs = runs.assign(loss_nats=runs["loss_nats"].mask(hot), outcome=runs["outcome"].mask(hot, "DIVERGED"))
    return study(runs, draws=100), runs


@pytest.fixture(scope="module")
def batched() -> tuple[Laws, pd.DataFrame]:
    runs = grid(2, 7, 3)
    return study(runs, draws=100), runs


def caps(axis: Axes) -> set[str]:
    """Markers at the ends of the error bars of an axis."""
    return {str(cap.get_marker()) for bar in axis.containers for cap in bar.lines[1]}  # type: ignore[attr-defined]


def shown(axis: Axes, what: str) -> list[tuple[float, float]]:
    """The points of a kind on an axis."""
    return [
        (float(x), float(y))
        for held in axis.collections if held.get_gid() == what
        for x, y in np.asarray(held.get_offsets(), dtype=float)
    ]  # fmt: skip


def png(figure: Figure) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, dpi=40)
    return held.getvalue()


def test_valleys_have_a_panel_a_group_and_a_colour_a_width(censored: tuple[Laws, pd.DataFrame]) -> None:
    laws, runs = censored
    axes = plots.valleys(laws, runs).axes
    assert [axis.get_title() for axis in axes] == ["mup, adamw", "sp, adamw"]
    for axis, group in zip(axes, laws.groups, strict=True):
        named = [text.get_text() for text in axis.get_legend().get_texts()]  # type: ignore[union-attr]
        assert named == ["width = 128", "width = 256", "width = 512", "width = 1024"]
        assert len(shown(axis, OPTIMA)) == sum(optimum.status == "INTERIOR" for optimum in group.optima)
        assert axis.get_xscale() == "log" and axis.get_xlabel() == "peak learning rate"
        assert len(shown(axis, LOST)) == group.n_diverged == 2


def test_valleys_of_many_scales_are_limited_and_say_so(batched: tuple[Laws, pd.DataFrame]) -> None:
    figure = plots.valleys(*batched)
    assert len(figure.axes) == MOST_PANELS and figure.get_suptitle() == f"{MOST_PANELS} of 14 scales"
    shown = [axis.get_title() for axis in figure.axes]
    assert shown[0] == "N = 10M, D = 1B" and shown[-1] == "N = 20M, D = 64B"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["B = 32.8k", "B = 131k", "B = 524k"]


def test_bounds_are_arrows_and_optima_points(censored: tuple[Laws, pd.DataFrame]) -> None:
    laws, _ = censored
    statuses = {optimum.status for group in laws.groups for optimum in group.optima}
    assert statuses == {"INTERIOR", "AT_OR_ABOVE", "AT_OR_BELOW"}
    (axis,) = plots.optimum_against_scale(laws).axes
    arrows = {8, 9, 10, 11} & {int(cap) for cap in caps(axis) if cap.lstrip("-").isdigit()}
    assert len(arrows) == 2  # one up, one down
    assert axis.get_yscale() == axis.get_xscale() == "log"
    named = [text.get_text() for text in axis.get_legend().get_texts()]  # type: ignore[union-attr]
    for group, name in zip(laws.groups, titles(laws), strict=True):
        assert group.joint is not None
        e = group.joint.estimates["lr ~ width"]
        assert f"{name}: lr ∝ width^{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]" in named


def test_batches_have_panels_of_their_own(batched: tuple[Laws, pd.DataFrame]) -> None:
    laws, _ = batched
    axes = plots.optimum_against_scale(laws).axes
    assert [axis.get_ylabel() for axis in axes] == ["optimal peak learning rate"] * 2 + ["optimal batch (tokens)"] * 2
    assert all("non-embedding" in axes[k].get_xlabel() and "tokens D" in axes[k + 1].get_xlabel() for k in (0, 2))
    bands = [held for held in axes[3].collections if isinstance(held, PolyCollection)]
    assert len(bands) == 2 and "D^" in axes[3].get_title()  # of the smallest and the largest size


def test_independent_scales_are_those_that_others_do_not_imply() -> None:
    cells = [{"width": w, "depth": 4.0, "params": 48 * w**2 + w, "tokens": 20 * 48 * w**2} for w in (64, 128, 256)]
    assert independent(cells) == ["width"]
    assert independent([{**cell, "batch_tokens": b} for cell in cells for b in (1e4, 1e5)]) == ["width", "batch_tokens"]
    assert independent([]) == [] and independent(cells[:1]) == []


def test_groups_that_share_a_title_are_told_apart() -> None:
    runs = pd.concat([sweep(np.random.default_rng(0), seeds=1, data=data) for data in ("c4", "$pile$")])
    laws = study(runs.reset_index(drop=True), draws=100)
    assert titles(laws) == ["mup, adamw, $pile$", "mup, adamw, c4"]
    png(plots.valleys(laws, runs.reset_index(drop=True)))  # dollars are text


def test_a_ladder_has_its_loss_law_and_no_valleys() -> None:
    runs = ladder()
    laws = study(runs, draws=100, laws=["chinchilla", "kaplan"])
    drawn = {drawing.name: drawing.figure for drawing in plots.drawings(laws, runs)}
    assert {"loss_law", "loss_pairs"} <= set(drawn) and not {"valleys", "optimum", "optimum_pairs"} & set(drawn)
    curve, observed, residual = drawn["loss_law"].axes
    assert "chinchilla" in curve.get_title() and observed.get_title().startswith("R² 0.99")
    named = [text.get_text() for text in residual.get_legend().get_texts()]  # type: ignore[union-attr]
    assert [name.split(":")[0] for name in named] == list(laws.groups[0].loss_fits)
    for draw in (plots.valleys, lambda found, _: plots.optimum_against_scale(found)):
        with pytest.raises(Refused, match="no group has a swept learning rate"):
            draw(laws, runs)


def test_isoflops_star_every_budget_with_its_best_size_inside() -> None:
    rows = []
    for budget in (1e18, 4e18, 1.6e19):
        for size in np.geomspace(1e7, 1e9, 9) * np.sqrt(budget / 4e18):
            tokens = budget / (6 * size)
            rows.append((size, tokens, budget, 1.7 + 400 / size**0.34 + 410 / tokens**0.28))
    runs = pd.DataFrame(rows, columns=["params_total", "tokens", "cost_flops", "loss_nats"])
    left, right = plots.isoflops(runs).axes
    assert sum(line.get_marker() == "*" for line in left.lines) == 3
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["C = 1e18", "C = 4e18", "C = 1.6e19"]  # type: ignore[union-attr]
    assert right.get_title().startswith("N* ∝ C^0.4") and right.get_xlabel() == "training FLOPs C"


def test_what_was_held_out_and_varied_is_drawn(censored: tuple[Laws, pd.DataFrame]) -> None:
    laws, _ = censored
    validated = [group.validation for group in laws.groups if group.validation is not None]
    for axis, found in zip(plots.hold_outs(laws).axes, validated, strict=True):
        assert [text.get_text() for text in axis.get_yticklabels()] == [score.method for score in found.scores]
        filled = [float(np.asarray(line.get_xdata())[0]) for line in axis.lines if line.get_markersize() == 6
                  and line.get_marker() == "o"]  # fmt: skip
        assert filled == [score.mean_percent for score in found.scores]
    cards = [card for group in laws.groups for card in group.cards if len(card.variations) > 1]
    for axis, card in zip(plots.sensitivities(laws).axes, cards, strict=True):
        assert [text.get_text() for text in axis.get_yticklabels()] == [v.choice for v in card.variations[1:]]


def test_the_same_study_gives_the_same_figures(censored: tuple[Laws, pd.DataFrame]) -> None:
    one, other = (plots.drawings(*censored) for _ in range(2))
    assert [drawing.name for drawing in one] == [drawing.name for drawing in other]
    assert {"valleys", "optimum", "hold_out", "loss_law_1", "loss_law_2"} <= {drawing.name for drawing in one}
    assert all(png(a.figure) == png(b.figure) for a, b in zip(one, other, strict=True))
