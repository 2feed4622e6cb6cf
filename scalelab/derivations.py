"""The rule beside a resolved number: which cell of the table made it, from which base, by which ratios.

`resolve` gives the number; here is only what a reader wants to see next to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from scalelab.models import MODELS
from scalelab.parametrizations import table
from scalelab.parametrizations.decay import with_policy
from scalelab.parametrizations.table import UNDECAYED, Role, Site
from scalelab.resolve import Setting, betas, init_cell, multipliers
from scalelab.scale import RATIO_NAMES, SYMBOLS, Cell, Power, Ratios
from scalelab.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number at the target: its base times a factor, which `rule` states; None where there is no such quantity."""

    name: str
    target: float | None
    base: float | None
    factor: float | None
    rule: str


def of_setting(spec: RunSpec, setting: Setting) -> tuple[dict[str, Fraction], tuple[Value, ...]]:
    """The ratios that matter to a tensor, by symbol, and its values."""
    at = setting.tensor.ratios(spec.scales)
    cells = _cells(spec, setting)
    words = _words(spec, setting, cells)
    ratios = {SYMBOLS[name]: getattr(at, name) for name in _read(cells.values())}
    return ratios, tuple(_value(name, getattr(setting, name), cells[name], at, words[name]) for name in cells)


def _cells(spec: RunSpec, setting: Setting) -> dict[str, Cell | None]:
    """The cells that made a setting, as `resolve` chooses them; None where no factor was applied."""
    role = setting.tensor.role
    rule = table(spec.parametrization).rule(role, setting.family)
    decayed = with_policy(rule, role, spec.weight_decay_policy)
    return {
        "multiplier": rule.multiplier,
        "init_std": init_cell(spec, role, rule) if setting.init_std else None,
        "lr": rule.lr,
        "weight_decay": None if decayed is None else decayed.weight_decay,
        "eps": None if setting.eps is None else rule.eps,
    }


def _words(spec: RunSpec, setting: Setting, cells: Mapping[str, Cell | None]) -> dict[str, str]:
    """What stands in place of a rule where there is none, or beside it."""
    role, depth_scaled = setting.tensor.role, spec.architecture.residual_init == "depth-scaled"
    start = "ones" if role in (Role.GAIN, Role.SCALAR) else "zeros"
    scaled = "base with GPT-2's 1/√(2·depth)" if setting.tensor.writes_residual and depth_scaled else ""
    kept = "never decayed" if role in UNDECAYED else f"not decayed by {spec.weight_decay_policy}"
    return {
        "multiplier": "",
        "init_std": scaled if setting.init_std else start,
        "lr": "",
        "weight_decay": kept if cells["weight_decay"] is None else "",
        "eps": "the optimizer has none" if setting.eps is None else "",
    }


def _value(name: str, target: float | None, cell: Cell | None, at: Ratios, words: str = "") -> Value:
    if cell is None or target is None:
        return Value(name=name, target=target, base=target, factor=None, rule=words)
    factor = cell(at)
    rule = f"{cell}, {words}" if words else str(cell)
    # The base as it was stated: what the division adds in the last digits is not part of it.
    return Value(name=name, target=target, base=float(f"{target / factor:.12g}"), factor=factor, rule=rule)


def _read(cells: Iterable[Cell | None]) -> list[str]:
    """The ratios that some cell depends on, in the order of `Ratios`."""
    found: set[str] = set()
    for cell in cells:
        if cell is not None:
            power = cell if isinstance(cell, Power) else cell.power
            found |= {name for name, _ in power.exponents}
            found |= set() if isinstance(cell, Power) else {"fan_in", "fan_out"}  # a Factor reads a matrix' sizes
    return [name for name in RATIO_NAMES if name in found]


def of_sites(spec: RunSpec) -> Iterable[Value]:
    """The forward constants that belong to no tensor."""
    cells, found, scales = table(spec.parametrization).sites, multipliers(spec), spec.scales
    if MODELS[spec.model].attention:
        held = spec.architecture.attention_scale == "sqrt"
        cell = Power(head_dim=Fraction(-1, 2)) if held else cells[Site.ATTENTION]
        words = "held at 1/√d_head by model.attention_scale=sqrt" if held else ""
        yield _value("softmax scale", found.attention, cell, scales, words)
    yield _value("residual branch", found.residual, cells[Site.RESIDUAL], scales)
    yield _value("embedding output", spec.hparams.embedding_multiplier, Power(), scales)


def of_betas(spec: RunSpec) -> Iterable[Value]:
    """Adam's moving averages, where the optimizer has them; the table's factor is on 1−β."""
    cell, resolved = table(spec.parametrization).one_minus_beta, betas(spec)
    for name, target in zip(("beta1", "beta2"), resolved, strict=True):
        if name in spec.kind.reads:
            base = getattr(spec.hparams, name)
            yield Value(name=name, target=target, base=base, factor=cell(spec.scales), rule=f"1−β × {cell}")
