"""A file on its way to our columns: what is known so far, and what has to be said about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from scalelab.errors import Refused
from scalelab.laws.columns import COLUMNS, PARAMS, UNITS
from scalelab.readers.names import UNSTATED_BATCH
from scalelab.readers.runs import Runs


@dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """Columns by name of ours (also in other units), and how each came here.

    `theirs` says what a message calls a column ("column 'bs'"); `told` are the names that --column gave.
    """

    source: str
    columns: Mapping[str, "pd.Series[Any]"]
    theirs: Mapping[str, str]
    told: frozenset[str] = frozenset()
    guessed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conventions: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> "pd.Series[Any]":
        return self.columns[name]

    @property
    def counted(self) -> list[str]:
        """The columns that count parameters."""
        return [name for name in PARAMS if name in self.columns]

    def name(self, ours: str) -> str:
        """Their name of a column, as --column takes it."""
        return self.theirs[ours].removeprefix("column ").strip("'")

    def put(self, name: str, values: "pd.Series[Any]", theirs: str) -> "Draft":
        """With that column; `theirs` is where it comes from."""
        return replace(self, columns={**self.columns, name: values}, theirs={**self.theirs, name: theirs})

    def without(self, names: Iterable[str]) -> "Draft":
        """Without columns that were converted; what was guessed to be one of them still has to be said."""
        dropped = set(names)
        return replace(self, columns={name: values for name, values in self.columns.items() if name not in dropped})

    def left_out(self, name: str, sentence: str = "") -> "Draft":
        """Without a column that is of no use here, and without the guess that it was one."""
        draft = self.without([name]).note(sentence) if sentence else self.without([name])
        return replace(draft, guessed={ours: said for ours, said in self.guessed.items() if ours != name})

    def note(self, sentence: str) -> "Draft":
        return replace(self, notes=(*self.notes, sentence))

    def convention(self, quantity: str, counted: str) -> "Draft":
        return replace(self, conventions={**self.conventions, quantity: counted})

    def refused(self, sentence: str) -> Refused:
        return Refused(f"{self.source}: {sentence}")

    def runs(self) -> Runs:
        """The draft as it is handed over, when its columns are ours; `Refused` where none was found."""
        kept = [name for name in COLUMNS if name in self.columns]
        if not set(kept) & set(UNITS):
            raise self.refused(
                "no column of it is known by its name: needed are loss_nats and what was varied (lr, width, depth,"
                " params_non_embedding, tokens); map yours with --column NAME=THEIRS"
            )
        return Runs(
            table=pd.DataFrame({name: self.columns[name] for name in kept}).reset_index(drop=True),
            specs=(),
            sources=(self.source,),
            guessed={"batch_tokens" if ours == UNSTATED_BATCH else ours: said for ours, said in self.guessed.items()},
            notes=self.notes,
            conventions=self.conventions,
        )
