"""Jobs → tasks: populations of one program, cut so that the workers end together."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from scalelab.programs import GPU_MEMBERS, by_program
from scalelab.programs import members as usual_members
from scalelab.spec import RunSpec
from scalelab.trunks import branches

# A step of k members in one, over k steps of one: SHARED/k + 1 − SHARED. Measured at width 64 on an AVX2 core, k ≤ 16.
SHARED = 0.6
GAIN = 0.01  # a cut that ends the whole sooner by less is not made
CUTS_A_WORKER = 8  # beyond so many tasks a worker its last one is short against its others


@dataclass(frozen=True, kw_only=True)
class Task:
    """Jobs to train in one call of `run_jobs`, by their numbers.

    `members` is how many at a time, None where the worker's GPU decides. `deaths` counts the workers that this work has
    cost. `cost` is in FLOPs of runs alone.
    """

    jobs: tuple[int, ...]
    members: int | None
    cost: float
    deaths: int = 0


def tasks(
    specs: Mapping[int, RunSpec], *, workers: int, members: int | None = None, on_gpu: bool = False
) -> list[Task]:
    """Cut runs into tasks, the longest first.

    Args:
        specs: by number.
        workers: how many tasks are worked on at the same time.
        members: runs trained together at most; None: what is usual for their program on the device.
        on_gpu: whether the workers have GPUs.
    """
    numbers, whole = list(specs), list(specs.values())
    groups: list[_Cut] = []
    for group in by_program(whole).values():
        spec = whole[group[0]]
        most = 1 if spec.command else members or (GPU_MEMBERS if on_gpu else usual_members(spec))
        # Those that take as many steps stand together: they end together.
        units = sorted(
            _families({numbers[at]: whole[at] for at in group}),
            key=lambda unit: -max(specs[number].horizon.steps for number in unit),
        )
        costs = [sum(float(specs[number].cost_flops) for number in unit) for unit in units]
        groups.append(_Cut(units=units, costs=costs, most=most))
    made = [
        Task(
            jobs=tuple(number for unit in cut.units for number in unit),
            members=None if on_gpu and members is None and specs[cut.units[0][0]].command is None else cut.most,
            cost=cut.cost,
        )
        for cut in _balanced(groups, workers)
    ]
    return sorted(made, key=lambda task: -task.cost)


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A task that may still be cut between its units: single jobs, or jobs with a common trunk."""

    units: Sequence[tuple[int, ...]]
    costs: Sequence[float]
    most: int

    @property
    def cost(self) -> float:
        together = min(self.most, sum(map(len, self.units)))
        return sum(self.costs) * (SHARED / together + 1 - SHARED)

    def into(self, parts: int) -> "list[_Cut]":
        """As equal a number of units in each part as there can be."""
        ends = [len(self.units) * part // parts for part in range(parts + 1)]
        return [replace(self, units=self.units[a:b], costs=self.costs[a:b]) for a, b in pairwise(ends)]


def _balanced(groups: Sequence[_Cut], workers: int) -> list[_Cut]:
    """Each group in as many parts as it has populations; the longest in more, as long as that ends the whole sooner."""
    cuts = [group.into(-(-len(group.units) // group.most)) for group in groups]
    ends = _makespan(cuts, workers)
    while sum(map(len, cuts)) < CUTS_A_WORKER * workers:
        # Of the group with the longest task that can be cut; one part more may be worse than two.
        can = [at for at, group in enumerate(groups) if len(cuts[at]) < len(group.units)]
        if not can:
            break
        at = max(can, key=lambda at: max(cut.cost for cut in cuts[at]))
        most = min(len(groups[at].units), len(cuts[at]) + workers)
        tried = [[*cuts[:at], groups[at].into(n), *cuts[at + 1 :]] for n in range(len(cuts[at]) + 1, most + 1)]
        best = min(tried, key=lambda cuts: _makespan(cuts, workers))
        if _makespan(best, workers) > ends * (1 - GAIN):
            break
        cuts, ends = best, _makespan(best, workers)
    return [cut for parts in cuts for cut in parts]


def _makespan(cuts: Sequence[Sequence[_Cut]], workers: int) -> float:
    """When all have ended, if each worker that is free takes the longest that is left."""
    free = [0.0] * workers
    for cost in sorted((cut.cost for parts in cuts for cut in parts), reverse=True):
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def _families(specs: Mapping[int, RunSpec]) -> list[tuple[int, ...]]:
    """Runs that share a beginning in one, the others each by itself."""
    trunk = {number: branch.trunk for number, branch in branches(specs).items()}
    found: dict[int, list[int]] = {}
    for number in specs:
        root = number
        while root in trunk:
            root = trunk[root]
        found.setdefault(root, []).append(number)
    return [tuple(family) for family in found.values()]
