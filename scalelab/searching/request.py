"""What was asked for, kept in the study's folder, so that any shell can go on with it; no secret is in it."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scalelab.composing import Multirun
from scalelab.errors import Refused
from scalelab.files import write_atomically
from scalelab.overrides import split_flags
from scalelab.plan import swept

REQUEST_FILE = "search.request.json"
REQUEST_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `search run`, and where they were given; `workers` are processes that train here."""

    arguments: tuple[str, ...]
    directory: str
    workers: int

    @property
    def asked(self) -> Multirun:
        """The search that it is; `Refused` where it is none."""
        overrides, _, directories = split_flags(self.arguments)
        found = swept(overrides, directories)
        if not found.is_search:
            raise Refused(
                f"search run with sweeper {str(found.sweeper._target_).rpartition('.')[2]}: accepted is a search, add"
                " hydra/sweeper=optuna; a grid is for train -m"
            )
        return found

    def write(self, study: Path) -> None:
        """Keep it in the study's folder."""
        study.mkdir(parents=True, exist_ok=True)
        plain = {"version": REQUEST_VERSION, **asdict(self)}
        write_atomically(study / REQUEST_FILE, json.dumps(plain, indent=1) + "\n")


def request_of(arguments: Sequence[str], *, workers: int) -> Request:
    """A request as it is given here, `--config-dir` absolute."""
    overrides, _, directories = split_flags(arguments)
    return Request(
        arguments=(*overrides, *(f"--config-dir={directory}" for directory in directories)),
        directory=str(Path.cwd()),
        workers=workers,
    )


def read_request(study: Path) -> Request:
    """The request of a study; `Refused` where there is none, or it cannot be read."""
    file = study / REQUEST_FILE
    try:
        plain = json.loads(file.read_text())
        if plain.pop("version") != REQUEST_VERSION:
            raise Refused(f"{file} is of another version: begin it again with search run")
        return Request(**{**plain, "arguments": tuple(plain["arguments"])})
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"{study} has no {REQUEST_FILE}: accepted is the folder of a study of `search run`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"{file} is corrupt ({error}): begin it again with search run") from None


def in_its_folder(request: Request) -> contextlib.AbstractContextManager[None]:
    """Be where the request was given; `Refused` where that folder is not on this machine."""
    if not Path(request.directory).is_dir():
        raise Refused(f"the search was begun in {request.directory}, which is not here: attach where it is")
    return contextlib.chdir(request.directory)
