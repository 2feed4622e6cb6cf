"""Everett et al. 2024 (arXiv:2407.05872): its exponent tables, its constraints searched, and its gradients measured."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import Refused
from scalelab.parametrizations import Family, Role, table
from scalelab.parametrizations.alignment import (
    FORMS,
    FULL,
    HALF,
    NONE,
    Alignment,
    Exponents,
    Optimizer,
    gradient,
    learning_rates,
)
from scalelab.parametrizations.everett import EVERETT, WIDTH
from scalelab.scale import Power

parse = Exponents.parse
LAYERS = ("embedding", "hidden", "readout")
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adam", "adafactor")
ALIGNMENTS = {"full": FULL, "none": NONE}

# x of learning rates ∝ n^x (embedding hidden readout), the paper's −c. The first four rows are the parametrizations of
# arXiv:2407.05872, as third parties' code has them (M. Kilian, M. Wojnar, "Exploring Tensor Alignments in Neural
# Networks", iejmac.github.io); the last two are muP in the forms of Tables 3 and 8 of arXiv:2203.03466. In one cell
# that code has the opposite sign: mean-field, Adam, none, readout. It is +1/2, for a = 1 and α = 1/2 in a + c − α ≥ 0.
PUBLISHED = """
             sgd/full    sgd/none      adam/full     adam/none     adafactor/full adafactor/none
sp         | 1/2 -1/2 -1 | 1/2 0 -1/2  | 0 -1 -1       | 0 -1/2 -1/2   | 0 -1/2 -1/2   | 0 0 0
ntk        | 1/2 1/2 0   | 1/2 1 1/2   | 0 -1/2 -1/2   | 0 0 0         | 0 -1/2 -1/2   | 0 0 0
mup_table9 | 0 0 0       | 0 1/2 0     | -1/2 -1 -1/2  | -1/2 -1/2 0   | 0 -1/2 0      | 0 0 0
mean_field | 1 1 1       | 1 3/2 1     | 0 -1/2 0      | 0 0 1/2       | 0 -1/2 0      | 0 0 0
mup_table3 | 1 0 -1      | 1 1/2 -1    | 0 -1 -1       | 0 -1/2 -1/2   | 0 -1/2 0      | 0 0 0
mup_table8 | 1 0 1       | 1 1/2 1     | 0 -1 0        | 0 -1/2 1/2    | 0 -1/2 0      | 0 0 0
"""
GRADIENTS = {
    "sp": "-1/2 -1/2 0", "ntk": "-1/2 -1 -1/2", "mup_table9": "-1/2 -1 -1/2",
    "mean_field": "-1 -3/2 -1", "mup_table3": "-1 -1 0", "mup_table8": "-1 -1 -1",
}  # fmt: skip


def published() -> dict[tuple[str, Optimizer, str], Exponents]:
    cases = list(itertools.product(OPTIMIZERS, ALIGNMENTS))
    rows = [[cell.strip() for cell in line.split("|")] for line in PUBLISHED.strip().splitlines()[1:]]
    return {(name, *case): parse(cell) for name, *row in rows for case, cell in zip(cases, row, strict=True)}


@pytest.mark.parametrize(("cell", "rates"), published().items(), ids=lambda value: str(value))
def test_the_published_learning_rates(cell: tuple[str, Optimizer, str], rates: Exponents) -> None:
    name, optimizer, aligned = cell
    assert learning_rates(*FORMS[name], optimizer, ALIGNMENTS[aligned]) == rates


@pytest.mark.parametrize("name", EVERETT)
def test_the_tables_have_the_published_learning_rates(name: str) -> None:
    """Those of this package's tables, each with the multipliers and inits of its form."""
    form, _, aligned = name.rpartition("_")
    form = {"mup": "mup_table9"}.get(form, form)
    a, b = FORMS[form]
    for optimizer in OPTIMIZERS:
        rates = published()[form, optimizer, aligned]
        for layer in LAYERS:
            rule, width = EVERETT[name].rule(Role(layer), Family(optimizer)), WIDTH[Role(layer)]
            assert rule.lr == Power(**{width: getattr(rates, layer)})
            assert rule.multiplier == Power(**{width: -getattr(a, layer)})
            assert rule.init == Power(**{width: -getattr(b, layer)})


