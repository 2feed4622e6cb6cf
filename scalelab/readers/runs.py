"""What a reader gives back: one table of trials, and everything that was assumed on the way to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scalelab.spec import RunSpec, as_plain


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Trials as a table, a row a run, with those of the columns `COLUMNS` that are known, and what is behind it.

    `specs` are full specs of run folders (none from files): of those that differ only in what a law explains, the
    largest one's. `guessed` says which column of a file was taken for
    which of ours without being told, and why; `notes` are sentences on what was converted, derived or left out;
    `conventions` says what each quantity counts. None of them may stay unsaid: whoever asks for a fit is shown them.
    """

    table: pd.DataFrame
    specs: tuple[RunSpec, ...]
    sources: tuple[str, ...]
    guessed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conventions: Mapping[str, str] = field(default_factory=dict)

    @property
    def template(self) -> dict[str, Any] | None:
        """For each parametrization/optimizer, the plain spec of its largest run; None where the specs are unknown."""
        largest: dict[str, RunSpec] = {}
        for spec in sorted(self.specs, key=lambda spec: spec.cost_flops):
            largest[f"{spec.parametrization}/{spec.optimizer}"] = spec
        return {key: as_plain(spec) for key, spec in largest.items()} or None
