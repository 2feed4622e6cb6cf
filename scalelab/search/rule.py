"""Which runs are stopped early: a pruner of `scalelab.pruners`, and the tokens at which it is asked.

A rung is a number of tokens, the same for every run of a study: a run is asked after the first step at or beyond it,
and its loss there is reported as the rung's. So runs of different batches are compared at the same step of Optuna's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from optuna.pruners import BasePruner, HyperbandPruner
from optuna.trial import FrozenTrial

from scalelab.errors import Refused
from scalelab.pruners import pruner_class
from scalelab.pruners.idhb import IdhbPruner
from scalelab.search_views import quiet
from scalelab.spec import Horizon
from scalelab.values import integer, real

BRACKETS = ("hyperband", "idhb")
BETWEEN_SEEDS = "wilcoxon"  # asked between the runs of a trial, and not within one
DEPTH = 3  # halvings below the horizon, where min_resource is left out: η^DEPTH
ROUNDING = 1 - 1e-12  # of a fraction of the horizon
READ = {  # arguments that are read here, and not only handed on
    "hyperband": ("min_resource", "reduction_factor"),
    "idhb": ("min_resource", "reduction_factor"),
    "curve": ("rungs", "risk"),
    "median": ("rungs",),
    "wilcoxon": ("p_threshold", "n_startup_steps"),
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A pruner's name, the arguments of its class, the tokens of a full run, and the rungs in tokens, of all trials."""

    name: str
    arguments: Mapping[str, Any]
    horizon: int
    rungs: tuple[int, ...]

    @property
    def asks_runs(self) -> bool:
        """Whether it is asked within a run; else between the runs of a trial."""
        return self.name != BETWEEN_SEEDS

    @property
    def deepens(self) -> bool:
        """Whether the horizon may be raised."""
        return self.name == "idhb"

    def pruner(self) -> BasePruner:
        """The pruner itself; `Refused` on arguments that it does not accept."""
        try:
            with quiet():
                found: BasePruner = pruner_class(self.name)(**self.arguments)
        except Refused:
            raise
        except (TypeError, ValueError) as error:
            raise Refused(f"pruner {self.name}: {' '.join(str(error).split())}") from None
        return found

    def stages(self, seeds: int) -> tuple[range, ...]:
        """The runs of a trial, one a seed, in the order in which they are launched: a later stage if it goes on.

        Within runs the first seed's is judged, for all trials alike. Between them the test can say something only from
        some seeds on, and is asked after each one then.
        """
        ends = [0, 1, seeds] if self.asks_runs else [0, *range(self._first_decision(), seeds + 1)]
        return tuple(range(begin, end) for begin, end in pairwise(ends) if begin < end)

    def _first_decision(self) -> int:
        """After how many seeds a trial can be stopped: the signed-rank test of k pairs reaches 2^−k."""
        first = max(2, int(self.arguments["n_startup_steps"]))
        while 2.0**-first >= self.arguments["p_threshold"]:
            first += 1
        return first

    def check_seeds(self, seeds: int) -> None:
        """Refuse so few seeds that no trial could be stopped between them."""
        if not self.asks_runs and (least := self._first_decision() + 1) > seeds:
            raise Refused(
                f"pruner {self.name} with {seeds} tuning seed{'s' * (seeds > 1)}: accepted are at least {least} at"
                f" p_threshold={self.arguments['p_threshold']}, with fewer nothing could be stopped; give them in"
                " hydra.sweeper.tuning_seeds, or take hyperband, median or curve"
            )

    def steps(self, horizon: Horizon, trial: FrozenTrial, pruner: BasePruner, study: Any) -> dict[int, int]:
        """Where a run is asked: the step → its rung in tokens, of its own bracket if there are brackets."""
        rungs = self.rungs
        if isinstance(pruner, IdhbPruner):
            rungs = tuple(pruner.rungs(pruner.place(study, trial).bracket))
        elif isinstance(pruner, HyperbandPruner):
            pruner._try_initialization(study)
            rungs = rungs[pruner._get_bracket_id(study, trial) :]
        found = {-(-rung // horizon.batch_tokens): rung for rung in sorted(rungs) if rung < self.horizon}
        return {step: rung for step, rung in found.items() if step < horizon.steps}


def rule_of(config: Mapping[str, Any], horizon: int, *, first: int | None = None) -> Rule | None:
    """The rule of a sweeper's pruner; None for "none".

    Args:
        config: a choice of hydra/sweeper/pruner.
        horizon: tokens of a full run.
        first: those when the study was begun, where they were raised since.

    Raises:
        Refused: on a name or an argument that is not accepted, or where no rung is below the horizon.
    """
    given = {key: value for key, value in config.items() if key != "name"}
    name = str(config["name"])
    if name == "none":
        return None
    if lacking := [key for key in READ.get(name, ()) if key not in given]:
        raise Refused(f"pruner {name} without {', '.join(lacking)}: accepted is a choice of hydra/sweeper/pruner=NAME")
    rungs: tuple[int, ...] = ()
    if name in BRACKETS:
        eta = integer("reduction_factor", given["reduction_factor"])
        if eta < 2:
            raise Refused(f"reduction_factor={eta}: accepted is a whole number of at least 2")
        least = given["min_resource"]
        least = -(-(first or horizon) // eta**DEPTH) if least is None else integer("min_resource", least)
        if not 1 <= least < horizon:
            raise Refused(f"min_resource={least}: accepted are tokens from 1 to below the horizon of {horizon}")
        given |= {"min_resource": least, "reduction_factor": eta, "max_resource": horizon}
        rungs = tuple(least * eta**k for k in range(math.ceil(math.log2(horizon))) if least * eta**k < horizon)
    elif name in ("curve", "median"):
        fractions = _fractions(given["rungs"])
        rungs = tuple(math.ceil(fraction * horizon * ROUNDING) for fraction in fractions)
        if name == "curve":
            given |= {"rungs": fractions, "risk": real("risk", given["risk"]), "horizon": horizon}
        else:
            given.pop("rungs")
    elif name == BETWEEN_SEEDS:
        given |= {"p_threshold": real("p_threshold", given["p_threshold"])}
        if not 0 < given["p_threshold"] < 1:
            raise Refused(f"p_threshold={given['p_threshold']}: accepted is a chance above 0 and below 1")
    return _made(Rule(name=name, arguments=given, horizon=horizon, rungs=rungs))


def _made(rule: Rule) -> Rule:
    rule.pruner()  # refuses what is none
    return rule


def _fractions(given: Any) -> list[float]:
    if not isinstance(given, list) or not given:
        raise Refused(f"rungs={given!r}: accepted are fractions of the horizon above 0 and below 1, rungs=[0.25,0.5]")
    found = sorted(real("rungs", item) for item in given)
    if not 0 < found[0] <= found[-1] < 1 or len(set(found)) < len(found):
        raise Refused(f"rungs={given}: accepted are different fractions of the horizon above 0 and below 1")
    return found