def test_the_table_covers_every_case() -> None:
    assert len(published()) * len(LAYERS) == 108
    assert {name for name, _, _ in published()} == set(FORMS) == set(GRADIENTS)


@pytest.mark.parametrize("name", FORMS)
def test_the_published_gradients(name: str) -> None:
    assert gradient(*FORMS[name]) == parse(GRADIENTS[name])


def test_the_mup_table_of_this_package_is_the_derived_one() -> None:
    """TP-V Table 8 as shipped: its learning rates under full alignment, its eps as the gradients."""

    def width(power: Power | None) -> Fraction:
        assert power is not None
        return power.exponent("fan_in") + power.exponent("fan_out")

    for family, optimizer in ((Family.SGD, "sgd"), (Family.ADAM, "adam")):
        rules = {layer: table("mup").rule(Role(layer), family) for layer in LAYERS}
        rates = Exponents(**{layer: width(rule.lr) for layer, rule in rules.items()})
        assert rates == learning_rates(*FORMS["mup_table8"], optimizer, FULL)  # type: ignore[arg-type]
    assert Exponents(**{layer: width(rule.eps) for layer, rule in rules.items()}) == gradient(*FORMS["mup_table8"])


# The constraints as they are printed, once more and independently of the solver, in integer halves for speed.


def constraints(
    a: Exponents, b: Exponents, optimizer: Optimizer, alignment: Alignment, depth: int, larger: Callable[..., int] = min
) -> Callable[[tuple[int, int, int]], tuple[list[int], int]]:
    """The r of the embedding and of each of `depth` hidden layers, and that of the logits, as a function of 2c.

    `larger` picks the exponent of the larger of two terms of a gradient. An infeasible c of Adafactor gives r = −1.
    """
    a1, ah, ar = (int(2 * getattr(a, layer)) for layer in LAYERS)
    b1, bh, br = (int(2 * getattr(b, layer)) for layer in LAYERS)
    alpha, omega, u = (int(2 * value) for value in (alignment.alpha, alignment.omega, alignment.u))

    def residuals(c: tuple[int, int, int]) -> tuple[list[int], int]:
        if optimizer == "sgd":
            below = larger(ar + br, 2 * ar + c[2])
            s1, sh, sr = c[0] + below + a1, c[1] + below + ah, c[2] + ar
        else:
            s1, sh, sr = c if optimizer == "adam" else (c[0] + b1, c[1] + bh, c[2] + br)
        r = [a1 + s1]
        for _ in range(depth):
            r.append(min(ah + sh - alpha, ah + sh + r[-1] - u, ah + bh + r[-1] - omega))
        logits = min(ar + sr - alpha, ar + sr + r[-1] - u, ar + br + r[-1] - omega)
        return r, -1 if optimizer == "adafactor" and min(c) < 0 else logits

    return residuals


HALVES = range(-4, 5)  # 2c, for c from −2 to 2
GRID = [(c1, ch, cr) for c1 in HALVES for ch in HALVES for cr in HALVES]


def best(
    a: Exponents, b: Exponents, optimizer: Optimizer, alignment: Alignment, depth: int, larger: Callable[..., int] = min
) -> list[Exponents]:
    """Every stable x of the greatest sum over the layers; where u > α, among those whose features move (r = 0)."""
    residuals = constraints(a, b, optimizer, alignment, depth, larger)
    moving = alignment.u > alignment.alpha
    stable: dict[tuple[int, int, int], int] = {}
    for c in GRID:
        r, logits = residuals(c)
        if min(*r, logits) >= 0 and not (moving and max(r) > 0):
            stable[c] = c[0] + depth * c[1] + c[2]
    least = min(stable.values())
    found = [[Fraction(-value, 2) for value in c] for c, total in stable.items() if total == least]
    return [Exponents(**dict(zip(LAYERS, x, strict=True))) for x in found]


