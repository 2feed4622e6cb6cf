"""Weights & Biases: a run a run, in the group of its study. `mode="offline"` needs no login."""

import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.spec import as_plain, from_plain
from scalelab.trackers.described import CURVE, X_AXIS, columns_of, name_of, results_of, scalars_of
from scalelab.trackers.tracker import Tracker
from scalelab.trials import Outcome, Trial

MODES = ("offline", "online", "disabled")
WHOLE = "scalelab"  # below it the whole spec, of a config, or trial, of a summary; beside it what `described` says
KEPT = "-offline"  # behind the id of an online run that found no server
WAIT_SECONDS = 12.0  # for W&B's server, at the start of a run and at its end
_RESTARTING = threading.Lock()


class WandbTracker(Tracker):
    """Weights & Biases, imported when a run starts.

    A run's id is its study and its fingerprint: launched again, it goes on as the same run of W&B's. Where an online
    run finds no server it is kept offline, to be uploaded with `wandb sync`.

    Args:
        project, entity, mode, tags: W&B's own; `mode` is one of `MODES`.
        group: the study; no group if None.
        job_type: what the run is for.
        dir: where W&B keeps its files; the run's own folder if None.

    Raises:
        Refused: on a value that is not accepted, and without wandb.
    """

    def __init__(
        self,
        project: str,
        entity: str | None = None,
        mode: str = "offline",
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        dir: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise unknown("tracker.mode", mode, MODES)
        for name, value in (("project", project), ("entity", entity), ("group", group), ("job_type", job_type)):
            named = isinstance(value, str) and value.strip() != "" and value.isprintable()
            if not named and (value is not None or name == "project"):
                raise Refused(f"tracker.{name}={value!r}: accepted is a name")
        if isinstance(tags, str) or not all(isinstance(tag, str) and 0 < len(tag) <= 64 for tag in tags):
            raise Refused(f"tracker.tags={tags!r}: accepted is a list of words of up to 64 letters, [a,b]")
        require_wandb("tracker=wandb")
        if mode == "online" and not _has_key():
            raise Refused("tracker.mode=online without a key: set WANDB_API_KEY or `wandb login` once, or stay offline")
        self.project, self.entity, self.mode, self.group = project, entity, mode, group
        self.job_type, self.tags, self.dir = job_type, tuple(tags), dir
        self.run: Any = None

    @property
    def needs(self) -> tuple[str, ...]:
        return ("wandb",)

    def start(self, name: str, spec: Mapping[str, Any], folder: Path) -> None:
        run = from_plain(spec)
        place = Path(self.dir or folder)
        place.mkdir(parents=True, exist_ok=True)
        self.run = opened(
            id=run_id(self.group, name), name=name_of(run), dir=place, project=self.project, entity=self.entity,
            mode=self.mode, group=self.group, job_type=self.job_type,
            tags=list(dict.fromkeys((run.parametrization, run.optimizer, *self.tags))),
            config={**columns_of(run), WHOLE: dict(spec)},
        )  # fmt: skip
        self.run.define_metric(X_AXIS, hidden=True)
        for metric in CURVE.values():
            self.run.define_metric(metric, step_metric=X_AXIS)

    def record(self, values: Mapping[str, Any]) -> None:
        with _forgetting():
            if values["step"] >= self.run.step:  # W&B has the others, of an attempt before this one
                self.run.log({**scalars_of(values), X_AXIS: values["tokens"]}, step=values["step"])

    def finish(self, trial: Trial | None) -> None:
        with _forgetting():
            self._finish(trial)

    def _finish(self, trial: Trial | None) -> None:
        if trial is None:
            self.run.mark_preempting()
        else:
            self.run.log({}, commit=True)  # its last record: later it would overwrite the summary
            whole = {name: value for name, value in as_plain(trial).items() if name not in ("spec", "provenance")}
            self.run.summary.update({**results_of(trial), WHOLE: whole})
        self.run.finish(exit_code=int(trial is None or trial.outcome is Outcome.FAILED))


def require_wandb(asked: str) -> None:
    """Refuse what was asked where wandb is not installed."""
    if find_spec("wandb") is None:
        raise Refused(f"{asked}, but wandb is not installed: pip install 'scalelab[wandb]'")


def _has_key() -> bool:
    """Whether there may be a key; whether it is the right one, W&B's server knows."""
    files = [os.environ.get("NETRC", ""), *(os.path.expanduser(f"~/{name}") for name in (".netrc", "_netrc"))]
    named = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    return named or any(os.path.isfile(file) for file in files if file)


def run_id(group: str | None, fingerprint: str) -> str:
    """W&B's id of a run: the same whenever it is launched for the same study, within W&B's 128 characters.

    >>> run_id("a/lr sweep", "0123456789ab")
    'a-lr-sweep-0123456789ab'
    """
    return f"{re.sub('[^A-Za-z0-9_.]+', '-', group)[:100]}-{fingerprint}" if group else fingerprint


def opened(*, id: str, mode: str, **given: Any) -> Any:
    """A run of W&B's; kept offline where its server does not answer.

    Of W&B's own files it has the log and no more: neither the command line nor the environment.
    """
    import wandb
    from wandb.errors import CommError
    from wandb.sdk.mailbox import MailboxClosedError

    settings = wandb.Settings(
        silent=True, console="off", init_timeout=WAIT_SECONDS, finish_timeout=WAIT_SECONDS, disable_git=True,
        save_code=False, x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
    )  # fmt: skip
    common: dict[str, Any] = {
        **given, "reinit": "create_new", "settings": settings, "resume": "allow" if mode == "online" else None
    }  # fmt: skip
    service = wandb.setup(settings)
    try:
        return wandb.init(id=id, mode=mode, **common)  # type: ignore[arg-type]
    except (MailboxClosedError, ConnectionError):  # W&B's own process was killed, maybe long ago
        _forget(service)
        return wandb.init(id=id, mode=mode, **common)  # type: ignore[arg-type]
    except CommError as error:
        if mode != "online":
            raise
        said = " ".join(str(error).split())
        # W&B's process takes an id once only.
        run = wandb.init(id=f"{id}{KEPT}", mode="offline", **{**common, "resume": None})
        upload = f"`wandb sync --id {id} FOLDER`"
        warnings.warn(
            f"W&B is not to be reached, runs are kept offline; to upload one: {upload} ({said})", stacklevel=2
        )
        return run


@contextmanager
def _forgetting() -> Iterator[None]:
    """Where W&B's own process is gone, whoever is next gets another, and nobody says so again at the end."""
    import wandb
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    service = wandb.setup()
    try:
        yield
    except (HandleAbandonedError, MailboxClosedError, ConnectionError):
        _forget(service)
        raise


def _forget(service: Any) -> None:
    import wandb
    from wandb.sdk.mailbox import MailboxClosedError

    with _RESTARTING:
        if wandb.setup() is service:  # nobody has been here before
            with suppress(ConnectionError, MailboxClosedError):
                wandb.teardown()
