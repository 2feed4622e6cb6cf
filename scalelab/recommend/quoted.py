"""Published laws at a target: which of them are named, what each counts there, and how far outside its fit that is."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scalelab.errors import Refused, unknown
from scalelab.laws import PUBLISHED, Published
from scalelab.laws.validate.published import keys_of
from scalelab.models import count_params
from scalelab.recipe import Value
from scalelab.recommend.papers import PAPERS, Paper
from scalelab.spec import RunSpec

QUANTITIES = ("lr", "batch_tokens", "weight_decay")
STATED = {"params", "tokens", "tokens_per_param", "cost_flops", *QUANTITIES}  # by a target, or found before
UNITS = {"batch_tokens": "tokens", "loss_nats": "nats"}
COUNTS = {"params_non_embedding": "non_embedding", "params_total": "total", "params_active": "active"}
UNSTATED = "params_non_embedding"  # where a source does not say what it counts
NEITHER = Paper(source="", checked="")  # of laws whose paper's settings are not recorded


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """A published law's value at a target: `inputs` as the source counts them, `decades` by how much each leaves the
    range of the fit (negative: below it), those that do."""

    key: str
    entry: Published = field(repr=False)
    value: float
    inputs: Mapping[str, float]
    decades: Mapping[str, float]

    @property
    def inside(self) -> bool:
        """Whether the range of the fit is known and the target lies in it."""
        return self.entry.record is not None and not self.decades

    @property
    def rests_on(self) -> str:
        """The source, the range of its fit and where the target lies, in words."""
        at = ", ".join(f"{name} {value:.3g}{self._counted(name)}" for name, value in self.inputs.items())
        if self.entry.record is None:
            return f"{self.entry.source}; the range of its fit is not recorded here; at {at}"
        domain = self.entry.record.domain
        fitted = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in domain.items())
        far = ", ".join(
            f"{name} is {abs(decades):.2f} decades {'above' if decades > 0 else 'below'}"
            for name, decades in self.decades.items()
        )
        return f"{self.entry.source}, fitted for {fitted}; at {at}: {far or 'inside'}"

    def _counted(self, name: str) -> str:
        if name not in ("params", "tokens_per_param"):
            return ""
        return f" ({self.entry.columns.get('params', f'count not stated, {UNSTATED}').replace('params_', '')})"


def papers_of(names: Sequence[str]) -> dict[str, str]:
    """The first law that is named of each quantity: quantity → key of `PUBLISHED`.

    Raises:
        Refused: on an unknown name, where none of the laws is of a hyperparameter, or one gives exponents only.
    """
    found: dict[str, str] = {}
    for name in names:
        if not any(name.strip().lower().replace("-", "_") in (key, *key.split("/")) for key in PUBLISHED):
            raise unknown("published law", name, {known for quantity in QUANTITIES for known in givers(quantity)})
    for key in keys_of(names):
        output = PUBLISHED[key].law.output
        if output in (*QUANTITIES, "loss_nats"):
            found.setdefault(output, key)
    if not set(found) & set(QUANTITIES):
        accepted = dict.fromkeys(name for quantity in QUANTITIES for name in givers(quantity))
        raise Refused(
            f"--published {','.join(names)}: none is a law of lr, batch or weight decay; accepted are"
            f" {', '.join(accepted)}, see `--published list`"
        )
    for quantity, key in found.items():
        if exponents_only(key):
            raise Refused(
                f"{key}: the source gives exponents and no coefficient, so no {quantity}; accepted are"
                f" {', '.join(givers(quantity))}"
            )
    return found


def givers(quantity: str) -> list[str]:
    """The sources whose law of a quantity a target can be asked."""
    return [
        name_of(key)
        for key, entry in PUBLISHED.items()
        if entry.law.output == quantity and not exponents_only(key) and set(entry.law.inputs) <= STATED
    ]


def exponents_only(key: str) -> bool:
    return any(math.isnan(value) for value in PUBLISHED[key].parameters.values())


def name_of(key: str) -> str:
    """The source's name: "step_law" of "step_law_lr/step_law"."""
    return key.split("/")[1]


