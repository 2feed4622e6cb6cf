"""Tables of rules on the console: the list of them, one in full, two against each other."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Console

from scalelab import compare, parametrizations
from scalelab.compare import Compared, Difference, Key, titled, trained_by
from scalelab.console import grid, say
from scalelab.optimizers import OPTIMIZERS, optimizer_kind
from scalelab.parametrizations import TABLES
from scalelab.parametrizations.table import Family, Parametrization, Role, Rule
from scalelab.scale import Cell

UNDECAYED_NOTE = "gains and biases are never decayed here, whatever their rule says of weight decay"


def families(table: Parametrization) -> str:
    """The optimizer families that a table has rules for.

    >>> from scalelab.parametrizations import table
    >>> families(table("mup")), families(table("mup_package"))
    ('all families', 'adam, sgd')
    """
    found = [family for family in Family if any(other is family for _, other in table.rules)]
    return "all families" if len(found) == len(Family) else ", ".join(found)


def tables(name: str | None, console: Console, *, optimizer: str | None = None) -> None:
    """One table by its name, or the list of all."""
    if name is None:
        listing(TABLES, console, optimizer=optimizer)
    else:
        table(parametrizations.table(name), console, optimizer=optimizer)


def compared(a: str, b: str, console: Console, *, optimizer: str | None = None) -> None:
    """Two tables, or published references, by their names."""
    difference(compare.difference(compare.reference(a), compare.reference(b), optimizer=optimizer), console)


def listing(registered: Mapping[str, Parametrization], console: Console, *, optimizer: str | None = None) -> None:
    """Every table in two lines or three; with an optimizer those that have rules for its matrices."""
    family = None if optimizer is None else optimizer_kind(optimizer).family
    rows = [
        (name, f"{table.title}\n{transfers(table)}; {families(table)}", table.source)
        for name, table in registered.items()
        if family is None or (Role.HIDDEN, family) in table.rules
    ]
    console.print(grid("", ("table", "what it is; where its optimum stays; families", "source"), rows, left=3))
    say(console, f"families: {'; '.join(f'{each}: {_members(each)}' for each in Family)}", "dim")
    say(console, "`scalelab tables NAME` prints one in full, `scalelab compare A B` what two say differently", "dim")


def transfers(table: Parametrization) -> str:
    """Over which scales a table claims that the optimal base learning rate stays."""
    return f"transfers in {', '.join(table.transfers).replace('_', ' ')}" if table.transfers else "transfers in nothing"


def _members(family: Family) -> str:
    names = [name for name, kind in OPTIMIZERS.items() if kind.family is family]
    return ", ".join(names) or "rules only, no optimizer here"


def table(parametrization: Parametrization, console: Console, *, optimizer: str | None = None) -> None:
    """A parametrization as a paper prints it: for each optimizer family, a row for the roles that share a rule.

    Raises:
        Refused: the table has no rule for the optimizer's matrices.
    """
    needed = None if optimizer is None else trained_by(optimizer)
    if optimizer is not None:
        parametrization.rule(Role.HIDDEN, optimizer_kind(optimizer).family)
    say(console, f"{parametrization.name}: {parametrization.title}", "bold")
    say(console, f"source: {parametrization.source}")
    say(console, transfers(parametrization))
    rules = {key: rule for key, rule in parametrization.rules.items() if needed is None or key in needed}
    columns = ("role", "multiplier", "init std", "lr", "weight decay", "eps")
    for family, found in groupby(
        merged(rules), key=lambda row: row[0]
    ):  # each as wide as it needs: 120 columns hold it
        say(console, f"\n{family} ({_members(family)})")
        console.print(grid("", columns, [(", ".join(roles), *cells(rule)) for _, roles, rule in found], left=6))
    say(console, "")
    for family, roles, rule in merged(rules):
        if rule.eps_input is not None:  # K-FAC has two
            say(console, f"{family}, damping of the inputs' factor: {', '.join(roles)} × {rule.eps_input}")
    for site, cell in parametrization.sites.items():
        say(console, f"{site}: × {cell}")
    if parametrization.one_minus_beta.exponents:
        say(console, f"1−β of every moving average: × {parametrization.one_minus_beta}")
    for note in (UNDECAYED_NOTE, *parametrization.notes):
        say(console, f"note: {note}", "dim")


def merged(rules: Mapping[Key, Rule]) -> list[tuple[Family, tuple[str, ...], Rule]]:
    """Each family's rules, the roles that share one together."""
    shared: dict[tuple[Family, Rule], list[str]] = {}
    for (role, family), rule in rules.items():
        shared.setdefault((family, rule), []).append(str(role))
    order = list(Family)
    found = [(family, tuple(roles), rule) for (family, rule), roles in shared.items()]
    return sorted(found, key=lambda row: order.index(row[0]))


def cells(rule: Rule) -> tuple[str, ...]:
    """The five columns of a rule in words."""
    return (*map(str, (rule.multiplier, rule.init, rule.lr, rule.weight_decay)), written(rule.eps))


def written(cell: Cell | None) -> str:
    return "—" if cell is None else str(cell)


def difference(found: Difference, console: Console) -> None:
    """What two tables say differently, in the form without multipliers, and what they agree on."""
    say(console, f"{found.a} and {found.b}: {found.verdict}", "bold")
    if found.cells:
        keys = list(dict.fromkeys((cell.role, cell.family) for cell in found.cells))
        agreed = ", ".join(titled(column) for column in found.agreeing() if column not in ("multiplier", "eps_input"))
        say(console, f"compared in the form without multipliers: {_covers(keys)}")
        say(console, f"they agree in every {agreed}" if agreed else "no column agrees throughout")
    if found.differing:
        rows = [
            (titled(column), str(family), ", ".join(roles), written(a), written(b), remark)
            for (column, family, a, b, remark), roles in _grouped(found.differing).items()
        ]
        console.print(grid("", ("column", "optimizer", "role", found.a, found.b, ""), rows, left=6))
    for site in found.sites:
        say(console, f"{site.name}: × {site.a}{' in both' if site.equal else f', × {site.b}'}")
    for name, alone in ((found.a, found.only_a), (found.b, found.only_b)):
        if alone:
            say(console, f"{name} alone covers {_covers(alone)}")
    for note in found.notes:
        say(console, f"note: {note}", "dim")


def _grouped(odd: Iterable[Compared]) -> dict[tuple[str, Family, Cell | None, Cell | None, str], list[str]]:
    shared: dict[tuple[str, Family, Cell | None, Cell | None, str], list[str]] = {}
    for cell in odd:
        remark = "equal where fan-in and fan-out grow alike" if cell.equal_on_square else ""
        shared.setdefault((cell.column, cell.family, cell.a, cell.b, remark), []).append(str(cell.role))
    order = list(dict.fromkeys(column for column, *_ in shared))
    return dict(sorted(shared.items(), key=lambda item: order.index(item[0][0])))


def _covers(keys: Sequence[Key]) -> str:
    """Roles and families in words, the families that have the same roles together."""
    by_family: dict[Family, list[str]] = {}
    for role, family in keys:
        by_family.setdefault(family, []).append(str(role))
    alike: dict[tuple[str, ...], list[str]] = {}
    for family, roles in by_family.items():
        alike.setdefault(tuple(roles), []).append(str(family))
    return "; ".join(f"{', '.join(names)}: {', '.join(roles)}" for roles, names in alike.items())
