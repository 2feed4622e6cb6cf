"""Studies on a real Ray: whatever dies, every run is there once, and is the run that was trained here."""

import importlib.util
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalelab import claims
from scalelab.engines.ray import QUIET, RayEngine
from scalelab.engines.ray_settings import RaySettings, ray_settings
from scalelab.engines.ray_worker import PIECE, packed
from scalelab.errors import Refused
from scalelab.jobs import CLAIM
from scalelab.parallel import Parallel
from scalelab.trials import TRIAL_FILE, Outcome, RunFolder
from scalelab.workers.serve import Asked, Order
from tests.cluster.conftest import (
    check_once_and_as_here,
    finished,
    here,
    last_attempt,
    launcher,
    looking,
    wait_for,
)  # fmt: skip
from tests.conftest import make_spec
from tests.helpers import TINY, one_line, scalelab

RAY = ("hydra/launcher=ray", "hydra.launcher.poll_seconds=0.5")
STEPS = 1500
STUDY = (*TINY, f"tokens={64 * STEPS}", "lr=0.005,0.01,0.02", "seed=0,1,2,3")
# A node that is only slow, on a machine with much else to do, is not to be taken for dead.
HEALTH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 15}
EXIT = 137  # of a submitter that is killed


def an_order(folder: Path, *, seeds: Sequence[int] = (0,), tokens: int = 640, **changed: Any) -> Order:
    specs = [make_spec(width=32, tokens=tokens, seed=seed) for seed in seeds]
    jobs = [
        Asked(
            spec=spec, folder=RunFolder(folder / spec.fingerprint), tracker={"name": "none"}, pruning=None,
            files={".hydra/overrides.yaml": f"[seed={spec.seed}]\n"},
        )
        for spec in specs
    ]  # fmt: skip
    return Order(**{"jobs": jobs, "device": "cpu", "threads": 1, "members": None, **changed})


# What needs no cluster.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"adress": "auto"}, "unknown key hydra.launcher 'adress': .*did you mean 'address'"),
        ({"address": "ray://head:10001"}, "hydra.launcher.address=ray://head:10001: accepted are auto, HOST:PORT"),
        ({"address": "head"}, "hydra.launcher.address=head: accepted are auto, HOST:PORT"),
        ({"namespace": "a b"}, "hydra.launcher.namespace='a b'"),
        ({"cpus": "two"}, "hydra.launcher.cpus='two': accepted is a number"),
        ({"cpus": 1.5}, "hydra.launcher.cpus=1.5: accepted is a whole number, or a part of one"),
        ({"gpus": -1}, "hydra.launcher.gpus=-1"),
        ({"resources": ["a100"]}, r"hydra.launcher.resources=\['a100'\]: accepted are names"),
        ({"resources": {"GPU": 1}}, "hydra.launcher.resources.GPU: .*use cpus and gpus"),
        ({"resources": {"a100": 0}}, "hydra.launcher.resources.a100=0"),
        ({"environment": {"A-B": 1}}, "hydra.launcher.environment.A-B=1"),
        ({"environment": {"SCALELAB_NOT_SET": None}}, "SCALELAB_NOT_SET=null .* is not set here"),
        ({"restarts": -1}, "hydra.launcher.restarts=-1: accepted is a whole number ≥ 0"),
    ],
)
def test_settings_that_are_not_accepted(given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        ray_settings(given)
    assert "\n" not in str(refused.value)


def test_what_an_actor_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALELAB_SET", "here")
    settings = ray_settings({"restarts": 7, "resources": {"a100": 1}, "environment": {"SCALELAB_SET": None, "N": 3}})
    options = settings.options(an_order(tmp_path, threads=2))
    assert (options["num_cpus"], options["num_gpus"], options["max_restarts"]) == (2, 0, 7)
    assert options["lifetime"] == "detached" and options["resources"] == {"a100": 1}
    assert {"SCALELAB_SET": "here", "N": "3"}.items() <= options["runtime_env"]["env_vars"].items()
    assert RaySettings().options(an_order(tmp_path, device="cuda"))["num_gpus"] == 1
    assert RaySettings(gpus=0.25).options(an_order(tmp_path, device="cuda"))["num_gpus"] == 0.25
    spread = an_order(tmp_path, device="cuda", threads=3, parallel=Parallel(name="ddp", processes=4))
    assert (RaySettings().options(spread)["num_gpus"], RaySettings().options(spread)["num_cpus"]) == (4, 12)
    for settings, order in (
        (RaySettings(gpus=1), an_order(tmp_path)),
        (RaySettings(gpus=0), an_order(tmp_path, device="cuda")),
        (RaySettings(gpus=2), an_order(tmp_path, device="cuda")),
        (RaySettings(gpus=0.5), spread),
        (RaySettings(cpus=1), an_order(tmp_path, threads=2)),
        (RaySettings(), an_order(tmp_path, device="cuda:1")),
    ):
        with pytest.raises(Refused, match="accepted"):
            settings.options(order)


def test_orders_travel_in_pieces(tmp_path: Path) -> None:
    order = an_order(tmp_path, seeds=range(500))
    pieces = packed(order)
    assert all(len(piece) <= PIECE for piece in pieces)
    jobs = [replace(job, files={"noise": os.urandom(1 << 20).hex()}) for job in order.jobs[:10]]
    with pytest.raises(Refused, match="a task of 10 runs is too much for Ray"):
        packed(replace(order, jobs=jobs))


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    line = one_line(scalelab("train", "-m", "hydra/launcher=ray", *TINY, "seed=0,1"))
    assert line == "scalelab: hydra/launcher=ray needs Ray: pip install 'scalelab[ray]'"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["setting", "environment"])
