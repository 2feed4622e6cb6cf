"""What to run next: the runs that say most for their FLOPs about a target that is not yet trained.

fits, target → space (scales, cost) → ways, settings (grids) → of_joint, of_loss (information) → search → written
"""

from scalelab.laws.design.next_runs import next_runs
from scalelab.laws.design.proposed import NextRuns, Proposed
from scalelab.laws.design.written import as_csv, as_studies

__all__ = ["NextRuns", "Proposed", "as_csv", "as_studies", "next_runs"]