SMALL_READOUT = (parse("0 0 0"), parse("0 1/2 3/2"))
MIXED = {"only alpha": replace(NONE, alpha=FULL.alpha), "only u": replace(NONE, u=FULL.u)}


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("alignment", [*ALIGNMENTS.values(), *MIXED.values()], ids=[*ALIGNMENTS, *MIXED])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_search_finds_the_same_and_nothing_else(optimizer: Optimizer, alignment: Alignment, depth: int) -> None:
    for a, b in (*FORMS.values(), SMALL_READOUT):
        assert best(a, b, optimizer, alignment, depth) == [learning_rates(a, b, optimizer, alignment)]


def test_the_larger_gradient_has_the_smaller_exponent() -> None:
    """With max in place of min there is no largest learning rate under SGD: the search runs to the end of its grid."""
    assert best(*FORMS["sp"], "sgd", FULL, depth=2) == [parse("1/2 -1/2 -1")]
    assert best(*FORMS["sp"], "sgd", FULL, depth=2, larger=max) == [parse("2 1 -2")]


rationals = st.fractions(-2, 2, max_denominator=12)
optimizers = st.sampled_from(OPTIMIZERS)
alignments = st.builds(
    Alignment,
    alpha=st.fractions(HALF, 1, max_denominator=12),
    omega=st.fractions(0, HALF, max_denominator=12),
    u=st.fractions(HALF, 1, max_denominator=12),
)


@st.composite
def stable_inits(draw: st.DrawFn) -> tuple[Exponents, Exponents]:
    a = Exponents(**{layer: draw(rationals) for layer in LAYERS})
    readout = draw(st.fractions(HALF, Fraction(3, 2), max_denominator=12))
    return a, Exponents(embedding=-a.embedding, hidden=HALF - a.hidden, readout=readout - a.readout)


@given(stable_inits(), rationals, st.sampled_from(LAYERS), optimizers, alignments)
def test_equivalent_forms(
    init: tuple[Exponents, Exponents], theta: Fraction, layer: str, optimizer: Optimizer, alignment: Alignment
) -> None:
    """abc-symmetry: a + θ, b − θ keeps the function n^−a·w, enlarges w by n^θ and divides its gradient by n^θ.

    So steps of w must grow by n^θ: x + θ for Adam, whose step has no scale; x + 2θ for SGD, whose step shrank by n^θ;
    x for Adafactor, whose step grew with w.
    """
    a, b = init

    def shifted(exponents: Exponents, by: Fraction) -> Exponents:
        return replace(exponents, **{layer: getattr(exponents, layer) + by})

    other = shifted(a, theta), shifted(b, -theta)
    by = {"sgd": 2, "adam": 1, "adafactor": 0}[optimizer] * theta
    assert learning_rates(*other, optimizer, alignment) == shifted(learning_rates(a, b, optimizer, alignment), by)
    assert gradient(*other) == shifted(gradient(a, b), -theta)