def test_where_no_cluster_is(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:  # bound and not listening: nobody else gets it meanwhile
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        name = "RAY_ADDRESS" if where == "environment" else "hydra.launcher.address"
        asked = [f"hydra.launcher.address={address}"] if where == "setting" else []
        line = one_line(scalelab("train", "-m", "hydra/launcher=ray", *asked, *TINY, "seed=0,1"))
    assert line.startswith(f"scalelab: {name}={address}: no answer there (Connection refused); `ray start --head`")
    assert list(tmp_path.iterdir()) == []


# A cluster of two nodes.


class Nodes:
    """A head and another node, two CPUs each, which are daemons of this machine's."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, "_system_config": HEALTH}
        )
        self.second = self.cluster.add_node(num_cpus=2)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "RAY_ADDRESS": self.cluster.address}

    def replace_second(self) -> None:
        """It dies as by a cut of its power, and another takes its place."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = self.cluster.add_node(num_cpus=2)

    def is_of_second(self, pid: int) -> bool:
        (raylet,) = self.second.all_processes["raylet"]
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(raylet.process.pid)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="Ray is not installed")
    import ray

    os.environ.update(QUIET | {"SCALELAB_LEASE_SECONDS": "8"})
    started = Nodes()
    yield started
    ray.shutdown()
    started.cluster.shutdown()


