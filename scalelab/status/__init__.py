"""How sweeps stand, read from their run folders alone: whoever launched them, wherever they run. Nothing is written."""

from scalelab.status.look import Look, look, studies_as_json
from scalelab.status.run import Machine, RunStatus, State
from scalelab.status.study import Peaks, StudyStatus, known_peaks

__all__ = [
    "Look", "Machine", "Peaks", "RunStatus", "State", "StudyStatus", "known_peaks", "look", "studies_as_json",
]  # fmt: skip
