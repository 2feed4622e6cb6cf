"""Several sources as one table: their columns by our names, and what they do not share said."""

from collections.abc import Sequence

import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import COLUMNS, PARAMS
from scalelab.readers.runs import Runs


def joined(found: Sequence[Runs]) -> Runs:
    """All runs in one table; each sentence that holds for one of several sources names it.

    Raises:
        Refused: where one source counts parameters in one way only and another in another: no law may mix them.
    """
    if len(found) == 1:
        return found[0]
    tables, notes = [runs.table for runs in found], []
    counted = {runs.sources[0]: [name for name in PARAMS if name in runs.table] for runs in found}
    counting = [set(names) for names in counted.values() if names]
    common = set.intersection(*counting) if counting else set()
    if counting and not common:
        each = "; ".join(f"{source} {' and '.join(names)}" for source, names in counted.items() if names)
        raise Refused(
            f"parameters are counted differently ({each}), and the exponents differ with what is counted: state the"
            " same with --column, for example params_non_embedding=N"
        )
    for name in sorted(set().union(*counting) - common):
        tables = [table.drop(columns=name, errors="ignore") for table in tables]
        notes.append(f"{name} is left out: not every source has it")
    table = pd.concat(tables, ignore_index=True)
    return Runs(
        table=table[[name for name in COLUMNS if name in table]],
        specs=tuple(spec for runs in found for spec in runs.specs),
        sources=tuple(source for runs in found for source in runs.sources),
        guessed=_merged([dict(runs.guessed) for runs in found], found),
        notes=(*(f"{runs.sources[0]}: {note}" for runs in found for note in runs.notes), *notes),
        conventions=_merged([dict(runs.conventions) for runs in found], found),
    )


def _merged(said: Sequence[dict[str, str]], found: Sequence[Runs]) -> dict[str, str]:
    """One sentence where all sources say the same, theirs by source where they do not."""
    merged = {}
    for name in dict.fromkeys(name for sentences in said for name in sentences):
        by_source = {runs.sources[0]: each[name] for runs, each in zip(found, said, strict=True) if name in each}
        same = len(set(by_source.values())) == 1
        merged[name] = next(iter(by_source.values())) if same else "; ".join(f"{k}: {v}" for k, v in by_source.items())
    return merged
