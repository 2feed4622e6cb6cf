"""Parametrizations: tables of transfer rules. To add one, write a file beside these and a line in `TABLES`."""

from scalelab.errors import unknown
from scalelab.parametrizations.completep import COMPLETEP, COMPLETEP_HALF
from scalelab.parametrizations.depth_mup import DEPTH_MUP
from scalelab.parametrizations.mup import MUP, MUP_PACKAGE
from scalelab.parametrizations.sp import SP
from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site

TABLES: dict[str, Parametrization] = {
    "sp": SP,
    "mup": MUP,
    "mup_package": MUP_PACKAGE,
    "depth_mup": DEPTH_MUP,
    "completep": COMPLETEP,
    "completep_half": COMPLETEP_HALF,
}


def table(name: str) -> Parametrization:
    """The registered parametrization of that name; `Refused` names the others.

    >>> table("mup").rule(Role.HIDDEN, Family.ADAM).lr
    Power(fan_in=-1)
    """
    if name not in TABLES:
        raise unknown("parametrization", name, TABLES)
    return TABLES[name]


__all__ = ["TABLES", "Family", "Parametrization", "Role", "Rule", "Site", "table"]
