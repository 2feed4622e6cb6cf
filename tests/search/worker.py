"""Workers of one search for tests: forks of one process, with runs that take a moment and are not trained.

`python -m tests.search.worker CONFIG.json`: `overrides` of the search, its `workers`, one dictionary each: `node` (as
if of another machine), `does` (what it does wrong), and `seconds` of a run. Every worker leaves its PID in pids/, and
what it does in log.txt.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from scalelab.claims import claim, holder
from scalelab.jobs import CLAIM
from scalelab.plan import planned, swept
from scalelab.readers.optuna_study import JOURNAL
from scalelab.search.loop import search
from scalelab.search.problem import problem_of
from scalelab.search.space import Space
from scalelab.search.storage import JournalLock
from scalelab.search.study import Study
from scalelab.search.works import Here
from scalelab.trials import Outcome, Trial
from tests.search.searching import bowl


def note(*words: object) -> None:
    line = " ".join(map(str, (*words, os.getpid(), f"{time.time():.3f}")))
    at = os.open("log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(at, f"{line}\n".encode())
    os.close(at)


def launcher(overrides: Sequence[str], seconds: float) -> Callable[[list[list[str]]], None]:
    asked = swept(overrides)

    def launch(jobs: list[list[str]]) -> None:
        for run in planned(map(asked.job, jobs)).runs:
            run.folder.path.mkdir(parents=True, exist_ok=True)
            mine = claim(run.folder.path / CLAIM)
            if mine is None:
                continue
            if run.folder.final(run.spec) is None:
                note("begin", run.spec.fingerprint)
                time.sleep(seconds)
                if mine.held:
                    run.folder.write(
                        Trial(
                            spec=run.spec,
                            outcome=Outcome.OK,
                            loss_nats=bowl(run.spec),
                            seconds=seconds,
                            cost_flops=run.spec.cost_flops,
                            tokens_seen=run.spec.horizon.tokens,
                        )
                    )
                    note("end", run.spec.fingerprint)
            mine.release()

    return launch


def holding_the_claim(when: int) -> None:
    """Hang in the middle of the ask of that number, everybody else being kept from asking."""
    ask, asks = Study.ask, iter(range(2**31))

    def hang(self: Study, space: Space) -> FrozenTrial:
        if next(asks) == when:
            self.optuna.ask()  # a trial without parameters
            note("holds", "claim")
            time.sleep(3600)
        return ask(self, space)

    Study.ask = hang  # type: ignore[method-assign]


def tearing_the_journal(study: Path) -> None:
    """Hang in the middle of a line of the journal, with its lock."""
    while not Path("log.txt").exists() or Path("log.txt").read_text().count("end") < 6:
        time.sleep(0.05)
    JournalLock(study / JOURNAL).acquire()
    with (study / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":6,"wor')
    note("holds", "journal")
    time.sleep(3600)


def work(config: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    node = str(mine.get("node", "here"))
    holder.here = lambda: (node, f"boot of {node}")  # type: ignore[assignment]
    problem = problem_of(swept(config["overrides"]))
    if mine.get("does") == "tears":
        tearing_the_journal(problem.folder)
    if mine.get("does") == "hangs":
        holding_the_claim(1)
    launch = launcher(config["overrides"], config["seconds"])
    search(problem, Here(launch), lambda line: note("said", line.replace(" ", "_")), most=1, poll_seconds=0.1)


def main(config: Mapping[str, Any]) -> int:
    Path("pids").mkdir(exist_ok=True)
    pids = {}
    for place, mine in enumerate(config["workers"]):
        if (pid := os.fork()) == 0:
            work(config, mine)
            os._exit(0)
        pids[pid] = place
        Path(f"pids/{place}").write_text(str(pid))
    codes = {}
    while pids:
        pid, status = os.wait()
        codes[pids.pop(pid)] = status
    Path("codes.json").write_text(json.dumps(codes))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
