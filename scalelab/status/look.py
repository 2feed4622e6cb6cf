"""Folders → how the studies in them stand, as often as is asked."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalelab.collection import COLLECTION_FILE
from scalelab.counted import counted
from scalelab.errors import Refused
from scalelab.status.collected import in_collection
from scalelab.status.run import Files, RunStatus, State, final_status, newest_claim, run_status
from scalelab.status.study import Peaks, StudyStatus, study_status
from scalelab.trials import METRICS_FILE, SPEC_FILE, TRIAL_FILE, folders_in, listed

MARKS = {TRIAL_FILE, METRICS_FILE, SPEC_FILE}  # one of them, or a claim, makes a folder a run's


@dataclass
class Look:
    """Looks at folders again and again: a run that has been seen to be final is not read again."""

    folders: Sequence[Path]
    _final: dict[str, RunStatus] = field(default_factory=dict, init=False)
    _collections: dict[str, int] = field(default_factory=dict, init=False)  # by study: when what was read was written

    def studies(self, *, now: float | None = None) -> tuple[StudyStatus, ...]:
        """Every study at or below the folders, by its folder: the runs beside each other in one.

        Args:
            now: seconds since 1970, the clock's if left out.

        Raises:
            Refused: where a folder is absent, or there is no run at or below any.
        """
        now = time.time() if now is None else now
        runs: dict[str, dict[str, RunStatus]] = {}
        for root in self.folders:
            if not root.is_dir():
                raise Refused(f"no folder {root}: give folders with runs at or below them, for example runs/my_study")
            looked = self._run_folders(str(root))
            for path, files in looked if self._final else counted(looked, f"looking at {root}"):
                study = path if path == str(root) else os.path.dirname(path)
                found = self._final[path] if files is None else run_status(files, now=now)
                if found.final:
                    self._final[path] = found
                runs.setdefault(study, {})[path] = found
        if not runs:
            given = ", ".join(map(str, self.folders))
            raise Refused(f"no runs in {given} or below: a run's folder holds {SPEC_FILE} or {TRIAL_FILE}")
        return tuple(study_status(Path(study), list(runs[study].values())) for study in sorted(runs))

    def _run_folders(self, folder: str) -> Iterator[tuple[str, Files | None]]:
        """Every run's folder at or below one, with its files; without them where the run is known to be final."""
        if folder in self._final or self._has_ended(folder):
            yield folder, None
            return
        entries = listed(folder)
        if MARKS & entries.keys() or newest_claim(entries) is not None:
            yield folder, entries
            return
        if COLLECTION_FILE in entries:
            self._take_up(folder, entries[COLLECTION_FILE].stat().st_mtime_ns)
        for entry in folders_in(entries):
            yield from self._run_folders(entry.path)

    def _has_ended(self, folder: str) -> bool:
        """Whether a folder has a final trial; asked before it is listed, which takes longer and is rarely needed."""
        found = final_status(f"{folder}{os.sep}{TRIAL_FILE}")
        if found is not None:
            self._final[folder] = found
        return found is not None

    def _take_up(self, study: str, written: int) -> None:
        """The final runs of a study's collection, which need not be looked at; they count where their folders are."""
        if self._collections.get(study) != written:
            self._collections[study] = written
            for name, found in in_collection(Path(study)):
                self._final.setdefault(f"{study}{os.sep}{name}", found)


def look(folders: Sequence[Path], *, now: float | None = None) -> tuple[StudyStatus, ...]:
    """How the studies at or below these folders stand, once; see `Look.studies`."""
    return Look(folders).studies(now=now)


def studies_as_json(studies: Sequence[StudyStatus], peaks: Peaks) -> list[dict[str, Any]]:
    """What `scalelab status --json` prints: FLOPs, seconds, joules; null where unknown."""
    return [
        {
            "folder": str(study.folder), "runs": study.runs,
            "states": {state.value: study.counts.get(state, 0) for state in State},
            "tokens": study.tokens, "tokens_total": study.tokens_total, "horizons_unknown": study.horizons_unknown,
            "flops": study.flops, "seconds": study.seconds, "flops_per_second": study.flops_per_second,
            "peak_share": study.peak_share(peaks), "energy_joules": study.energy_joules,
            "energy_runs": study.energy_runs, "eta_seconds": study.eta_seconds,
        }
        for study in studies
    ]  # fmt: skip
