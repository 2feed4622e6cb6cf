"""A PostgreSQL server for a test: of this machine, or Debian's package unpacked into a folder, never installed."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = ("postgresql-15", "libpq5")


@dataclass(frozen=True)
class Server:
    """A server on 127.0.0.1 that can be taken away and come back."""

    binaries: Path
    folder: Path
    port: int

    @property
    def password(self) -> str:
        return "not-to-be-kept"

    def url(self, password: str) -> str:
        return f"postgresql+psycopg://searcher:{password}@127.0.0.1:{self.port}/postgres"

    def control(self, *words: str) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run([str(self.binaries / "pg_ctl"), "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"),
              "-o", options, *words])  # fmt: skip

    def start(self) -> None:
        self.control("start")

    def stop(self) -> None:
        self.control("-m", "immediate", "stop")


@contextmanager
def server() -> Iterator[Server]:
    """A server with one user and a password; the test is skipped where none is to be had."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="scalelab-pg-"))
    folder.chmod(0o755)
    _own(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Server(binaries=binaries, folder=folder, port=port)
    secret = folder / "password"
    secret.write_text(found.password)
    try:
        _run([str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "searcher", "-A", "scram-sha-256",
              "--pwfile", str(secret), "--no-sync", "-E", "UTF8", "--locale=C",
              "-L", str(_share(binaries))])  # fmt: skip
        found.start()
        yield found
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            found.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    there = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if there:
        return there[-1].parent
    cache = Path(os.environ.get("SCALELAB_TEST_CACHE", Path(tempfile.gettempdir()) / "scalelab-tests")) / "postgres"
    if not list(cache.glob("root/usr/lib/postgresql/*/bin/initdb")):
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            pytest.skip("no PostgreSQL here, and no apt-get to fetch it with")
        cache.mkdir(parents=True, exist_ok=True)
        cache.chmod(0o755)
        fetched = subprocess.run(
            ["apt-get", "download", *PACKAGES], cwd=cache, capture_output=True, text=True, timeout=300, check=False
        )
        if fetched.returncode:
            pytest.skip(f"PostgreSQL could not be fetched: {fetched.stderr.splitlines()[-1:]}")
        for package in cache.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, cache / "root"], check=True, timeout=300)
    return next(iter(cache.glob("root/usr/lib/postgresql/*/bin/initdb"))).parent


def _share(binaries: Path) -> Path:
    """Where the package keeps what a new database is made of: beside the binaries, wherever it was unpacked."""
    version = binaries.parent.name
    return binaries.parents[3] / "share" / "postgresql" / version


def _run(command: list[str]) -> None:
    """As somebody who is not root: the server refuses to be."""
    environment = {**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": _libraries(command[0])}
    user = "nobody" if os.geteuid() == 0 else None
    for attempt in range(3):
        ran = subprocess.run(
            command, env=environment, user=user, group="nogroup" if user else None, cwd="/", timeout=120,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if ran.returncode == 0:
            return
        time.sleep(attempt + 1)
    raise RuntimeError(f"{command[0]}: {ran.stderr}")


def _libraries(binary: str) -> str:
    """Of an unpacked package: the folder of libpq beside the binaries."""
    lib = Path(binary).parents[3]
    return os.pathsep.join(map(str, lib.glob("*-linux-gnu")))


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
