"""How every figure looks: fonts, colours, panels, and log axes labelled as the field labels them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from scalelab.laws.columns import PARAMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_TICKS = 6
OCTAVES = ("lr", "tau", "lr_decay", "width", "depth", "experts", "streams")  # swept in powers of two
# Of kinds, which have no order: 3:1 against white at least, the first five told apart by colour-blind people too (after
# Okabe & Ito). A marker and a dash stand beside each, since no ten colours are.
GROUP_COLOURS = (
    "#0072B2", "#D55E00", "#222222", "#A0458A", "#007D5C", "#8A6A00", "#C0204F", "#4B5FD0", "#5C8A00", "#7A4B1E",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2, 1, 2)))
LIGHTEST = 0.68  # of the map of what has an order: the lightest that is 3:1 against white
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "scalelab",
}

NAMES: dict[str, str] = {
    "params_non_embedding": "non-embedding parameters N",
    "params_total": "parameters N, embeddings included",
    "params_active": "active parameters N",
    "params": "parameters N",
    "tokens": "training tokens D",
    "unique_tokens": "unique tokens U",
    "batch_tokens": "batch B (tokens)",
    "lr": "peak learning rate",
    "loss_nats": "loss (nats/token)",
    "cost_flops": "training FLOPs C",
    "tau": "AdamW time scale τ (runs)",
    "weight_decay": "weight decay",
    "tokens_per_param": "tokens per parameter",
    "steps": "steps",
}
SYMBOLS: dict[str, str] = {
    **dict.fromkeys(PARAMS, "N"),
    "tokens": "D",
    "unique_tokens": "U",
    "batch_tokens": "B",
    "cost_flops": "C",
    "tau": "τ",
    "weight_decay": "λ",
}


def figure(columns: int, *, width: float = 4.6, height: float = 3.6) -> tuple[Figure, list["Axes"]]:
    """A figure of panels side by side, made without pyplot's global state."""
    return panels(columns, columns=columns, width=width, height=height)


def panels(count: int, *, columns: int, width: float = 3.2, height: float = 2.8) -> tuple[Figure, list["Axes"]]:
    """A figure of `count` panels, row by row; places left over stay empty."""
    across = max(min(count, columns), 1)
    down = max(math.ceil(count / across), 1)
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(width * across, height * down), layout="constrained")
        axes = list(drawn.subplots(down, across, squeeze=False).ravel())
    for axis in axes[max(count, 1) :]:
        axis.remove()
    return drawn, axes[: max(count, 1)]


def colours(count: int) -> list[Any]:
    """Dark to light along a scale, as far as it can be seen on white."""
    return [mpl.colormaps["magma"](at) for at in np.linspace(0.0, LIGHTEST, max(count, 1))]


def distinct(place: int) -> tuple[str, str, Any]:
    """Colour, marker and dash of one of several kinds."""
    return tuple(each[place % len(each)] for each in (GROUP_COLOURS, MARKERS, DASHES))


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly, the first and the last among them.

    >>> spread([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    places = np.round(np.linspace(0, len(values) - 1, min(len(values), most))).astype(int)
    return [values[place] for place in np.unique(places)]


def label(name: str) -> str:
    """What stands at an axis."""
    return NAMES.get(name, name.replace("_", " "))


def short(value: float) -> str:
    """A count as people say it.

    >>> [short(x) for x in (128, 65536, 214663680, 4e9, 3e19, 0.25)]
    ['128', '65.5k', '215M', '4B', '3e19', '0.25']
    """
    if value >= 1e15:
        return f"{value:.2g}".replace("e+", "e")
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e4)):
        if value >= size * 0.9995:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:.4g}"


def at(name: str, value: float) -> str:
    """A value of a scale in a title or a legend.

    >>> at("tokens", 4e9)
    'D = 4B'
    """
    return f"{SYMBOLS.get(name, name.replace('_', ' '))} = {short(value)}"


def plain(text: str) -> str:
    """Somebody's text, which matplotlib must not read as a formula."""
    return text.replace("$", r"\$")


def log_axis(axes: "Axes", which: Literal["x", "y"], name: str, *, named: bool = True) -> None:
    """Make an axis logarithmic after everything is drawn on it, with few round ticks and the quantity's name."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=2 if name in OCTAVES else 10)
    low, high = sorted(axis.get_view_interval())
    values, words = ticks(name, float(low), float(high))
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FixedFormatter(words))
    axis.set_minor_locator(NullLocator())
    if named:
        (axes.set_xlabel if which == "x" else axes.set_ylabel)(label(name))


def ticks(name: str, low: float, high: float) -> tuple[list[float], list[str]]:
    """Round values between two limits of a log axis, at most seven, and what is written at them.

    >>> ticks("lr", 2**-9.5, 2**-5.5)[1]
    ['$2^{-9}$', '$2^{-8}$', '$2^{-7}$', '$2^{-6}$']
    >>> ticks("tokens", 2e9, 1.2e11)[1]
    ['2B', '5B', '10B', '20B', '50B', '100B']
    """
    if name in OCTAVES and high / low >= 4:
        first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
        powers = range(first, last + 1, math.ceil((last - first + 1) / (FEW_TICKS + 1)))
        values = [2.0**power for power in powers]
        return values, [short(v) if v >= 1 else f"$2^{{{p}}}$" for v, p in zip(values, powers, strict=True)]
    if high / low >= 10:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            values = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
            if len(values) <= FEW_TICKS:
                return values, [written(value) for value in values]
        values = values[:: math.ceil(len(values) / FEW_TICKS)]
        return values, [written(value) for value in values]
    values = [float(v) for v in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= v <= high]
    return values, [written(value) for value in values]


def written(value: float) -> str:
    """A tick: a count with its unit, powers of ten where that is longer."""
    if 1e-3 <= value < 1e15:
        return short(value)
    power = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10.0**power, 3)
    return f"$10^{{{power}}}$" if factor == 1 else f"${factor:g}{{\\times}}10^{{{power}}}$"
