"""Runs that begin alike: what several horizons have in common is trained once.

A schedule that is constant until it decays (WSD, arXiv:2404.06395 §4; "constant + cooldown", arXiv:2405.18392 §3) makes
the runs to several horizons one trunk with a short branch for each: at the last step before a shorter run's learning
rate falls, its state is copied and goes on by itself. The order of the data is a function of (seed, step), so a branch
has the bits of the run that was trained alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from scalelab.resolve import betas, settings
from scalelab.spec import RunSpec


@dataclass(frozen=True)
class Branch:
    """A run that begins as the run at `trunk` does, for its first `steps` steps."""

    trunk: int
    steps: int


def branches(specs: Mapping[int, RunSpec]) -> dict[int, Branch]:
    """For each run that shares its beginning with a longer one, the one that it shares most with."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for index, spec in specs.items():
        alike.setdefault(_without_horizon(spec), []).append(index)
    found: dict[int, Branch] = {}
    for family in alike.values():
        longest_first = sorted(family, key=lambda index: -specs[index].horizon.steps)
        for at, index in enumerate(longest_first):
            shared = {trunk: shared_steps(specs[trunk], specs[index]) for trunk in longest_first[:at]}
            best = max(shared, key=lambda trunk: shared[trunk], default=None)
            if best is not None and shared[best]:
                found[index] = Branch(trunk=best, steps=shared[best])
    return found


def shared_steps(long: RunSpec, short: RunSpec) -> int:
    """The number of first steps in which two runs do the same; 0 where they differ in more than their horizon."""
    if long.command is not None or _without_horizon(long) != _without_horizon(short):
        return 0
    if settings(long) != settings(short) or betas(long) != betas(short):
        return 0  # a table whose rules move with the horizon
    ends = [each.horizon.decay_start if each.kind.then else each.horizon.steps for each in (long, short)]
    steps = range(min(ends))
    return next((s for s in steps if long.horizon.lr_factor(s) != short.horizon.lr_factor(s)), len(steps))


def _without_horizon(spec: RunSpec) -> tuple[Any, ...]:
    """What runs of one family have in common: all but how long they are, and their schedules."""
    rest = (getattr(spec, each.name) for each in fields(spec) if each.name != "horizon")
    return (spec.horizon.batch_tokens, *rest)
