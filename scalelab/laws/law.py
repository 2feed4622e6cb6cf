"""What a law is: what depends on what, in which units, by which formula, and who said so.

A law is data and one function. How it is fitted, and with what certainty, is the same for all of them and stands in
other files; so a new law is a new file in `forms/` and a line in `LAWS`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scalelab.errors import Refused, unknown

Array = npt.NDArray[np.float64]
Values = Mapping[str, Any]  # name → number or array; complex arrays in derivatives by complex steps


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A coefficient of a law.

    A `positive` one is fitted as its logarithm, so that it can come as near to 0 as it likes and never cross it.
    `typical` is a plausible value (for tests and for a sense of proportion); `low`, `high` are limits beyond which a
    value means that the data do not determine it.
    """

    meaning: str
    typical: float
    positive: bool = True
    low: float = 0.0
    high: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Record:
    """Where coefficients were fitted and how well they did there; what is not known is absent.

    `domain` maps inputs of the law to (smallest, largest). `octaves` is the standard deviation of a scale's own best
    setting from the law within it, `valley_percent` what half and double the best setting lose there,
    `held_out_percent` what the law's settings lost at a scale that it was not fitted to. `source` says who measured.
    """

    domain: Mapping[str, tuple[float, float]]
    source: str
    octaves: float | None = None
    valley_percent: tuple[float, float] | None = None
    held_out_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """Coefficients that somebody published: a law ready to predict with.

    `columns` says what the source counted where that matters (input → column of `columns.py`, "params" →
    "params_non_embedding"). `checked` says how the numbers were checked: the file or table in which they were read, or
    "from memory of the paper". `record` is None where nobody noted where they were fitted.
    """

    law: "Law" = field(repr=False)
    name: str
    parameters: Mapping[str, float]
    source: str
    checked: str
    columns: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    record: Record | None = None

    def predict(self, **inputs: float) -> float:
        """The published law's output.

        Raises:
            Refused: on a missing or unknown input, one that is not > 0, or where the source gives exponents only.
        """
        if silent := [name for name, value in self.parameters.items() if math.isnan(value)]:
            raise Refused(f"{self.law.name}/{self.name}: the source gives exponents, but no {', '.join(silent)}")
        return float(self.law.value(self.parameters, self.law.accepted(inputs)))


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law's form.

    `inputs` and `output` are columns (`columns.UNITS` has the units); the input "params" is whichever count of
    parameters a table states. `form` is the formula as the paper prints it, with the parameters' names.

    `value(parameters, inputs)` is the output. It must broadcast (parameters of shape (R, 1) with inputs of shape (N,)
    give (R, N)) and be analytic in the parameters, because derivatives are taken by complex steps (Squire & Trapp 1998,
    doi:10.1137/S003614459631241X): no abs, max or comparisons of parameters; of inputs they are fine.

    `starts(inputs, output)` gives parameters, arrays of shape (R,), at which to begin a fit to observations of shape
    (N,). `derivatives`, where given, returns log value and its derivatives by every parameter's fitted coordinate
    (log of a positive one), of shapes (R, N) and (R, N, P): exact and faster than complex steps.

    `design(rng, n)` draws inputs for n runs as somebody would plan them, for tests by simulation; where None they are
    independent and log-uniform.
    """

    name: str
    inputs: Sequence[str]
    output: str
    parameters: Mapping[str, Parameter]
    form: str
    source: str
    value: Callable[[Values, Values], Any] = field(repr=False)
    starts: Callable[[Values, Array], dict[str, Array]] | None = field(default=None, repr=False)
    derivatives: Callable[[Values, Values], tuple[Array, Array]] | None = field(default=None, repr=False)
    design: Callable[[np.random.Generator, int], dict[str, Array]] | None = field(default=None, repr=False)
    coefficients: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def published(self) -> dict[str, Published]:
        """The coefficients that others published for this form, by name."""
        return {name: Published(law=self, name=name, **entry) for name, entry in self.coefficients.items()}

    def accepted(self, inputs: Mapping[str, float]) -> dict[str, float]:
        """The inputs, checked: all there, none unknown, each a finite number > 0."""
        for name in inputs:
            if name not in self.inputs:
                raise unknown(f"input of {self.name}", name, self.inputs)
        if missing := [name for name in self.inputs if name not in inputs]:
            raise Refused(f"{self.name} needs {', '.join(self.inputs)}: {', '.join(missing)} not given")
        for name, value in inputs.items():
            if not (math.isfinite(value) and value > 0):
                raise Refused(f"{name}={value!r}: accepted is a finite number > 0")
        return {name: float(inputs[name]) for name in self.inputs}
