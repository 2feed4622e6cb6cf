"""A study's collection → how its final runs stand."""

from collections.abc import Iterator
from pathlib import Path

from scalelab.collection import MACHINE, columns_of
from scalelab.status.run import RunStatus, ended, machine

COLUMNS = ("run", "outcome", "tokens", "tokens_seen", "trunk_tokens", "cost_flops", "seconds", "energy_joules")


def in_collection(study: Path) -> Iterator[tuple[str, RunStatus]]:
    """Every run of a study's collection by the name of its folder; none without a collection.

    Raises:
        Refused: on a collection that cannot be read.
    """
    columns = columns_of(study, (*COLUMNS, *MACHINE))
    for run, outcome, horizon, tokens, trunk, flops, seconds, energy, *at in zip(*columns.values(), strict=True):
        yield run, ended(
            outcome=outcome, horizon=horizon, tokens=tokens, trunk=trunk, flops=flops, seconds=seconds, energy=energy,
            machine=machine(*at),
        )  # fmt: skip
