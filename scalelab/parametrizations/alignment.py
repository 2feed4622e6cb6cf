"""Exponents of learning rates and gradients in width, derived from the constraints of stable training.

Source: the stability constraints of Everett et al. 2024, "Scaling Exponents Across Parameterizations and Optimizers"
(arXiv:2407.05872). In a network of width n, a layer has a forward multiplier n^−a, an init of standard deviation n^−b
and a learning rate ∝ n^x (the paper's c is −x). Its weights move by n^−s, the learning rate times one step: the
gradient for SGD, 1 for Adam, the weight's own n^−b for Adafactor. Its output moves by n^−r:

    embedding  r = a + s                                             ≥ 0
    hidden     r = min(a + s − α,  a + s + r′ − u,  a + b + r′ − ω)  ≥ 0    r′ is the r of the layer below
    readout        min(a + s − α,  a + s + r′ − u,  a + b + r′ − ω)  ≥ 0

α, u and ω say how far a sum over n terms adds up (`Alignment`). The largest learning rates that meet all of this, those
of the greatest sum of x, need no search:

* The embedding at r = 0 hands r′ = 0 to the first hidden layer. With ω ≤ ½ every hidden layer hands it on, so the
  recursion is at its fixed point at any depth, and what remains for a layer is a + s ≥ max(α, u). Where u ≤ α, as in
  the paper, α alone asks as much of every layer, whatever the others do: a smaller s is not to be had. Where u > α,
  this is the solution whose features move (r = 0); slower features would leave room for a faster readout.
* Adafactor's x is at most 0 in every layer, or weights would outgrow their init and its steps grow with them.
* SGD couples the layers: gradients reach those below through the readout. Once its updates outgrow its init (s < b), a
  δ more of x there costs δ in the embedding and δ in each hidden layer. With at least one hidden layer, then, the
  greatest sum is attained only at s ≥ b, where gradients keep the exponents they have at initialization.

The last two bounds are one, s ≥ b. It binds in the readout of muP and mean-field without alignment, where the logits
therefore move by n^−½ only: the greatest sum of x is not the fastest change of the function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from scalelab.errors import Refused, unknown

Optimizer = Literal["sgd", "adam", "adafactor"]
HALF, ONE = Fraction(1, 2), Fraction(1)


@dataclass(frozen=True, kw_only=True)
class Exponents:
    """One exponent of the width n for each kind of layer: embedding (finite → n), hidden (n → n), readout (n → finite).

    >>> print(Exponents.parse("0 1/2 1"))
    0 1/2 1
    """

    embedding: Fraction
    hidden: Fraction
    readout: Fraction

    @classmethod
    def parse(cls, text: str) -> "Exponents":
        embedding, hidden, readout = map(Fraction, text.split())
        return cls(embedding=embedding, hidden=hidden, readout=readout)

    def __str__(self) -> str:
        return f"{self.embedding} {self.hidden} {self.readout}"


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How the sums of n terms in a trained layer add up: n^½ for random signs, n^1 for equal ones.

    alpha: an update with the activations of initialization, ΔW·z. omega: the initial weights with the change of the
    activations, W·Δz. u: an update with that change, ΔW·Δz.

    Raises:
        Refused: alpha or u outside [½, 1]; omega over ½, where each hidden layer amplifies a change by n^(ω − ½) and no
            learning rate is stable at every depth.
    """

    alpha: Fraction
    omega: Fraction
    u: Fraction

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("u", self.u)):
            if not HALF <= value <= 1:
                raise Refused(f"alignment {name}={value}: it must be between 1/2 (none) and 1 (full)")
        if self.omega > HALF:
            raise Refused(f"alignment omega={self.omega}: above 1/2 no learning rate is stable at every depth")


FULL = Alignment(alpha=ONE, omega=HALF, u=ONE)
NONE = Alignment(alpha=HALF, omega=HALF, u=HALF)

