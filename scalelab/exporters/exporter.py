"""What an exporter is: a recipe in one framework's words, all of it, or a refusal naming what it cannot say."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from scalelab.errors import Refused
from scalelab.exporters.handed import Handoff
from scalelab.parametrizations.table import UNDECAYED, Role


@dataclass(frozen=True, kw_only=True)
class Export:
    """Files by name, and notes: what a reader must do, or know, that stands in no file. Notes go into the files too."""

    files: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """A target of `scalelab export`.

    `write` takes the run and the options that were given (all of `options`, with their defaults filled in) and raises
    `Refused` on what it cannot express or fold. `checked` says against which version of the framework it was validated,
    and how. `options` are what the framework needs and no recipe knows: name → (default, what it is). For the catalogue
    `expresses`, `folds` and `refuses` say in words what becomes of a recipe's values.
    """

    title: str
    checked: str
    write: Callable[[Handoff, Mapping[str, str]], Export]
    options: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    expresses: str = ""
    folds: str = ""
    refuses: str = ""


def check_kinds(run: Handoff, framework: str, *, models: Collection[str], optimizers: Collection[str]) -> None:
    """`Refused` where the recipe is for another kind of network, or another optimizer, than a framework has."""
    if run.spec.model not in models:
        raise Refused(f"no export of model={run.spec.model} to {framework}: accepted are {', '.join(models)}")
    if run.spec.optimizer not in optimizers:
        raise Refused(
            f"no export of optimizer={run.spec.optimizer} to {framework}: accepted are {', '.join(optimizers)};"
            " its steps, and so what a recipe's numbers mean, are another optimizer's there"
        )


def check_gains(run: Handoff, framework: str) -> None:
    """`Refused` where a gain has to start elsewhere than at 1, for a framework that starts all of them there."""
    for each in run.tensors:
        if each.role in UNDECAYED and each.role is not Role.BIAS and not math.isclose(each.init_mean, 1, rel_tol=1e-12):
            raise Refused(
                f"{each.name} holds a folded multiplier and has to start at {each.init_mean:.6g}, where {framework}"
                " starts every gain at 1: sweep with the multiplier at 1, or export with param_groups"
            )
