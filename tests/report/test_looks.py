"""What figures are drawn with can be seen: on paper, on screens, and by colour-blind people."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from scalelab.laws.draw.style import GROUP_COLOURS, MARKERS, colours, distinct

# Machado, Oliveira & Fernandes 2009, severity 1, on linear sRGB.
SEEN = {
    "everybody": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
LEAST_CONTRAST = 3.0  # of graphics on white, WCAG 2.1 criterion 1.4.11
TOLD_APART = 10.0  # of CIELAB's distance; about 2 are just seen side by side


def linear(colour: object) -> np.ndarray:
    encoded: np.ndarray = np.array(to_rgb(colour))  # type: ignore[arg-type]
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def luminance(colour: object) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def lab(colour: object, seen: str) -> np.ndarray:
    """CIELAB of a colour as somebody sees it."""
    shown = np.clip(np.array(SEEN[seen]) @ linear(colour), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in to_xyz @ shown / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def closest(given: list[object], seen: str) -> float:
    return min(float(np.linalg.norm(lab(a, seen) - lab(b, seen))) for a, b in itertools.combinations(given, 2))


@pytest.mark.parametrize("colour", [*GROUP_COLOURS, *map(tuple, colours(6))])
def test_lines_stand_out_from_white(colour: object) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= LEAST_CONTRAST


def test_an_order_is_one_of_lightness_too() -> None:
    lightness = [luminance(colour) for colour in colours(9)]
    assert lightness == sorted(lightness) and lightness[-1] > 0.2


@pytest.mark.parametrize("seen", SEEN)
def test_sizes_and_the_first_kinds_are_told_apart(seen: str) -> None:
    assert closest(list(colours(6)), seen) > TOLD_APART
    assert closest(list(GROUP_COLOURS[:5]), seen) > TOLD_APART


def test_a_kind_has_a_marker_and_a_dash_beside_its_colour() -> None:
    kinds = [distinct(place) for place in range(len(GROUP_COLOURS))]
    assert len({marker for _, marker, _ in kinds}) == len(MARKERS) == len(kinds)
    assert len({str(dash) for _, _, dash in kinds[:5]}) == 5
