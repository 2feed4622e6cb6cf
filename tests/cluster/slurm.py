"""A real SLURM for tests: Debian's packages unpacked into a cache, a controller and two nodes on this machine.

Nothing is installed, and nothing is left running. The nodes are daemons of this one machine, which SLURM is told has
more cores than it has.
"""

import contextlib
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = (
    "slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge", "libmunge2", "libhwloc15", "libpmix2",
    "liblua5.1-0", "libfreeipmi17", "libipmimonitoring6", "librrd8", "libdbus-1-3", "libjson-c5", "libjwt0",
    "libyaml-0-2", "libhttp-parser2.9", "librdkafka1", "libevent-core-2.1-7", "libevent-pthreads-2.1-7", "libnuma1",
)  # fmt: skip
NODES = ("node1", "node2")
CPUS = 4  # of a node
START_SECONDS = 30.0
LIBRARIES = Path("usr") / "lib" / f"{platform.machine()}-linux-gnu"


class NotHere(Exception):
    """SLURM cannot be had on this machine, and why."""


def unpacked(cache: Path) -> Path:
    """The root below which Debian's SLURM is unpacked, fetched by apt-get unless it is there.

    Raises:
        NotHere: without apt, without network, or where a program of it does not start.
    """
    root = cache / "root"
    if not (root / "usr" / "sbin" / "slurmctld-wlm").exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise NotHere("no apt-get and dpkg-deb here: SLURM for the tests is Debian's")
        packages, made = cache / "packages", cache / f"made.{os.getpid()}"
        packages.mkdir(parents=True, exist_ok=True)
        # One by one: names of libraries differ from release to release, and not all of them are needed.
        for name in PACKAGES:
            _run(["apt-get", "download", "-q", name], cwd=packages)
        for package in packages.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(package), str(made)])
        if not (made / "usr" / "sbin" / "slurmctld-wlm").exists():
            raise NotHere(
                "apt-get download slurmctld: it came to nothing; is there a network, and apt-get update done?"
            )
        with contextlib.suppress(OSError):  # another process was as fast
            made.rename(root)
    tried = _run([str(root / "usr" / "sbin" / "slurmctld-wlm"), "-V"], env=_environment(root))
    if tried.returncode:
        raise NotHere(f"slurmctld does not start: {tried.stderr.strip()}")
    return root