@given(stable_inits(), optimizers, alignments, alignments)
def test_more_alignment_never_allows_a_larger_rate(
    init: tuple[Exponents, Exponents], optimizer: Optimizer, one: Alignment, other: Alignment
) -> None:
    both = replace(one, alpha=max(one.alpha, other.alpha), u=max(one.u, other.u))
    less, more = (learning_rates(*init, optimizer, alignment) for alignment in (one, both))
    assert all(getattr(more, layer) <= getattr(less, layer) for layer in LAYERS)


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ("1/2 0 0", "unstable at initialization: a + b of the embedding layer is 1/2 and must be 0"),
        ("0 -1/2 0", "unstable at initialization: a + b of the hidden layer is 0 and must be 1/2"),
        ("0 0 -1/4", "unstable at initialization: a + b of the readout layer is 1/4 and must be at least 1/2"),
    ],
)
def test_an_unstable_init_is_refused(a: str, message: str) -> None:
    for solve in (gradient, lambda a, b: learning_rates(a, b, "adam", FULL)):
        with pytest.raises(Refused) as refusal:
            solve(parse(a), parse("0 1/2 1/2"))
        assert str(refusal.value) == message


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(Refused, match=r"unknown optimizer 'adan'.*did you mean 'adam'"):
        learning_rates(*FORMS["sp"], "adan", FULL)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="omega=1: above 1/2 no learning rate is stable at every depth"):
        replace(FULL, omega=Fraction(1))
    with pytest.raises(Refused, match="alpha=2: it must be between"):
        replace(FULL, alpha=Fraction(2))


SIZES, SEEDS = (128, 256, 512, 1024), 3
STEPS: dict[Optimizer, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "sgd": lambda weight, grad: grad,
    "adam": lambda weight, grad: grad.sign(),  # its first step
    "adafactor": lambda weight, grad: grad.sign() * rms(weight),
}


def rms(tensor: torch.Tensor) -> float:
    return tensor.square().mean().sqrt().item()


def measured(name: str) -> tuple[Exponents, dict[Optimizer, Exponents]]:
    """Slopes in width of a three-layer network at init: of gradients, and of ΔW·z in one step at the derived rates."""
    a, b = ({layer: float(getattr(e, layer)) for layer in LAYERS} for e in FORMS[name])
    rates = {optimizer: learning_rates(*FORMS[name], optimizer, FULL) for optimizer in OPTIMIZERS}
    logs = np.zeros((1 + len(OPTIMIZERS), len(LAYERS), len(SIZES)))
    for (i, n), seed in itertools.product(enumerate(SIZES), range(SEEDS)):
        torch.manual_seed(seed)
        z, error, inputs = torch.randn(32, 8) / 8**0.5, torch.randn(32, 4), {}  # the same at every width
        shapes = {"embedding": (n, 8), "hidden": (n, n), "readout": (4, n)}
        weights = {layer: (n ** -b[layer] * torch.randn(shapes[layer])).requires_grad_() for layer in LAYERS}
        for layer in LAYERS:
            inputs[layer] = z.detach()
            z = n ** -a[layer] * z @ weights[layer].T
            z = z if layer == "readout" else z.tanh()
        (z * error).mean().backward()  # type: ignore[no-untyped-call]  # an output error of Θ(1)
        for j, (layer, weight) in enumerate(weights.items()):
            assert weight.grad is not None
            logs[0, j, i] += np.log2(rms(weight.grad)) / SEEDS
            for k, (optimizer, step) in enumerate(STEPS.items(), start=1):
                update = n ** float(getattr(rates[optimizer], layer)) * step(weight.detach(), weight.grad)
                logs[k, j, i] += np.log2(rms(n ** -a[layer] * inputs[layer] @ update.T)) / SEEDS
    slopes = [np.polyfit(np.log2(SIZES), series.T, 1)[0] for series in logs]
    gradients, *changes = (Exponents(**dict(zip(LAYERS, slope, strict=True))) for slope in slopes)
    return gradients, dict(zip(OPTIMIZERS, changes, strict=True))


@pytest.mark.parametrize("name", FORMS)
def test_measured_slopes(name: str) -> None:
    """Gradients fall with width as derived; a first step, fully aligned, changes every layer's output by Θ(1)."""
    gradients, changes = measured(name)
    for layer in LAYERS:
        assert getattr(gradients, layer) == pytest.approx(float(getattr(gradient(*FORMS[name]), layer)), abs=0.1)
        for optimizer, change in changes.items():
            assert getattr(change, layer) == pytest.approx(0, abs=0.1), optimizer
