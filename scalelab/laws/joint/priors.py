"""Weak priors on the exponents: wide enough to hold every published law, and what is left where data say nothing.

A sweep of five cells does not determine eight numbers. Where the runs speak these priors do not matter; where they do
not, the answer is the prior's, its interval is as wide as the literature's disagreement, and the fit says so.
"""

from dataclasses import dataclass

from scalelab.laws.columns import PARAMS


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Normal with `mean` and `sd`; `source` says what it has to hold."""

    mean: float
    sd: float
    source: str


_LR_SIZE = Prior(
    mean=-0.4, sd=0.4,
    source="Step Law −.71 (arXiv:2503.04715), Bjorck −.23 (arXiv:2409.19913), DeepSeek −.13 (arXiv:2401.02954)",
)  # fmt: skip
_BATCH_SIZE = Prior(mean=0.0, sd=0.2, source="Step Law and Power Lines (arXiv:2505.13738): none; DeepSeek .33")

# (what is optimal, what it depends on) → prior of the exponent
EXPONENTS: dict[tuple[str, str], Prior] = {
    **{("lr", name): _LR_SIZE for name in PARAMS},
    ("lr", "width"): Prior(mean=-0.5, sd=0.5, source="muP 0 (arXiv:2203.03466), SP −1 under Adam"),
    ("lr", "depth"): Prior(mean=-0.25, sd=0.4, source="CompleteP 0, depth-muP −½ undone (arXiv:2505.01618)"),
    ("lr", "tokens"): Prior(mean=-0.1, sd=0.3, source="at a given batch: Bjorck −.32, Step Law's runs .03"),
    ("lr", "batch_tokens"): Prior(mean=0.4, sd=0.3, source="none 0, square root ½, linear 1 (arXiv:2405.14578)"),
    ("lr", "experts"): Prior(mean=-0.1, sd=0.3, source="assumed"),
    ("lr", "unique_tokens"): Prior(mean=0.0, sd=0.3, source="assumed"),
    **{("batch_tokens", name): _BATCH_SIZE for name in PARAMS},
    ("batch_tokens", "width"): Prior(mean=0.0, sd=0.4, source="that of parameters, which go like width²"),
    ("batch_tokens", "depth"): Prior(mean=0.0, sd=0.3, source="that of parameters"),
    ("batch_tokens", "tokens"): Prior(mean=0.45, sd=0.2, source="Power Lines .38, Step Law .57, DeepSeek .33 in FLOPs"),
    **{("tau", name): Prior(mean=0.5, sd=0.3, source="Power Lines: τ ∝ (D/N)^−.53") for name in PARAMS},
    ("tau", "width"): Prior(mean=0.5, sd=0.6, source="that of parameters"),
    ("tau", "tokens"): Prior(mean=-0.5, sd=0.3, source="Power Lines: τ ∝ (D/N)^−.53"),
}
OTHER = Prior(mean=0.0, sd=0.5, source="assumed")


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What a joint fit assumes and a sensitivity card varies.

    `trusted` is the height above the bottom, in ln loss, up to which the valley's formula is trusted (published fits
    use a window of .25 to 2 %); residuals beyond `outlier` standard deviations pull with constant force; `prior_width`
    multiplies the standard deviations of the exponents' priors.
    """

    trusted: float = 0.02
    outlier: float = 2.5
    prior_width: float = 1.0


USUAL = Assumptions()

LOG_CURVATURE = {"lr": Prior(mean=-4.0, sd=1.5, source="a factor of e in the lr costs 1 % of the loss, give or take")}
OTHER_CURVATURE = Prior(mean=-4.5, sd=1.5, source="batch and weight decay are flatter than the lr")
CURVATURE_EXPONENT = Prior(mean=0.0, sd=0.15, source="assumed: valleys change their width slowly with scale")
CURVATURE_IN_BATCH = Prior(mean=0.0, sd=0.4, source="assumed: a large batch is run near its stability limit")
SKEW = {"lr": Prior(mean=0.6, sd=0.4, source="too high costs two to four times too low, two e-folds away")}
OTHER_SKEW = Prior(mean=0.0, sd=0.5, source="assumed")
BEND = Prior(mean=-0.1, sd=0.1, source="−1/8 about B0 by arXiv:2405.14578 eq. 22, 0 far from it")
BEND_WIDTH = Prior(mean=-0.7, sd=0.7, source="ln ½ by the same equation")

# Between cells, beyond the law: of ln lr, ln batch, ln τ. 0.15 octaves, as for optima at fixed batch (optima/rows.py).
SCATTER = 0.1
SCATTER_DOF = 3.0
NOISE = 0.002  # relative, of one run: arXiv:2305.16264's seed groups have .0003 to .004
MISFIT = 0.2  # assumed: the valley's formula is wrong by this share of its height


def exponent(output: str, covariate: str) -> Prior:
    """The prior of an exponent."""
    return EXPONENTS.get((output, covariate), OTHER)


def curvature_exponent(covariate: str) -> Prior:
    """The prior of the exponent by which a valley's curvature changes."""
    return CURVATURE_IN_BATCH if covariate == "batch_tokens" else CURVATURE_EXPONENT
