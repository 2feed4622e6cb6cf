"""Files that appear whole or not at all."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that stands under `path` complete or not at all, also under kill -9 and on a shared file system.

    It is written beside its place and renamed at the end; of two writers the later wins. Folders are made as needed.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder, give a file", str(path))
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, give a folder", str(path.parent))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened by name and not by tempfile, whose files nobody else may read.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # what was asked for
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file (UTF-8) so that a reader sees the old one or the whole new one."""
    with whole_file(path) as file:
        file.write(text.encode())