def in_training(study: Path) -> Iterator[tuple[Path, int]]:
    """Runs in the middle of training, each with the process that is at it."""
    for run in study.glob("*/"):
        records = RunFolder(run).metrics() if (run / "metrics.jsonl").exists() else []
        if (run / TRIAL_FILE).exists() or not records or not 0 < records[-1]["step"] < STEPS * 2 // 3:
            continue
        newest = claims.last(run / CLAIM)
        who = claims.read(run / f"{CLAIM}.{newest}") if newest else None
        if who is not None and who.alive:
            yield run, who.pid


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.cluster
def test_a_study_is_whole_whatever_dies(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("-m", *RAY, "hydra.launcher.members=2", "hydra.launcher.workers=3", *STUDY)
    study = tmp_path / "runs" / "adhoc"
    hit: dict[str, Path] = {}

    def hit_one(how: str, among: Callable[[int], bool] = lambda pid: True) -> int:
        found: dict[Path, int] = {}

        def look() -> bool:
            found.update({run: pid for run, pid in in_training(study) if run not in hit.values() and among(pid)})
            return bool(found)

        wait_for(look, f"a run to be hit by {how}")
        hit[how] = min(found)
        return found[hit[how]]

    with looking(study) as seen, launcher(arguments, tmp_path, nodes.environment) as first:
        os.kill(hit_one("SIGKILL"), signal.SIGKILL)
        os.kill(hit_one("SIGTERM"), signal.SIGTERM)
        hit_one("loss of its node", nodes.is_of_second)
        nodes.replace_second()
        hit_one("loss of its launcher")
        first.send_signal(signal.SIGKILL)
        first.wait()
        with launcher(arguments, tmp_path, nodes.environment) as then:
            said = finished(then, tmp_path)
        seen.look()
    assert said.rstrip().endswith("12 runs: 12 OK")
    assert "raylet" not in said and "Traceback" not in said
    assert len(seen.final) == 12
    check_once_and_as_here(seen, here(STUDY, tmp_path, monkeypatch))
    assert last_attempt(hit["loss of its launcher"]) == 1, "the launcher's end ended an order"
    for how in ("SIGKILL", "SIGTERM", "loss of its node"):
        assert last_attempt(hit[how]) > 1, how
    lines = [json.loads(line) for line in (hit["SIGTERM"] / "metrics.jsonl").read_text().splitlines()]
    assert max(Counter(line["step"] for line in lines).values()) <= 2, "a run was begun again from its start"


SUBMIT = f"""
import os, pickle, time
from pathlib import Path
from scalelab.engines.ray import RayEngine
orders = pickle.loads(Path("orders").read_bytes())
Path("tickets").write_text(" ".join(RayEngine.of(address="auto").submit_as("l4bel", orders)))
time.sleep(1)  # an actor whose submitter is gone within milliseconds is not made: the next launcher submits it again
os._exit({EXIT})
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.cluster
def test_orders_are_found_again_by_their_tickets(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    orders = [an_order(tmp_path / "s", seeds=[seed], tokens=64 * 300) for seed in range(5)]
    orders.append(an_order(tmp_path / "s", seeds=[5], tokens=64 * 100_000))
    lost = an_order(tmp_path / "s", seeds=[6])
    orders.append(replace(lost, jobs=[replace(lost.jobs[0], tracker={"name": "nowhere"})]))
    (tmp_path / "orders").write_bytes(pickle.dumps(orders))
    ran = subprocess.run([sys.executable, "-c", SUBMIT], env=nodes.environment, timeout=60, check=False)
    assert ran.returncode == EXIT
    tickets = (tmp_path / "tickets").read_text().split()
    assert tickets == [f"l4bel_{place}" for place in range(7)]
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    engine = RayEngine.of(address="auto")
    seen = engine.alive([*tickets, "another_0"])  # the short ones may have ended
    assert tickets[5] in seen <= set(tickets)
    assert engine.submitted_as("l4bel").items() <= dict(enumerate(tickets)).items()
    assert engine.submitted_as("l4bel")[5] == tickets[5]
    assert RayEngine.of(namespace="other").alive(tickets) == set()
    assert engine.why(tickets[5]).endswith("has not ended")
    wait_for(lambda: engine.alive(tickets) == {tickets[5]}, "the short ones", seconds=600)
    for order in orders[:5]:
        assert order.jobs[0].folder.read().outcome is Outcome.OK
        assert (order.jobs[0].folder.path / ".hydra" / "overrides.yaml").exists()
    assert (failed := lost.jobs[0].folder.read()).outcome is Outcome.FAILED
    assert failed.reason is not None and failed.reason.startswith("scalelab.errors.Refused: unknown tracker 'nowhere'")
    for ticket in seen - {tickets[5]}:
        assert "exit_actor" in engine.why(ticket)
    engine.cancel(tickets)
    wait_for(lambda: not engine.alive(tickets), "what was cancelled")
    assert engine.why(tickets[5]) == f"Ray's actor {tickets[5]} ended: it was killed by `ray.kill`."
    assert engine.submitted_as("l4bel") == {}
    assert "unseen" in RayEngine.of(address="auto").why(tickets[0])


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.cluster
def test_a_search_on_a_ray_of_its_own(nodes: Nodes, tmp_path: Path) -> None:
    arguments = ("-m", *RAY, "hydra.launcher.address=null", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random",
                 "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "study=s", *TINY,
                 "lr=tag(log,interval(1e-3,1e-1))")  # fmt: skip
    before = clusters()
    with launcher(arguments, tmp_path, nodes.environment) as searching:
        wait_for(lambda: clusters() > before or searching.poll() is not None, "its Ray")
        said = finished(searching, tmp_path)
    assert "4/4" in said and "raylet" not in said and "Traceback" not in said
    ended = [RunFolder(file.parent).read().outcome for file in (tmp_path / "runs" / "s").glob("*/trial.json")]
    assert ended == [Outcome.OK] * 4
    wait_for(lambda: clusters() == before, "its Ray to end with it")


def clusters() -> set[str]:
    """Process numbers of the heads of Ray's clusters on this machine."""
    return {file.parent.name for file in Path("/proc").glob("[0-9]*/comm") if _read(file).startswith("gcs_server")}


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
