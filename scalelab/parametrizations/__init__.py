"""Parametrizations: tables of transfer rules. To add one, write a file beside these and a line in `TABLES`."""

from scalelab.errors import unknown
from scalelab.parametrizations.completep import COMPLETED_P, COMPLETED_P_HALF, COMPLETEP, COMPLETEP_HALF
from scalelab.parametrizations.decay import POLICIES
from scalelab.parametrizations.depth_mup import DEPTH_MUP
from scalelab.parametrizations.everett import EVERETT
from scalelab.parametrizations.muon import MUON_MATCH_RMS, MUON_ORIGINAL
from scalelab.parametrizations.mup import MUP, MUP_PACKAGE, MUP_TABLE_3, MUP_TABLE_9
from scalelab.parametrizations.published import MEGATRON, PUBLISHED
from scalelab.parametrizations.soap import MUP_SOAP_DENSE
from scalelab.parametrizations.sp import SP
from scalelab.parametrizations.table import Family, Parametrization, Role, Rule, Site
from scalelab.parametrizations.u_mup import U_MUP

TABLES: dict[str, Parametrization] = {
    "sp": SP,
    "mup": MUP,
    "mup_table_3": MUP_TABLE_3,
    "mup_table_9": MUP_TABLE_9,
    "mup_package": MUP_PACKAGE,
    "megatron": MEGATRON,
    "depth_mup": DEPTH_MUP,
    "completep": COMPLETEP,
    "completep_half": COMPLETEP_HALF,
    "completed_p": COMPLETED_P,
    "completed_p_half": COMPLETED_P_HALF,
    "u_mup": U_MUP,
    "mup_soap_dense": MUP_SOAP_DENSE,
    "muon_original": MUON_ORIGINAL,
    "muon_match_rms": MUON_MATCH_RMS,
    **EVERETT,
}


def table(name: str) -> Parametrization:
    """The registered parametrization of that name; `Refused` names the others.

    >>> table("mup").rule(Role.HIDDEN, Family.ADAM).lr
    Power(fan_in=-1)
    """
    if name not in TABLES:
        raise unknown("parametrization", name, TABLES)
    return TABLES[name]


__all__ = ["POLICIES", "PUBLISHED", "TABLES", "Family", "Parametrization", "Role", "Rule", "Site", "table"]
