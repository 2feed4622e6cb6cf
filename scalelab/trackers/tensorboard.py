"""TensorBoard: event files in each run's folder, `tensorboard --logdir runs/study` shows them all."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalelab.errors import Refused
from scalelab.spec import from_plain
from scalelab.trackers.described import columns_of, name_of, scalars_of
from scalelab.trackers.tracker import Tracker
from scalelab.trials import Trial

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

OVER_STEPS, OVER_TOKENS = "over_steps", "over_tokens"  # TensorBoard has one axis: each scalar is there on both
FINAL = ("loss_nats", "loss_bits_per_byte", "train_loss_nats", "seconds", "cost_flops")  # of a trial


class TensorBoardTracker(Tracker):
    """Writes each curve over steps and over tokens, and at the end the hyperparameters with the trial's numbers.

    The whole curve is in one file: that of an attempt before this one is removed.

    Raises:
        Refused: without tensorboard.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise Refused("tracker=tensorboard, but tensorboard is not installed: pip install 'scalelab[tensorboard]'")
        self.writer: SummaryWriter
        self.columns: dict[str, Any] = {}

    @property
    def needs(self) -> tuple[str, ...]:
        return ("torch.utils.tensorboard",)

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        run = from_plain(spec)
        self.columns = columns_of(run)
        place = folder / folder_name(name_of(run).removesuffix(run.fingerprint))
        for earlier in place.glob("events.out.tfevents.*"):
            earlier.unlink()
        self.writer = SummaryWriter(str(place), flush_secs=30)

    def record(self, values: Mapping[str, Any]) -> None:
        for tag, value in scalars_of(values).items():
            self.writer.add_scalar(f"{OVER_STEPS}/{tag}", value, values["step"])
            self.writer.add_scalar(f"{OVER_TOKENS}/{tag}", value, values["tokens"])

    def finish(self, trial: Trial | None) -> None:
        if trial is not None:
            self._say(trial)
        self.writer.close()

    def _say(self, trial: Trial) -> None:
        from torch.utils.tensorboard.summary import hparams

        found = {f"final/{name}": float(value) for name in FINAL if (value := vars(trial)[name]) is not None}
        asked = {**self.columns, "outcome": str(trial.outcome)}
        # As `SummaryWriter.add_hparams`, which would put them into a folder of their own.
        for summary in hparams(asked, dict.fromkeys(found, 0.0)):  # type: ignore[no-untyped-call]
            self.writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        for tag, value in found.items():
            self.writer.add_scalar(tag, value, trial.tokens_seen)
        if trial.reason is not None:
            self.writer.add_text("reason", trial.reason)


def folder_name(name: str) -> str:
    """A name as a folder's.

    >>> folder_name("mup adamw w64 lr=0.01 ")
    'mup-adamw-w64-lr=0.01'
    """
    return re.sub(r"[^A-Za-z0-9_.=]+", "-", name).strip("-.")
