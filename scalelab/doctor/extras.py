"""What is optional: which extras are here, and whether what they need answers. No key is read aloud."""

import importlib.util
import netrc
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from scalelab.doctor.finding import Finding, absent, fine, warning
from scalelab.errors import Refused
from scalelab.trackers.artifacts import mode

TOPIC = "extras"
ANSWER_SECONDS = 3.0  # for a controller to answer
# Extra → the modules that it brings, and what it is for.
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "parquet": (("pyarrow",), "Parquet tables, `scalelab collect`"),
    "slurm": (("submitit",), "hydra/launcher=slurm"),
    "ray": (("ray",), "hydra/launcher=ray"),
    "postgres": (("psycopg",), "a search of many workers in a database"),
    "wandb": (("wandb",), "tracker=wandb"),
    "tensorboard": (("tensorboard",), "tracker=tensorboard"),
    "notebooks": (("jupytext", "nbclient", "ipykernel"), "analysis/*.ipynb"),
}


def extras() -> Iterator[Finding]:
    """A line an extra."""
    for extra, (modules, purpose) in EXTRAS.items():
        if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
            seen = f"no {', '.join(missing)}: {purpose}"
            yield absent(TOPIC, extra, seen, f"to use it: pip install 'scalelab[{extra}]'")
            continue
        seen = ", ".join(f"{name} {metadata.version(name)}" for name in modules)
        if extra == "slurm":
            yield _slurm(seen)
        elif extra == "wandb":
            yield _wandb(seen, os.environ, Path.home())
        else:
            yield fine(TOPIC, extra, seen)


def _slurm(seen: str) -> Finding:
    """submitit alone submits nothing."""
    if shutil.which("sbatch") is None:
        return absent(TOPIC, "slurm", f"{seen}; no sbatch on PATH", "to use it: run on a node from which jobs are sent")
    try:
        asked = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except FileNotFoundError:
        return warning(TOPIC, "slurm", f"{seen}, sbatch; no scontrol", "put SLURM's own commands on PATH")
    except subprocess.TimeoutExpired:
        told = f"{seen}, sbatch; the controller did not answer in {ANSWER_SECONDS:g} s"
        return warning(TOPIC, "slurm", told, "`scontrol ping`: is slurmctld up, is SLURM_CONF the right one?")
    said = " ".join((asked.stdout or asked.stderr).split())
    if asked.returncode or "UP" not in said.split():
        return warning(TOPIC, "slurm", f"{seen}, sbatch; {said}", "is slurmctld up, is SLURM_CONF the right one?")
    return fine(TOPIC, "slurm", f"{seen}, sbatch; {said}")


def _wandb(seen: str, environment: Mapping[str, str], home: Path) -> Finding:
    """Its mode, and whether there is a key for it."""
    try:
        kept = mode()
    except Refused as refused:
        return warning(TOPIC, "wandb", seen, str(refused))
    key = "WANDB_API_KEY is set" if environment.get("WANDB_API_KEY") else _logged_in(environment, home)
    if kept == "online" and key is None:
        return warning(
            TOPIC, "wandb", f"{seen}, mode online, not logged in", "`wandb login` once, or WANDB_MODE=offline"
        )
    return fine(TOPIC, "wandb", f"{seen}, mode {kept}, {key or 'not logged in, which offline needs not'}")


def _logged_in(environment: Mapping[str, str], home: Path) -> str | None:
    file = Path(environment.get("NETRC") or home / ".netrc")
    server = environment.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].split("/")[0]
    try:
        known = netrc.netrc(str(file)).hosts
    except (OSError, netrc.NetrcParseError):
        return None
    return f"logged in to {server}" if server in known else None
