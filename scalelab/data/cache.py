"""Where fetched and derived data live on this machine, and how files get there whole.

The folder is $SCALELAB_CACHE, or else the user's cache folder (~/.cache/scalelab on Linux). Nothing in it is precious:
delete it and the next load builds it again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import platformdirs

from scalelab import files
from scalelab.errors import Refused

Facts = Mapping[str, str | int]


def cache_dir() -> Path:
    """The cache folder; it need not exist yet."""
    given = os.environ.get("SCALELAB_CACHE")
    return Path(given).expanduser().resolve() if given else Path(platformdirs.user_cache_dir("scalelab"))


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """`files.whole_file`, where the folder may be one that cannot be written: then `Refused`, with what to do."""
    try:
        with files.whole_file(path) as file:
            yield file
    except OSError as error:
        raise Refused(
            f"cannot write {path} ({error.strerror}): set SCALELAB_CACHE to a folder with room that can be written"
        ) from error


def remembered(question: str, paths: Sequence[Path], compute: Callable[[], Facts]) -> Facts:
    """`compute()`, or its answer of last time if none of `paths` has changed in path, size or modification time (ns).

    For facts that cost a pass over big files (digests). `question` tells apart several facts about the same files. Only
    a file that was rewritten in place with the same size and its old time restored would go unnoticed.
    """
    seen = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
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
