"""Two parametrizations held against each other modulo the abc-symmetry: which cells mean the same, and which do not.

Published tables look different where they are not: a multiplier in front of a weight can be traded for its init, its
learning rate and its eps (TP-V, arXiv:2203.03466, Lemma J.1). So both tables are brought to the form without
multipliers first, and what differs there differs in training. A tied embedding cannot give its multiplier away, so its
cells are compared as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from scalelab.errors import unknown
from scalelab.optimizers import MATRICES, optimizer_kind
from scalelab.parametrizations import PUBLISHED, TABLES
from scalelab.parametrizations.table import UNDECAYED, Family, Parametrization, Role, Rule
from scalelab.scale import Cell, Power

COLUMNS = tuple(column.name for column in fields(Rule))
TITLES = {"init": "init std", "weight_decay": "weight decay", "eps_input": "eps of inputs"}
Key = tuple[Role, Family]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One column of one role under one family, as both tables have it in the form without multipliers."""

    role: Role
    family: Family
    column: str
    a: Cell | None
    b: Cell | None

    @property
    def equal(self) -> bool:
        return self.a == self.b

    @property
    def equal_on_square(self) -> bool:
        """Whether the two agree as long as fan-in and fan-out grow alike: one counts the one, one the other."""
        powers = isinstance(self.a, Power) and isinstance(self.b, Power) and self.role in MATRICES
        return self.equal or (powers and _at_one_width(self.a) == _at_one_width(self.b))


@dataclass(frozen=True, kw_only=True)
class ComparedSite:
    """A factor that belongs to no parameter: a site's, or that on 1−β."""

    name: str
    a: Power
    b: Power

    @property
    def equal(self) -> bool:
        return self.a == self.b


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What two tables say of the same things.

    `cells` are all columns of every (role, family) that both cover, `sites` the factors that belong to no parameter;
    `only_a` and `only_b` what one of them covers alone.
    """

    a: str
    b: str
    cells: tuple[Compared, ...]
    sites: tuple[ComparedSite, ...]
    only_a: tuple[Key, ...]
    only_b: tuple[Key, ...]
    notes: tuple[str, ...]

    @property
    def differing(self) -> tuple[Compared, ...]:
        return tuple(cell for cell in self.cells if not cell.equal)

    @property
    def equal(self) -> bool:
        """Whether the two train alike wherever both say how."""
        return bool(self.cells) and not self.differing and all(site.equal for site in self.sites)

    def agreeing(self) -> tuple[str, ...]:
        """The columns that agree in every cell both have."""
        odd = {cell.column for cell in self.differing}
        return tuple(column for column in COLUMNS if column not in odd)

    @property
    def verdict(self) -> str:
        """In one line: equal, or the columns and sites that are not.

        >>> from scalelab.parametrizations import table
        >>> difference(table("mup"), table("mup_table_3")).verdict
        'equal modulo the symmetry'
        >>> difference(table("mup"), table("mup_package")).verdict
        'equal but for eps (adam)'
        """
        if not self.cells:
            return "nothing in common: there is no role and optimizer that both cover"
        if self.equal:
            return "equal modulo the symmetry"
        columns = [
            f"{titled(column)} ({', '.join(dict.fromkeys(str(cell.family) for cell in odd))}"
            f"{'; not where fan-in and fan-out grow alike' if all(cell.equal_on_square for cell in odd) else ''})"
            for column in COLUMNS
            if (odd := [cell for cell in self.differing if cell.column == column])
        ]
        return "equal but for " + ", ".join([*columns, *(site.name for site in self.sites if not site.equal)])


def difference(a: Parametrization, b: Parametrization, *, optimizer: str | None = None) -> Difference:
    """What two tables say differently, over all they cover or over what one optimizer needs.

    Raises:
        Refused: an unknown optimizer, or one for whose matrices a table has no rule.
    """
    ours, theirs = canonical(a), canonical(b)
    if optimizer is not None:
        for table in (a, b):
            table.rule(Role.HIDDEN, optimizer_kind(optimizer).family)
        needed = trained_by(optimizer)
        ours, theirs = ({key: rule for key, rule in rules.items() if key in needed} for rules in (ours, theirs))
    return Difference(
        a=a.name,
        b=b.name,
        cells=tuple(
            Compared(role=key[0], family=key[1], column=column, a=getattr(ours[key], column),
                     b=getattr(theirs[key], column))
            for key in ours if key in theirs for column in _meant(key[0])
        ),
        sites=(
            *(ComparedSite(name=str(site), a=a.sites[site], b=b.sites[site]) for site in a.sites if site in b.sites),
            ComparedSite(name="1−β", a=a.one_minus_beta, b=b.one_minus_beta),
        ),
        only_a=tuple(key for key in ours if key not in theirs),
        only_b=tuple(key for key in theirs if key not in ours),
        notes=tuple(_notes(a, b)),
    )  # fmt: skip


def reference(name: str) -> Parametrization:
    """The table of that name, or what a published source says of muP; `Refused` names all of them."""
    known = {**PUBLISHED, **TABLES}
    if name not in known:
        raise unknown("parametrization", name, known)
    return known[name]


def canonical(table: Parametrization) -> dict[Key, Rule]:
    """The rules of a table without multipliers, and those of a tied embedding as they stand."""
    return {**table.folded().rules, **{key: rule for key, rule in table.rules.items() if key[0] is Role.TIED}}


def trained_by(optimizer: str) -> frozenset[Key]:
    """The (role, family) pairs that training with an optimizer may need, with those of its second one."""
    kind = optimizer_kind(optimizer)
    kinds = [kind, *([optimizer_kind(kind.then)] if kind.then else [])]
    return frozenset((role, each.family_of(role)) for each in kinds for role in Role)


def titled(column: str) -> str:
    return TITLES.get(column, column)


def _meant(role: Role) -> Iterable[str]:
    # Gains and biases are never decayed here, so that two tables do not differ by what they say of it.
    return (column for column in COLUMNS if column != "weight_decay" or role not in UNDECAYED)


def _at_one_width(cell: Cell | None) -> Power:
    assert isinstance(cell, Power)
    fan_out = cell.exponent("fan_out")
    return cell * Power(fan_in=fan_out, fan_out=-fan_out)


def _notes(a: Parametrization, b: Parametrization) -> Iterable[str]:
    for table, other in ((a, b), (b, a)):
        if table.unit_scaled and not other.unit_scaled:
            yield (
                f"{table.name} is unit-scaled: its factors are of sizes, those of {other.name} of ratios (an exponent"
                " is the same in both), and its backward pass has factors of its own, which its eps follows"
            )
