"""What a design is handed over as: proposals in the order in which to run them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

SIX_DIGITS = ".6g"


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """Runs at one scale: the product of `lrs`, `batch_tokens`, `weight_decays` and `seeds`.

    A tuple without values leaves that setting as it was in the sweep. `cost_flops` is of all these runs. `sd_after` is
    the standard deviation at the target once these and the proposals before them are run.
    """

    scale: dict[str, float]
    lrs: tuple[float, ...]
    batch_tokens: tuple[float, ...]
    weight_decays: tuple[float, ...]
    seeds: tuple[int, ...]
    cost_flops: float
    sd_after: float
    why: str

    @property
    def settings(self) -> dict[str, tuple[float, ...]]:
        """What is swept, by column, where values are given."""
        every = {"batch_tokens": self.batch_tokens, "weight_decay": self.weight_decays, "lr": self.lrs}
        return {name: values for name, values in every.items() if values}

    @property
    def n_runs(self) -> int:
        return sum(1 for _ in self.rows())

    def rows(self) -> Iterator[dict[str, float]]:
        """Every run as a row: the scale, its settings, its seed."""
        for values in itertools.product(*self.settings.values(), self.seeds):
            yield {**self.scale, **dict(zip((*self.settings, "seed"), values, strict=True))}


@dataclass(frozen=True, kw_only=True)
class NextRuns:
    """The runs that shrink the standard deviation of ln `of` at `target` most per FLOP.

    `now_sd` and `then_sd` are of that scale's own value and include what no run elsewhere can take away,
    `irreducible_sd`: how far a new scale lies from the law. All in natural logarithms.
    """

    target: dict[str, float]
    of: str
    now_sd: float
    then_sd: float
    irreducible_sd: float
    batches: tuple[Proposed, ...]
    cost_flops: float
    status: str

    @property
    def n_runs(self) -> int:
        return sum(batch.n_runs for batch in self.batches)

    def summary(self) -> str:
        """The design in a few lines of text."""
        rows = [
            f"  {k}. {worded(b.scale)}: {b.n_runs} runs, {b.cost_flops:.3g} FLOPs, {grids(b)}; {b.why}"
            for k, b in enumerate(self.batches, 1)
        ]
        return "\n".join([self.status, *rows])


def worded(scale: dict[str, float]) -> str:
    """A scale in words.

    >>> worded({"width": 256.0, "tokens": 1e9})
    'width 256, tokens 1e+09'
    """
    return ", ".join(f"{name} {value:{SIX_DIGITS}}" for name, value in scale.items())


def grids(batch: Proposed) -> str:
    """A proposal's settings in words."""
    found = [f"{name} {', '.join(f'{v:.3g}' for v in values)}" for name, values in batch.settings.items()]
    seeds = f"seed{'s' if len(batch.seeds) > 1 else ''} {', '.join(map(str, batch.seeds))}"
    return "; ".join([*(found or ["settings as tuned"]), seeds])
