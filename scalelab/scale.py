"""How a quantity moves with scale: monomials of target/base ratios, with exact rational exponents.

A transfer rule such as "the hidden learning rate goes like 1/width and 1/sqrt(depth)" is a `Power`; the sizes it is
evaluated on are `Ratios` of a target to the base shape it is stated against. Both are exact: ratios of integers are
`Fraction`s, exponents are `Fraction`s, so two rules compare with `==`, print the way a paper prints them, and a rule
evaluated at the base is exactly 1.0. The few rules of the field that are no monomials (Muon's shape factors) are a
`Factor`: a function with a name. A `Cell` is either.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction

Exact = int | Fraction


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """Target/base ratios that a rule may depend on; dimensionless, positive, exact.

    `fan_in` and `fan_out` belong to one tensor (a dimension that does not grow has ratio 1), `depth` is 1 for a tensor
    outside the residual blocks, `batch` and `tokens` compare tokens a step and tokens in all, `experts` the number of
    experts, `params` the non-embedding parameters. `base_fan_in` and `base_fan_out` are the tensor's sizes at the base,
    for a `Factor` that needs to know sizes and not only ratios.

    Raises:
        ValueError: where a ratio is not positive.

    >>> Ratios(fan_in=Fraction(256, 64)).fan_in
    Fraction(4, 1)
    """

    fan_in: Fraction = Fraction(1)
    fan_out: Fraction = Fraction(1)
    head_dim: Fraction = Fraction(1)
    depth: Fraction = Fraction(1)
    batch: Fraction = Fraction(1)
    tokens: Fraction = Fraction(1)
    experts: Fraction = Fraction(1)
    params: Fraction = Fraction(1)
    base_fan_in: int = field(default=1, metadata={"ratio": False})
    base_fan_out: int = field(default=1, metadata={"ratio": False})

    def __post_init__(self) -> None:
        for name in RATIO_NAMES:
            if getattr(self, name) <= 0:
                raise ValueError(f"ratio {name}={getattr(self, name)} must be positive")


RATIO_NAMES: tuple[str, ...] = tuple(each.name for each in fields(Ratios) if each.metadata.get("ratio", True))
SYMBOLS: dict[str, str] = {
    "fan_in": "m_in",
    "fan_out": "m_out",
    "head_dim": "m_head",
    "depth": "m_L",
    "batch": "m_B",
    "tokens": "m_D",
    "experts": "m_E",
    "params": "m_N",
}


class Power:
    """A monomial of `Ratios`: `Power(fan_in=-1, depth=Fraction(-1, 2))` is m_in^-1 · m_L^-1/2.

    Immutable; supports `*`, `/`, `** rational`, `==` and `hash`. Calling it on `Ratios` gives a float, exactly 1.0 at
    the base. Exponents are integers or `Fraction`s: a float exponent would hide which rational was meant.

    Raises:
        TypeError: on a ratio that does not exist, or an exponent that is not rational.

    >>> rule = Power(fan_in=-1) * Power(depth=Fraction(-1, 2))
    >>> print(rule, "at m=4, L=4:", rule(Ratios(fan_in=Fraction(4), depth=Fraction(4))))
    1/(m_in · √m_L) at m=4, L=4: 0.125
    >>> Power(fan_in=1) * Power(fan_in=-1) == ONE
    True
    """

    __slots__ = ("exponents",)
    exponents: tuple[tuple[str, Fraction], ...]

    def __init__(self, **exponents: Exact) -> None:
        for name, exponent in exponents.items():
            if name not in RATIO_NAMES:
                raise TypeError(f"Power has no ratio {name!r}: the ratios are {', '.join(RATIO_NAMES)}")
            if not isinstance(exponent, int | Fraction):
                raise TypeError(f"the exponent of {name} must be an int or a Fraction, not {exponent!r}")
        kept = ((name, Fraction(exponents.get(name, 0))) for name in RATIO_NAMES)
        object.__setattr__(self, "exponents", tuple((name, x) for name, x in kept if x))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Power is immutable")

    def __reduce__(self) -> tuple[object, ...]:
        return _power_from_items, (self.exponents,)

    def exponent(self, name: str) -> Fraction:
        """The exponent of one ratio, 0 where it does not occur.

        >>> Power(fan_in=-1).exponent("depth")
        Fraction(0, 1)
        """
        return dict(self.exponents).get(name, Fraction(0))

    def __call__(self, ratios: Ratios) -> float:
        # Each ratio is raised before it is a float: with an integer exponent it rounds once, and m=1 gives 1.0.
        value = 1.0
        for name, exponent in self.exponents:
            ratio: Fraction = getattr(ratios, name)
            value *= float(ratio**exponent)
        return value

    def __mul__(self, other: "Power") -> "Power":
        mine, theirs = dict(self.exponents), dict(other.exponents)
        return Power(**{k: mine.get(k, Fraction(0)) + theirs.get(k, Fraction(0)) for k in mine | theirs})

    def __truediv__(self, other: "Power") -> "Power":
        return self * other**-1

    def __pow__(self, exponent: Exact) -> "Power":
        return Power(**{name: x * Fraction(exponent) for name, x in self.exponents})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Power) and self.exponents == other.exponents

    def __hash__(self) -> int:
        return hash(self.exponents)

    def __repr__(self) -> str:
        return f"Power({', '.join(f'{name}={exponent}' for name, exponent in self.exponents)})"

    def __str__(self) -> str:
        above = [_factor(name, x) for name, x in self.exponents if x > 0]
        below = [_factor(name, -x) for name, x in self.exponents if x < 0]
        if not below:
            return " · ".join(above) or "1"
        denominator = below[0] if len(below) == 1 else f"({' · '.join(below)})"
        return f"{' · '.join(above) or '1'}/{denominator}"


def _power_from_items(items: tuple[tuple[str, Fraction], ...]) -> Power:
    return Power(**dict(items))


def _factor(name: str, exponent: Fraction) -> str:
    symbol = SYMBOLS[name]
    if exponent == 1:
        return symbol
    if exponent == Fraction(1, 2):
        return f"√{symbol}"
    return f"{symbol}^{exponent}"


ONE = Power()


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A rule that is no monomial: a named function of `Ratios`, exactly 1.0 at the base, times a `Power`.

    Two are equal when their names, powers and exponents are. `function` must be importable by name (no lambda), so that
    a table can be sent to another process.

    >>> cell = Factor(name="max(1, m_in)", function=_at_least_one) * Power(fan_out=1)
    >>> print(cell, "at m=2:", cell(Ratios(fan_in=Fraction(2), fan_out=Fraction(2))))
    max(1, m_in) · m_out at m=2: 4.0
    """

    name: str
    function: Callable[[Ratios], float] = field(compare=False, repr=False)  # its repr has an address: not in a digest
    exponent_of_function: int = 1
    power: Power = ONE

    def __call__(self, ratios: Ratios) -> float:
        return float(self.function(ratios) ** self.exponent_of_function * self.power(ratios))

    def __mul__(self, other: Power) -> "Factor":
        return replace(self, power=self.power * other)

    def __truediv__(self, other: Power) -> "Factor":
        return replace(self, power=self.power / other)

    def __pow__(self, exponent: int) -> "Factor":
        return replace(self, exponent_of_function=self.exponent_of_function * exponent, power=self.power**exponent)

    def __str__(self) -> str:
        named = self.name if self.exponent_of_function == 1 else f"({self.name})^{self.exponent_of_function}"
        return named if self.power == ONE else f"{named} · {self.power}"


Cell = Power | Factor


def _at_least_one(ratios: Ratios) -> float:
    return max(1.0, float(ratios.fan_in))
