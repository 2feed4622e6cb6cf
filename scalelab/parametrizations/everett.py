"""SP, NTK, muP and mean-field with learning rates derived layer by layer from the stability constraints.

"Scaling Exponents Across Parameterizations and Optimizers": any parametrization transfers once each layer has its own
exponent, which depends on how far updates align with activations: fully ("full", as theory has it for long training) or
not at all ("none"). The exponents come from `alignment.learning_rates`, those of eps from `alignment.gradient`.
"""

from dataclasses import replace
from fractions import Fraction

from scalelab.parametrizations.alignment import FORMS, FULL, NONE, Alignment, Exponents, gradient, learning_rates
from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site
from scalelab.scale import ONE, Power

# The dimension that a layer's width n is: "norm gains, biases, positions are the embedding's class".
WIDTH = {Role.EMBEDDING: "fan_out", Role.HIDDEN: "fan_in", Role.READOUT: "fan_in"}
VECTORS = (Role.GAIN, Role.BIAS)


def _power(role: Role, exponents: Exponents, sign: int = 1) -> Power:
    return Power(**{WIDTH[role]: sign * getattr(exponents, str(role))})


def _rules(form: str, alignment: Alignment) -> dict[tuple[Role, Family], Rule]:
    a, b = FORMS[form]
    rules: dict[tuple[Role, Family], Rule] = {}
    for family in (Family.ADAM, Family.SGD, Family.ADAFACTOR):
        rates = learning_rates(a, b, family.value, alignment)  # type: ignore[arg-type]
        for role in WIDTH:
            rules[role, family] = Rule(
                multiplier=_power(role, a, -1),
                init=_power(role, b, -1),
                lr=_power(role, rates),
                weight_decay=ONE,
                eps=_power(role, gradient(a, b)) if family is Family.ADAM else None,
            )
        embedding = rules[Role.EMBEDDING, family]
        for role in VECTORS:  # the embedding's class, in the equivalent form that a vector without a multiplier has
            vector = embedding.shifted(embedding.multiplier**-1, family)
            rules[role, family] = replace(vector, init=ONE, weight_decay=ONE)
    return rules


def _table(short: str, form: str, title: str, alignment: Alignment, word: str) -> Parametrization:
    return Parametrization(
        name=f"{short}_{word}",
        title=f"{title} with layerwise learning rates, {word} alignment",
        source="arXiv:2407.05872: exponents derived from its stability constraints; eps from its gradient exponents",
        rules=_rules(form, alignment),
        transfers=("width",),
        sites={Site.ATTENTION: Power(head_dim=Fraction(-1, 2)), Site.RESIDUAL: ONE},
        notes=(
            "Weight decay and depth are held fixed in the paper; so is the head dimension, here 1/√d_head.",
            "The exponents assume that a network's output error is Θ(1) and one alignment for all layers.",
        ),
    )


def _tables() -> dict[str, Parametrization]:
    found = {}
    for short, form, title in (
        ("sp", "sp", "SP"),
        ("ntk", "ntk", "NTK"),
        ("mup", "mup_table9", "muP"),
        ("mean_field", "mean_field", "mean-field"),
    ):
        for word, alignment in (("full", FULL), ("none", NONE)):
            table = _table(short, form, title, alignment, word)
            found[table.name] = table
    return found


EVERETT: dict[str, Parametrization] = _tables()
