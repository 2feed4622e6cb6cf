"""The figures: valleys, optima against scale, isoFLOPs, loss laws, checks. Each takes data and returns a Figure.

Conventions of the field: log axes for learning rate and scale, one sequentially coloured line a scale, a star at the
fitted optimum, diverged runs drawn as crosses at the top and not dropped, seeds as thin points.
"""

from scalelab.laws.draw.style import STYLE, colours, figure
from scalelab.plots.batches import optimum_against_batch
from scalelab.plots.confirmed import coordinate_check, target
from scalelab.plots.forest import forest
from scalelab.plots.front import front
from scalelab.plots.isoflops import isoflops
from scalelab.plots.landscapes import landscapes
from scalelab.plots.lines import lines
from scalelab.plots.losses import loss_law, loss_pairs, optimum_pairs
from scalelab.plots.named import title, titles
from scalelab.plots.optima import optimum_against_scale
from scalelab.plots.samplers import sampler_summary, samplers
from scalelab.plots.studied import Drawing, drawings
from scalelab.plots.trust import hold_outs, sensitivities
from scalelab.plots.valleys import valleys

__all__ = [
    "STYLE",
    "Drawing",
    "colours",
    "coordinate_check",
    "drawings",
    "figure",
    "forest",
    "front",
    "hold_outs",
    "isoflops",
    "landscapes",
    "lines",
    "loss_law",
    "loss_pairs",
    "optimum_against_batch",
    "optimum_against_scale",
    "optimum_pairs",
    "sampler_summary",
    "samplers",
    "sensitivities",
    "target",
    "title",
    "titles",
    "valleys",
]