# (a, b) of the parametrizations the paper compares, muP in each of the three forms of TP-V (arXiv:2203.03466).
FORMS: Mapping[str, tuple[Exponents, Exponents]] = {
    "sp": (Exponents.parse("0 0 0"), Exponents.parse("0 1/2 1/2")),
    "ntk": (Exponents.parse("0 1/2 1/2"), Exponents.parse("0 0 0")),
    "mup_table9": (Exponents.parse("-1/2 0 1/2"), Exponents.parse("1/2 1/2 1/2")),
    "mean_field": (Exponents.parse("0 1/2 1"), Exponents.parse("0 0 0")),
    "mup_table3": (Exponents.parse("0 0 0"), Exponents.parse("0 1/2 1")),
    "mup_table8": (Exponents.parse("0 0 1"), Exponents.parse("0 1/2 0")),
}


def gradient(a: Exponents, b: Exponents) -> Exponents:
    """Exponents of each gradient's RMS at initialization, for an output error of Θ(1); those of Adam's eps too.

    An eps that moves like the gradient stays equally far below it at every width. Equivalent forms of one
    parametrization (`a` + θ, `b` − θ) differ here: every gradient carries its own multiplier.

    Raises:
        Refused: activations that grow or vanish with width at initialization, or logits that grow.

    >>> print(gradient(*FORMS["mup_table3"]), "|", gradient(*FORMS["mup_table8"]))
    -1 -1 0 | -1 -1 -1
    """
    embedding, hidden, readout = a.embedding + b.embedding, a.hidden + b.hidden, a.readout + b.readout
    for layer, total, required, stable in (
        ("embedding", embedding, "0", embedding == 0),
        ("hidden", hidden, "1/2", hidden == HALF),
        ("readout", readout, "at least 1/2", readout >= HALF),
    ):
        if not stable:
            raise Refused(f"unstable at initialization: a + b of the {layer} layer is {total} and must be {required}")
    # The error enters through the readout, n^−(a+b); hidden layers hand it down unchanged, as they do activations.
    return Exponents(embedding=-a.embedding - readout, hidden=-a.hidden - readout, readout=-a.readout)


def learning_rates(a: Exponents, b: Exponents, optimizer: Optimizer, alignment: Alignment) -> Exponents:
    """The x of learning rates ∝ n^x: the largest under which activations and logits stay bounded at every width.

    Raises:
        Refused: an unknown optimizer; an init that is unstable (see `gradient`).

    >>> print(learning_rates(*FORMS["sp"], "adam", FULL), "|", learning_rates(*FORMS["sp"], "adam", NONE))
    0 -1 -1 | 0 -1/2 -1/2
    """
    if optimizer not in get_args(Optimizer):
        raise unknown("optimizer", optimizer, get_args(Optimizer))
    slopes, reach = gradient(a, b), max(alignment.alpha, alignment.u)
    return Exponents(
        embedding=_largest(optimizer, a.embedding, b.embedding, slopes.embedding, Fraction(0)),  # sums a finite number
        hidden=_largest(optimizer, a.hidden, b.hidden, slopes.hidden, reach),
        readout=_largest(optimizer, a.readout, b.readout, slopes.readout, reach),
    )


def _largest(optimizer: Optimizer, a: Fraction, b: Fraction, slope: Fraction, reach: Fraction) -> Fraction:
    """The largest x of one layer: a + s ≥ reach and, for SGD and Adafactor, s ≥ b (see the head of this file)."""
    step = {"sgd": slope, "adam": Fraction(0), "adafactor": -b}[optimizer]  # n^step is one step at learning rate 1
    moving = a - reach - step
    if optimizer == "adam":
        return moving
    # SGD: gradients pass through the readout's init plus its updates, n^−b + n^−s. The larger counts: min(b, s). The
    # constraints are found printed with max, the smaller; then ever slower readouts would allow ever faster layers
    # below, without end. In those layers s ≥ b holds already: s = reach − a, and reach is at least a + b.
    return min(moving, -b - step)
