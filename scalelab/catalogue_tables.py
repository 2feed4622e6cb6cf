"""The generated tables about parametrizations: what there is, what it says, what is proved, where sources disagree."""

from collections.abc import Iterable, Sequence

from scalelab.compare import difference
from scalelab.optimizers import OPTIMIZERS, Optimizer, optimizer_kind
from scalelab.parametrizations import PUBLISHED, TABLES, Family, Parametrization, Role, Site
from scalelab.parametrizations.everett import EVERETT
from scalelab.parametrizations.proofs import PROOFS
from scalelab.parametrizations.table import Rule
from scalelab.scale import Power

Rows = tuple[Sequence[str], Iterable[Sequence[str]]]
SHOWN = {"AdamW": Family.ADAM, "SGD": Family.SGD, "Adafactor": Family.ADAFACTOR, "Muon": Family.MUON}


def parametrizations() -> Rows:
    """What there is."""
    return ("name", "title", "transfers in", "optimizers", "source"), [
        (
            f"`{name}`",
            table.title,
            ", ".join(table.transfers).replace("_", " ") or "—",
            _names(covered(table), len(OPTIMIZERS)),
            table.source,
        )
        for name, table in TABLES.items()
    ]


def rules() -> Rows:
    """What the tables say, those that are not told apart by an alignment."""
    columns = ("name", *(f"hidden lr, {name}" for name in SHOWN), "hidden eps, AdamW", "readout multiplier",
               "attention", "branch")  # fmt: skip
    return columns, [
        (
            f"`{name}`",
            *(_cell(table, Role.HIDDEN, family, "lr") for family in SHOWN.values()),
            _cell(table, Role.HIDDEN, Family.ADAM, "eps"),
            _cell(table, Role.READOUT, Family.ADAM, "multiplier"),
            str(table.sites[Site.ATTENTION]),
            str(table.sites[Site.RESIDUAL]),
        )
        for name, table in TABLES.items()
        if name not in EVERETT
    ]


def proofs() -> Rows:
    """What is proved of which table, by which test; the tables with the same proofs together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, found in PROOFS.items():
        for proof in found:
            tests = ", ".join(_link(test) for test in proof.tests)
            tests += " (`make slow`)" if proof.slow else ""
            row = (_names(map(str, proof.families), len(Family)), proof.claim, tests)
            alike.setdefault(row, []).append(f"`{name}`" if name in TABLES else name)
    return ("table", "optimizer families", "what is proved", "by"), [
        (", ".join(names), *row) for row, names in alike.items()
    ]


def agreement() -> Rows:
    """What published sources say of muP in width under AdamW, brought to the form of Table 8."""
    columns = ("source", "eps: embedding", "hidden", "gain, bias", "readout", "weight decay: hidden", "readout",
               "beside `mup`", "where it stands")  # fmt: skip
    rows = []
    for name, table in {"mup": TABLES["mup"], **PUBLISHED}.items():
        at = table_8(table)
        decay = [str(at[role].weight_decay) for role in (Role.HIDDEN, Role.READOUT)]
        eps = [str(at[role].eps) if role in at else "none there"
               for role in (Role.EMBEDDING, Role.HIDDEN, Role.GAIN, Role.READOUT)]  # fmt: skip
        verdict = difference(TABLES["mup"], table, optimizer="adamw").verdict.replace(" (adam)", "")
        rows.append((f"{table.title} (`{name}`)", *eps, *decay, verdict, table.source))
    return columns, rows


def optimizers() -> Rows:
    """The optimizers, with the family whose rules each follows."""
    return ("name", "title", "family", "reads, beside lr, weight decay and clip norm", "source"), [
        (f"`{name}`", kind.title, _family(kind), ", ".join(f"`{each}`" for each in kind.reads) or "—", kind.source)
        for name, kind in OPTIMIZERS.items()
    ]


def covered(table: Parametrization) -> list[str]:
    """The optimizers with which a table trains a language model: it has rules for its matrices and its tables."""
    found = []
    for name, kind in OPTIMIZERS.items():
        kinds = [kind, *([optimizer_kind(kind.then)] if kind.then else [])]
        needed = {(role, each.family_of(role)) for each in kinds for role in (Role.EMBEDDING, Role.HIDDEN)}
        if needed <= table.rules.keys():
            found.append(name)
    return found


def table_8(table: Parametrization) -> dict[Role, Rule]:
    """A table's rules for AdamW with the readout's multiplier as Table 8 of TP-V has it, and no other."""
    form = table.folded().shifted({Role.READOUT: Power(fan_in=-1)})
    return {role: rule for (role, family), rule in form.rules.items() if family is Family.ADAM}


def _cell(table: Parametrization, role: Role, family: Family, column: str) -> str:
    rule = table.rules.get((role, family))
    return "—" if rule is None else str(getattr(rule, column))


def _family(kind: Optimizer) -> str:
    return f"{kind.family}, then {optimizer_kind(kind.then).family}" if kind.then else str(kind.family)


def _names(names: Iterable[str], everything: int) -> str:
    found = list(names)
    return "all" if len(found) == everything else ", ".join(found) or "—"


def _link(test: str) -> str:
    file, _, function = test.partition("::")
    return f"[`{function}`]({file})"