def paper_of(key: str) -> Paper:
    return PAPERS.get(name_of(key), NEITHER)


def quoted(key: str, spec: RunSpec, **known: float) -> Quoted:
    """A published law at a target; `known` are settings found before, by column.

    Raises:
        Refused: where the law is of other models, needs what a target does not state, or gives exponents only.
    """
    entry, paper = PUBLISHED[key], paper_of(key)
    if spec.model != paper.model:
        raise Refused(f"{key} is a law of model={paper.model}, and this is model={spec.model}: name another law")
    inputs = {name: _input(name, key, spec, known) for name in entry.law.inputs}
    value = entry.predict(**inputs)
    domain = entry.record.domain if entry.record is not None else {}
    decades = {}
    for name, (low, high) in domain.items():
        beyond = math.log10(inputs[name] / high) if inputs[name] > high else min(math.log10(inputs[name] / low), 0.0)
        if abs(beyond) > 1e-3:
            decades[name] = beyond
    return Quoted(key=key, entry=entry, value=value, inputs=inputs, decades=decades)


def _input(name: str, key: str, spec: RunSpec, known: Mapping[str, float]) -> float:
    params = float(getattr(count_params(spec), COUNTS[PUBLISHED[key].columns.get("params", UNSTATED)]))
    found = {
        "params": params,
        "tokens": float(spec.horizon.tokens),
        "tokens_per_param": spec.horizon.tokens / params,
        "cost_flops": non_embedding_flops(spec) * spec.horizon.tokens,
        **known,
    }
    if name not in found:
        raise Refused(
            f"{key} needs {name}, which a target does not state: name another law, or give {PUBLISHED[key].law.output}"
            " yourself"
        )
    return found[name]


def non_embedding_flops(spec: RunSpec) -> float:
    """DeepSeek's M, FLOPs a token without the vocabulary's tables: 72·depth·width² + 12·depth·width·context for its
    shapes (arXiv:2401.02954 eq. 2), here 6 for each weight of the blocks that a token meets, and the full square of
    attention.
    """
    params = count_params(spec)
    return 6.0 * (params.matrices - params.idle) + 12.0 * spec.shape.depth * spec.shape.width * spec.shape.context


def beside(names: Sequence[str], spec: RunSpec) -> tuple[Value, ...]:
    """What published laws say at a resolved run, to be read beside a recipe's own values; a refusal is a row too."""
    found = []
    known = {"batch_tokens": float(spec.horizon.batch_tokens), "lr": spec.hparams.lr}
    for key in keys_of(names):
        output = PUBLISHED[key].law.output
        if output not in QUANTITIES:
            continue
        try:
            at = quoted(key, spec, **known)
        except Refused as refusal:
            found.append(Value(name=f"{output}, {key}", value=None, source="published", rests_on=str(refusal)))
            continue
        note = "; one rate for every tensor, to be held against the groups'" if output == "lr" else ""
        found.append(
            Value(
                name=f"{output}, {key}", value=at.value, unit=UNITS.get(output, ""), source="published",
                rests_on=at.rests_on + note,
            )
        )  # fmt: skip
    return tuple(found)


def listing() -> Iterable[tuple[str, str, str, str]]:
    """Name, quantity, formula with its coefficients, and source of every published law of a hyperparameter."""
    for key, entry in PUBLISHED.items():
        if entry.law.output not in QUANTITIES:
            continue
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in entry.parameters.items() if not math.isnan(value))
        said = "exponents only" if exponents_only(key) else ""
        said = said or ("" if set(entry.law.inputs) <= STATED else "a target does not state its inputs")
        yield (
            name_of(key).replace("_", "-"),
            entry.law.output,
            f"{entry.law.form}; {numbers}{f' ({said}: no recipe)' if said else ''}",
            entry.source,
        )