def _run(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


def _environment(root: Path) -> dict[str, str]:
    libraries = f"{root / LIBRARIES / 'slurm-wlm'}:{root / LIBRARIES}"
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": f"{root / 'usr' / 'bin'}:{os.environ['PATH']}"}


@dataclass(kw_only=True)
class Cluster:
    """A running SLURM; `environment` is what its commands, and whoever submits to it, need."""

    root: Path
    folder: Path
    environment: dict[str, str]
    ports: Sequence[int]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start the controller ("slurmctld") or the daemon of a node."""
        sbin = self.root / "usr" / "sbin"
        command = [str(sbin / "slurmctld-wlm"), "-D"]
        if name in NODES:
            command = [str(sbin / "slurmd-wlm"), "-D", "-N", name, "-d", str(sbin / "slurmstepd-wlm")]
        if shutil.which("setpriv") is not None:  # nor do they outlive a test that is killed
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
                cwd=self.folder,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),  # slurmstepd's, when it is killed
            )  # fmt: skip

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a daemon and wait until it has ended."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait(timeout=60)

    def steps(self, node: str) -> list[int]:
        """The processes of a node's jobs, each with the slurmstepd that started it."""
        found: set[int] = set()
        for pid, words in self._processes():
            if f"SLURMD_NODENAME={node}".encode() in words:
                found.add(pid)
                with contextlib.suppress(OSError):
                    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                    if Path(f"/proc/{parent}/cmdline").read_text().startswith("slurmstepd"):
                        found.add(parent)
        return sorted(found)

    def _processes(self) -> Iterator[tuple[int, list[bytes]]]:
        """The processes that know of this cluster, with their environment; those that end meanwhile are left out."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    words = (entry / "environ").read_bytes().split(b"\0")
                    if f"SLURM_CONF={self.environment['SLURM_CONF']}".encode() in words:
                        yield int(entry.name), words

    def call(self, *command: str) -> str:
        """What a command of SLURM's prints."""
        ran = _run(command, env=self.environment)
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        return ran.stdout

    def signal(self, job: str) -> None:
        """Send a job the warning that its end is near; scancel would repeat it until the job runs again."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["scancel", "--signal=USR2", job], env=self.environment, timeout=5, capture_output=True, check=False
            )

    def queue(self) -> dict[str, str]:
        """State by job, array tasks one by one."""
        lines = self.call("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self) -> None:
        """Until all nodes are idle."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            asked = _run(["sinfo", "--noheader", "--Node", "--format=%N %T"], env=self.environment)
            if asked.returncode == 0 and asked.stdout.split().count("idle") == len(NODES):
                return
            time.sleep(0.2)
        said = "\n".join(file.read_text()[-3000:] for file in self.folder.glob("*.log"))
        raise NotHere(f"SLURM did not start in {START_SECONDS:g} s: {said}")

    def wait_for_controller(self) -> None:
        """Until the controller answers."""
        until = time.monotonic() + START_SECONDS
        while _run(["scontrol", "ping"], env=self.environment).stdout.count(" UP") != 1:
            assert time.monotonic() < until, "slurmctld does not answer"
            time.sleep(0.2)

    def end(self) -> None:
        """End all jobs and daemons."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["scancel", "--full", "--signal=KILL", f"--user={os.getuid()}"], env=self.environment, timeout=20,
                capture_output=True, check=False,
            )  # fmt: skip
            subprocess.run(
                ["scancel", f"--user={os.getuid()}"], env=self.environment, timeout=20, capture_output=True, check=False
            )
        for pid, _ in list(self._processes()):
            if pid not in (daemon.pid for daemon in self.daemons.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for name in list(self.daemons):
            self.kill(name)


@contextlib.contextmanager
def running(cache: Path, folder: Path, **settings: object) -> Iterator[Cluster]:
    """A cluster for as long as this lasts, with its state in `folder`; further lines of slurm.conf as keywords."""
    root = unpacked(cache)
    ports = [_free_port() for _ in range(1 + len(NODES))]
    folder.mkdir(parents=True)
    cluster = Cluster(
        root=root, folder=folder, ports=ports,
        environment={**_environment(root), "SLURM_CONF": str(folder / "slurm.conf")},
    )  # fmt: skip
    (folder / "slurm.conf").write_text(_configuration(cluster, settings))
    try:
        for name in ("slurmctld", *NODES):
            cluster.start(name)
        cluster.wait()
        yield cluster
    finally:
        cluster.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _configuration(cluster: Cluster, settings: Mapping[str, object]) -> str:
    folder, host = cluster.folder, platform.node()
    user = _run(["id", "-un"]).stdout.strip()
    chosen: dict[str, object] = {
        "ClusterName": "test",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": cluster.ports[0],
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/none",
        "CredType": "cred/none",
        "AuthInfo": "cred_expire=5",  # after which a requeued job may start again, 120 s by default
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool.%n",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.%n.pid",
        "SlurmctldLogFile": folder / "slurmctld.log",
        "SlurmdLogFile": folder / "slurmd.%n.log",
        "PluginDir": cluster.root / LIBRARIES / "slurm-wlm",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "SchedulerType": "sched/builtin",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "AccountingStorageType": "accounting_storage/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "MpiDefault": "none",
        "SlurmdParameters": "config_overrides",  # more cores than there are
        "ReturnToService": 2,
        "KillWait": 20,
        "SlurmdTimeout": 20,
        "MessageTimeout": 30,
        "RequeueExit": "",
        **settings,
    }
    lines = [f"{key}={value}" for key, value in chosen.items() if value != ""]
    for node, port in zip(NODES, cluster.ports[1:], strict=True):
        lines.append(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} State=UNKNOWN")
    lines.append(f"PartitionName=main Nodes={','.join(NODES)} Default=YES LLN=YES MaxTime=INFINITE State=UP")
    (folder / "state").mkdir()
    return "\n".join(lines) + "\n"
