"""Where fetched and derived data live on this machine, and how files get there whole.

The folder is $SCALELAB_CACHE, or else the user's cache folder (~/.cache/scalelab on Linux). Nothing in it is precious:
delete it and the next load builds it again.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import platformdirs

from scalelab.errors import Refused

Facts = Mapping[str, str | int]


def cache_dir() -> Path:
    """The cache folder; it need not exist yet."""
    given = os.environ.get("SCALELAB_CACHE")
    return Path(given).expanduser().resolve() if given else Path(platformdirs.user_cache_dir("scalelab"))


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that appears under `path` complete or not at all.

    It is written beside its place and renamed at the end, so a killed process leaves no half file, and of two processes
    that write the same file the later wins. Raises `Refused` where the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def remembered(question: str, files: Sequence[Path], compute: Callable[[], Facts]) -> Facts:
    """`compute()`, or its answer of last time if none of `files` has changed in path, size or modification time (ns).

    For facts that cost a pass over big files (digests). `question` tells apart several facts about the same files. Only
    a file that was rewritten in place with the same size and its old time restored would go unnoticed.
    """
    seen = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([question, seen]).encode()).hexdigest()
    note = cache_dir() / "facts" / f"{key}.json"
    if note.exists():
        facts: Facts = json.loads(note.read_text())
        return facts
    facts = compute()
    # A cache that cannot be written (a read-only node) costs the same pass again next time, and nothing else.
    with contextlib.suppress(Refused), whole_file(note) as file:
        file.write(json.dumps(dict(facts)).encode())
    return facts


def _unwritable(path: Path, error: OSError) -> Refused:
    return Refused(
        f"cannot write {path} ({error.strerror}): set SCALELAB_CACHE to a folder with room that can be written"
    )
