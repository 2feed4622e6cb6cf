"""What one group of runs says."""

from dataclasses import dataclass

from scalelab.laws.fitted import Fit
from scalelab.laws.joint.result import Joint
from scalelab.laws.optima.noise import Noise
from scalelab.laws.optima.optimum import Optimum
from scalelab.laws.validate.forms import FormScore
from scalelab.laws.validate.published import Compared
from scalelab.laws.validate.sensitivity import Card
from scalelab.laws.validate.settings import Validation


@dataclass(frozen=True, kw_only=True)
class GroupLaws:
    """What one group of trials says: its settings, its optima, and the laws fitted to them.

    `key` is column → value of everything the group's runs share. `lr_fits` holds the laws of the optimal LR by name,
    fitted to the optima (two stages); `joint` all runs in one likelihood; `loss_fits` the laws of the loss.
    `not_fitted` says why others are not there. `n_failed` runs were dropped as infrastructure failures, `n_repeated` as
    repetitions of a row; `n_diverged` are used.
    """

    key: dict[str, str | float]
    noise: Noise | None
    optima: list[Optimum]
    lr_fits: dict[str, Fit]
    joint: Joint | None
    setting_fits: dict[str, Fit]
    loss_fits: dict[str, Fit]
    loss_scores: tuple[FormScore, ...]
    validation: Validation | None
    compared: tuple[Compared, ...]
    cards: tuple[Card, ...]
    not_fitted: dict[str, str]
    n_runs: int
    n_diverged: int
    n_failed: int
    n_repeated: int
