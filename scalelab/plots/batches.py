"""The best learning rate against the batch: a colour a scale, beside the joint law at each."""

import numpy as np
from matplotlib.figure import Figure

from scalelab.errors import Refused
from scalelab.laws import GroupLaws, Laws
from scalelab.laws.draw.style import at, colours, figure, log_axis, plain, spread
from scalelab.plots.named import titles

MOST_SCALES = 5
STEPS = 24


def optimum_against_batch(laws: Laws) -> Figure:
    """A panel a group whose batches varied: optima with 95 % intervals, the joint law and its band at each scale.

    The band, of the smallest and the largest scale, is for a new scale's own optimum.

    Raises:
        Refused: where no group has a joint law with several batches.
    """
    named = [(group, name) for group, name in zip(laws.groups, titles(laws), strict=True) if len(_batches(group)) > 1]
    if not named:
        raise Refused("no group has optima at two batches or more: give runs with several batch_tokens")
    drawn, panels = figure(len(named), width=6.4, height=4.0)
    for panel, (group, name) in zip(panels, named, strict=True):
        joint = group.joint
        assert joint is not None
        scales = [dict(key) for key in sorted({_scale(o.scale) for o in group.optima})]
        varied = [key for key in scales[0] if len({scale[key] for scale in scales}) > 1]
        shown = spread(scales, MOST_SCALES)
        batches = _batches(group)
        path = np.geomspace(batches[0], batches[-1], STEPS)
        for place, (scale, colour) in enumerate(zip(shown, colours(len(shown)), strict=True)):
            found = [o for o in group.optima if dict(_scale(o.scale)) == scale and o.lr is not None]
            lr = np.array([o.lr for o in found], dtype=float)
            ends = np.array([(o.lr_low or o.lr, o.lr_high or o.lr) for o in found], dtype=float).reshape(-1, 2)
            panel.errorbar(
                [o.scale["batch_tokens"] for o in found], lr, np.abs(ends - lr[:, None]).T, fmt="o", ms=4, lw=0.8,
                color=colour, label=", ".join(at(key, scale[key]) for key in varied) or None,
            )  # fmt: skip
            known = {key: value for key, value in scale.items() if key in joint.domain}
            law = [joint.predict(batch_tokens=float(batch), **known).values["lr"] for batch in path]
            panel.plot(path, [each.value for each in law], color=colour, lw=1.3)
            if place in (0, len(shown) - 1):
                panel.fill_between(
                    path, [each.low for each in law], [each.high for each in law], color=colour, alpha=0.1, lw=0
                )
        panel.set_title(plain(name))
        log_axis(panel, "x", "batch_tokens")
        log_axis(panel, "y", "lr")
        if varied:
            panel.legend(fontsize=7, frameon=False)
    return drawn


def _batches(group: GroupLaws) -> list[float]:
    """The batches at which optima are known, from the smallest; none without a joint law of the learning rate."""
    if group.joint is None or "lr" not in group.joint.coordinates:
        return []
    return sorted({o.scale["batch_tokens"] for o in group.optima if o.lr is not None and "batch_tokens" in o.scale})


def _scale(scale: dict[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple((name, value) for name, value in scale.items() if name != "batch_tokens")
