"""Replications: the field's results, rerun with public commands and judged by numbers with intervals."""

from scalelab.replications.budgets import compute_optimal, optimal_lr, tuned_losses
from scalelab.replications.checked import departures, peaks, separating, singular_values
from scalelab.replications.conclude import conclude, head
from scalelab.replications.curves import larger_ahead, larger_behind, training
from scalelab.replications.effects import at, carried, for_laws, gap, selected, slope, tuned
from scalelab.replications.finding import Agreement, Finding, Verdict
from scalelab.replications.fronts import apart, fronts, lowest
from scalelab.replications.landscape import bowls, triples
from scalelab.replications.per_seed import crossing, distances, over_seeds, powers, vertices
from scalelab.replications.ranks import ranking
from scalelab.replications.regret import regret
from scalelab.replications.replication import Claim, Replication, read, replications
from scalelab.replications.stays import stays

__all__ = [
    "Agreement", "Claim", "Finding", "Replication", "Verdict", "apart", "at", "bowls", "carried",
    "compute_optimal", "conclude", "crossing", "departures", "distances", "for_laws", "fronts", "gap", "head",
    "larger_ahead", "larger_behind", "lowest", "optimal_lr", "over_seeds", "peaks", "powers", "ranking",
    "read", "regret", "replications", "selected", "separating", "singular_values", "slope", "stays",
    "training", "triples", "tuned", "tuned_losses", "vertices",
]  # fmt: skip
