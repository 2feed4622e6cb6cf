"""A search as it is run from a shell: by this process, by several of this machine, or in the background."""

import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from scalelab import commands
from scalelab.answering import Answer, no_answer
from scalelab.console import say
from scalelab.errors import Refused
from scalelab.search.loop import search
from scalelab.search.problem import Problem, problem_of
from scalelab.searching.engines import works_of
from scalelab.searching.request import Request, in_its_folder, read_request
from scalelab.searching.watching import Watch, interrupted, watch

LOG_FILE = "search.log"
POLL_SECONDS = 0.5
LEFT_ALONE: list[subprocess.Popen[bytes]] = []  # or Python would warn that nobody waits for them


def check(request: Request, problem: Problem) -> None:
    """Refuse workers that would train nothing themselves."""
    if request.workers < 1:
        raise Refused(f"--workers {request.workers}: accepted is a whole number of at least 1")
    if request.workers > 1 and request.asked.is_elsewhere:
        raise Refused(
            f"--workers {request.workers} with an engine, which trains elsewhere: one process hands over"
            " hydra.sweeper.n_jobs runs at a time; leave --workers out"
        )
    if (file := problem.folder).exists() and not file.is_dir():
        raise Refused(f"{file} is no folder: set out or study")


def conduct(request: Request, console: Console, answer: Answer = no_answer) -> int:
    """Show what is to be done, do it here, show what came, and answer with it; 0 when it went to its end."""
    with in_its_folder(request):
        asked = request.asked
        problem = problem_of(asked)

        def launched() -> None:
            if request.workers > 1:
                _several(request, problem, console)
            else:
                work(request, console)

        try:
            return commands.search(asked, launched, console=console, dry_run=False, answer=answer)
        except KeyboardInterrupt:
            return interrupted(problem.folder, console)


def work(request: Request, console: Console) -> None:
    """Be one worker of the search until its end."""
    with in_its_folder(request):
        asked = request.asked
        problem = problem_of(asked)
        with works_of(asked) as (works, poll_seconds):
            most = problem.settings.n_jobs if asked.is_elsewhere else 1
            search(problem, works, lambda line: say(console, line), most=most, poll_seconds=poll_seconds)


def detach(request: Request, console: Console) -> None:
    """Have a process of its own session conduct it, and say how to look at it."""
    with in_its_folder(request):
        problem = problem_of(request.asked)
        process = _started(request, problem.folder, "--workers", str(request.workers))
        LEFT_ALONE.append(process)
        folder = problem.folder
    say(
        console,
        f"search {problem.name} goes on in process {process.pid}, which outlives this shell: {folder}/{LOG_FILE}",
    )
    for what in ("status", "attach", "stop"):
        say(console, f"  scalelab search {what} {folder}")


def attach(study: Path, console: Console, answer: Answer = no_answer) -> int:
    """Watch a search as long as anybody is at work on it, then do what is left; the exit status is `conduct`'s."""
    request = read_request(study)
    with in_its_folder(request):
        problem = problem_of(request.asked)
        try:
            watch(problem.folder, problem, console)
        except KeyboardInterrupt:
            return interrupted(problem.folder, console)
        return conduct(request, console, answer)


def _several(request: Request, problem: Problem, console: Console) -> None:
    """Workers on this machine, watched until all have ended."""
    working = [_started(request, problem.folder, "--worker") for _ in range(request.workers)]
    say(console, f"{len(working)} workers: {problem.folder / LOG_FILE}")
    watch = Watch(problem=problem, console=console)
    try:
        while any(process.poll() is None for process in working):
            watch.look()
            time.sleep(POLL_SECONDS)
        watch.look()
    except BaseException:  # Ctrl-C among others: nobody trains on for nobody
        for process in working:
            process.terminate()
        raise
    if all(process.returncode for process in working):
        raise Refused(f"no worker went to the end: {_last_line(problem.folder / LOG_FILE)}")


def _started(request: Request, study: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "scalelab.cli", "search", "run", *request.arguments, *more]
    study.mkdir(parents=True, exist_ok=True)
    with (study / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=request.directory
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"see {log}"
