"""Figures of the checks that fit lines: a quantity against size, both in octaves, a line a quantity."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from scalelab.laws.draw.style import distinct
from scalelab.plots import figure

if TYPE_CHECKING:
    from scalelab.probe import GradientCheck, Laziness, Spectrum, Stability


def gradient_check(found: "GradientCheck") -> Figure:
    """Gradients (solid) and eps (dashed) of each class, each from its value at the smallest size."""
    measured = [(each, each.slope) for each in found.classes if each.slope is not None]
    named = {f"{each.label} {slope:+.2f}, eps {each.eps_exponent:+.2f}": each for each, slope in measured}
    lines = {label: each.gradient for label, each in named.items()}
    dashed = {label: each.eps for label, each in named.items()}
    verdict = "follows" if found.passed else "does NOT follow"
    title = f"{found.parametrization}: eps {verdict} its gradients in {found.axis}"
    return _lines(title, found.axis, found.values, lines, dashed)


def lazy(found: "Laziness") -> Figure:
    """Each kind of branch's departure from linear, from its value at the smallest size."""
    lines = {f"{each.branch} {each.slope:+.2f}": np.mean(each.departure, axis=1).tolist() for each in found.branches}
    said = "no branch becomes lazy" if found.passed else "branches become lazy"
    return _lines(f"{found.parametrization}: {said} in {found.axis}", found.axis, found.values, lines, {})


def stability(found: "Stability") -> Figure:
    """Each diagnostic from its value at the smallest size, the exponents in the legend."""
    lines = {f"{each.quantity} {each.exponent.value:+.2f}": each.sizes for each in found.growths}
    return _lines(f"Stability of {found.parametrization} in {found.axis}", found.axis, found.values, lines, {})


def spectrum(found: "Spectrum") -> Figure:
    """The last top singular value of each matrix from its value at the smallest width."""
    lines = {f"{each.name} {each.slope:+.2f}": each.top[:, :, -1].mean(axis=1).tolist() for each in found.matrices}
    title = f"σ1 under {found.parametrization}, weight decay {found.weight_decay_policy}"
    return _lines(title, "width", found.values, lines, {})


def _lines(
    title: str,
    axis: str,
    values: Sequence[int],
    solid: Mapping[str, Sequence[float]],
    dashed: Mapping[str, Sequence[float]],
) -> Figure:
    drawn, (panel,) = figure(1, width=7.0, height=4.2)
    for index, (label, sizes) in enumerate(solid.items()):
        colour, marker, _ = distinct(index)
        panel.plot(
            np.log2(values), np.log2(np.array(sizes) / sizes[0]), "-", marker=marker, ms=4, color=colour, label=label
        )
        if label in dashed:
            panel.plot(np.log2(values), np.log2(np.array(dashed[label]) / dashed[label][0]), "--", color=colour)
    panel.set(title=title, xlabel=f"log2 {axis}", ylabel="octaves from the smallest size")
    panel.legend(fontsize=6, ncols=2 if len(solid) > 8 else 1)
    return drawn
