"""What `parametrize` found: the settings of every parameter, and the ordinary torch things that are made of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from scalelab.errors import Refused, unknown
from scalelab.hparams import Hparams
from scalelab.modules.parameters import unwrapped
from scalelab.modules.sites import Sites
from scalelab.optim import built
from scalelab.optimizers import optimizer_kind
from scalelab.parametrizations.table import Parametrization
from scalelab.resolve import Setting, base_values, moved_betas
from scalelab.scale import Ratios

READS = ("eps", "damping", "beta1", "beta2", "momentum", "shape_factor", "handed_lr_factor")  # fields of `Hparams`
Rate = float | torch.Tensor
Groups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Parametrized:
    """A model with a table applied to it.

    `settings` has one entry for each parameter, in the model's order: its tensor (role, fans at model and base), its
    family, the std it starts with, its forward multiplier, and the factors of lr, weight_decay and eps on the values of
    the base. `sites` are the multipliers that belong to no parameter, `scales` the ratios of the run as a whole,
    `notes` what was decided and could have been decided otherwise.
    """

    model: nn.Module
    parametrization: Parametrization
    optimizer_name: str
    settings: tuple[Setting, ...]
    scales: Ratios
    sites: Sites
    notes: tuple[str, ...]

    def at(self, *, lr: float, weight_decay: float = 0.0, **hparams: Any) -> tuple[Setting, ...]:
        """The settings as values, from those of the base: lr, weight_decay, and what else the optimizer `READS`.

        Raises:
            Refused: on a value that is out of range, or a name that is not read here.
        """
        for name in hparams:
            if name not in READS:
                raise unknown("hyperparameter", name, READS)
        stated = Hparams(lr=lr, weight_decay=weight_decay, **hparams)
        return tuple(self._valued(setting, stated) for setting in self.settings)

    def _valued(self, setting: Setting, stated: Hparams) -> Setting:
        lr, weight_decay, eps = base_values(stated, optimizer_kind(self.optimizer_name), setting.tensor)
        return replace(
            setting,
            lr=lr * setting.lr,
            weight_decay=weight_decay * setting.weight_decay,
            eps=None if setting.eps is None else eps * setting.eps,
        )

    def groups(self, *, lr: Rate, weight_decay: float = 0.0, model: nn.Module | None = None, **hparams: Any) -> Groups:
        """The parameters as torch parameter groups: those of equal role and values together, by name.

        Each carries `names`, `role`, `family`, `peak_lr` beside `lr`, `weight_decay` and, where its optimizer has one,
        `eps`. A tensor `lr` is copied for each group, so that none is another's alias. Every parameter that requires a
        gradient is in exactly one group; frozen ones are left out (`frozen`). `model` is the model as it is now where
        that is another object than was parametrized: a copy, or wrapped in DDP, FSDP or torch.compile.

        Raises:
            Refused: where the model has a parameter that was not there when it was parametrized, or lacks one.
        """
        parameters = self._named(model)
        entries: dict[tuple[object, ...], dict[str, Any]] = {}
        values = self.at(lr=float(lr), weight_decay=weight_decay, **hparams)
        for setting in sorted(values, key=lambda each: each.tensor.name):
            parameter = parameters[setting.tensor.name]
            if not parameter.requires_grad:
                continue
            shared = (setting.tensor.role, setting.family, setting.lr, setting.weight_decay, setting.eps)
            if shared not in entries:
                entries[shared] = _group(setting, lr)
            entries[shared]["params"].append(parameter)
            entries[shared]["names"].append(setting.tensor.name)
        return list(entries.values())

    def frozen(self, model: nn.Module | None = None) -> tuple[str, ...]:
        """The parameters that are in no group because they require no gradient."""
        return tuple(name for name, value in self._named(model).items() if not value.requires_grad)

    def _named(self, model: nn.Module | None) -> dict[str, nn.Parameter]:
        known = {setting.tensor.name for setting in self.settings}
        found = {}
        for name, value in (self.model if model is None else model).named_parameters():
            plain = unwrapped(name, known)
            if plain not in known:
                raise Refused(f"{name} was not there when the model was parametrized: build and parametrize it anew")
            found[plain] = value
        if missing := sorted(known - found.keys()):
            raise Refused(f"{missing[0]} was parametrized and is not a parameter of the model any more")
        return found

    def betas(self, beta1: float = 0.9, beta2: float = 0.95) -> tuple[float, float]:
        """β1 and β2, moved by the table from the base's batch and tokens; `Refused` where nothing of one is left."""
        stated = Hparams(lr=1.0, beta1=beta1, beta2=beta2)
        return moved_betas(stated, self.parametrization.one_minus_beta(self.scales))

    def optimizers(
        self, *, lr: Rate, weight_decay: float = 0.0, model: nn.Module | None = None, **hparams: Any
    ) -> list[torch.optim.Optimizer]:
        """The optimizers, built: one, or two where a matrix optimizer hands the rest to AdamW."""
        name = self.optimizer_name
        if optimizer_kind(name).then:
            raise Refused(f"optimizer {name!r} changes hands during the run: take groups() and build the two yourself")
        grouped = self.groups(lr=lr, weight_decay=weight_decay, model=model, **hparams)
        stated = Hparams(lr=float(lr), weight_decay=weight_decay, **hparams)
        return built(name, grouped, stated, self.betas(stated.beta1, stated.beta2))

    def optimizer(self, *, lr: Rate, **rest: Any) -> torch.optim.Optimizer:
        """The one optimizer; `Refused` where there are two (`optimizers`)."""
        found = self.optimizers(lr=lr, **rest)
        if len(found) > 1:
            raise Refused(f"optimizer {self.optimizer_name!r} hands vectors to AdamW and is two: call optimizers()")
        return found[0]

    def table(self, settings: Sequence[Setting] | None = None) -> str:
        """The settings as text, equal blocks in one line; those of `at(…)` where they are given, else the factors."""
        lines: dict[tuple[str, ...], list[float]] = {}
        for each in settings or self.settings:
            ratios = each.tensor.ratios(self.scales)
            parts = each.tensor.name.split(".")
            name = ".".join("*" if part.isdigit() and each.tensor.in_block else part for part in parts)
            row = (name, str(each.tensor.role), *map(str, (ratios.fan_in, ratios.fan_out, ratios.depth)))
            numbers = (each.multiplier, each.lr, each.weight_decay, each.eps)
            key = (*row, *("-" if number is None else f"{number:.4g}" for number in numbers))
            lines.setdefault(key, []).append(each.init_std)
        head = ("parameter", "role", "m_in", "m_out", "m_L", "multiplier", "lr", "weight_decay", "eps", "init std")
        rows = [head, *((*key, f"{median(stds):.2g}") for key, stds in lines.items())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return "\n".join(_line(row, widths) for row in rows)


def _group(setting: Setting, lr: Rate) -> dict[str, Any]:
    def rate() -> Rate:
        # The factor again, on a copy: a tensor stays one (a learning rate that a compiled step reads), and its own.
        return torch.full_like(lr, setting.lr) if isinstance(lr, torch.Tensor) else setting.lr

    entry: dict[str, Any] = {
        "params": [], "names": [], "role": str(setting.tensor.role), "family": str(setting.family),
        "peak_lr": rate(), "lr": rate(), "weight_decay": setting.weight_decay,
    }  # fmt: skip
    return entry if setting.eps is None else {**entry, "eps": setting.eps}


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
