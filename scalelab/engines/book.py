"""What was handed over to engines, by whichever launcher, kept in the study folder so that nothing is twice.

It is changed by one process at a time and written before and after the handing over: whoever finds an entry without a
ticket knows that its launcher was killed in between.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from scalelab.claims import claimed
from scalelab.errors import Refused
from scalelab.files import write_atomically

FOLDER = ".engine"
TICKETS = "tickets.json"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An order that was handed over.

    `ticket` is None while it is being handed over, as the order at `place` of those under `label`. `runs` has the names
    of its run folders, each with the time (ns since 1970) of the trial that was there before, None where there was
    none: what is newer came of this order.
    """

    engine: str
    label: str
    place: int
    runs: Mapping[str, int | None]
    ticket: str | None = None


Book = dict[str, Entry]  # by the name of a run's folder; an order of several runs is there for each


def read(study: Path) -> Book:
    """The book of a study; empty where nothing was handed over.

    Raises:
        Refused: on a book that is corrupt.
    """
    file = study / FOLDER / TICKETS
    try:
        entries = [Entry(**plain) for plain in json.loads(file.read_text())]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise Refused(f"{file} is corrupt ({error}): remove it when nothing of the study is queued") from None
    return {name: entry for entry in entries for name in entry.runs}


def write(study: Path, book: Book) -> None:
    """Put a book in its place, whole. Of an order that was handed over again in part the other runs stay."""
    kept: dict[tuple[str, int], list[str]] = {}
    for name, entry in book.items():
        kept.setdefault((entry.label, entry.place), []).append(name)
    entries = [
        asdict(book[names[0]]) | {"runs": {name: book[names[0]].runs[name] for name in names}}
        for names in kept.values()
    ]
    write_atomically(study / FOLDER / TICKETS, json.dumps(entries, indent=1) + "\n")


@contextmanager
def opened(study: Path) -> Iterator[Book]:
    """The book, for this process alone; what is changed in it has to be written by `write`."""
    (study / FOLDER).mkdir(parents=True, exist_ok=True)
    with claimed(study / FOLDER / "claim"):
        yield read(study)


def written(file: Path) -> int | None:
    """When a file was written, in ns. Its folder is listed first: a network file system may remember an older one."""
    try:
        os.listdir(file.parent)
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
