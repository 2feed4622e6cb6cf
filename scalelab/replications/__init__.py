"""Replications: the field's results, rerun with public commands and judged by numbers with intervals."""

from scalelab.replications.conclude import arxiv, conclude, head
from scalelab.replications.effects import at, carried, gap, selected, slope, tuned
from scalelab.replications.finding import Agreement, Finding, Verdict
from scalelab.replications.replication import Claim, Replication, read, replications

__all__ = [
    "Agreement", "Claim", "Finding", "Replication", "Verdict", "arxiv", "at", "carried", "conclude", "gap", "head",
    "read", "replications", "selected", "slope", "tuned",
]  # fmt: skip
