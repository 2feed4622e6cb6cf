"""Trackers: sinks that get a copy of each run as it goes. Our own files are the truth; a tracker is a convenience.

In the order of the data: what a run tells (`tracker`) → in a thread of its own, which may fail (`arms_length`) → as a
table shows it (`described`) → to W&B (`wandb_run`) or TensorBoard (`tensorboard`). Laws and recipes: `artifacts`.
"""

import inspect
from collections.abc import Callable
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.secrets import NAMES
from scalelab.trackers.arms_length import aside, waited_for
from scalelab.trackers.tensorboard import TensorBoardTracker
from scalelab.trackers.tracker import NoTracker, Tracker
from scalelab.trackers.wandb_run import WandbTracker

TRACKERS: dict[str, Callable[..., Tracker]] = {
    "none": NoTracker,
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
}


def tracker(name: str, **options: Any) -> Tracker:
    """The tracker of that name; `Refused` on an unknown name or option, and where its package is not installed."""
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    for option in options:
        if NAMES.search(option):
            raise Refused(
                f"tracker.{option}: a key is no setting, for settings are written to every run's folder; set"
                " WANDB_API_KEY in the environment, or `wandb login` once"
            )
    accepted = inspect.signature(TRACKERS[name]).parameters
    if odd := [option for option in options if option not in accepted]:
        said = f"accepted are {', '.join(accepted)}" if accepted else "it has none"
        raise Refused(f"unknown option {odd[0]!r} of tracker {name!r}: {said}")
    return TRACKERS[name](**options)


__all__ = ["TRACKERS", "NoTracker", "Tracker", "aside", "tracker", "waited_for"]
