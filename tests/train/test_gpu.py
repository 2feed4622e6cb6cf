"""On a GPU: one optimizer, one graph, no waiting; the runs are those of the eager loop to rounding."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from scalelab import programs, train
from scalelab.programs import member_bytes, members
from scalelab.spec import RunSpec
from scalelab.train import capture
from scalelab.train.batches import Batches, corpus_of
from scalelab.train.member import begun
from scalelab.train.population import Population
from scalelab.trials import Outcome
from tests.conftest import make_spec
from tests.train.running import run_each

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: run with -m gpu where there is one"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::FutureWarning:torch.*"),
]
EACH: list[dict[str, Any]] = [{}, {"lr": 0.03, "clip_norm": 0.1, "logits_multiplier": 2.0}, {"clip_norm": None}]


def specs_of(count: int, **given: Any) -> list[RunSpec]:
    return [make_spec(width=32, hparams=EACH[seed % 3], seed=seed, **given) for seed in range(count)]


def on_gpu(specs: list[RunSpec], *, graph: bool = True, **given: Any) -> Population:
    trained = Population([begun(index, spec, "cuda") for index, spec in enumerate(specs)], **given)
    if not graph:
        trained.captured = None
    return trained


def losses(trained: Population, steps: int) -> torch.Tensor:
    """[steps, M], read after the last."""
    batches = Batches(corpus_of(trained.spec), trained.spec, "cuda")
    return torch.stack([trained.step(batches.at(trained.members))[0] for _ in range(steps)]).cpu()


@pytest.fixture
def no_waiting() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_a_population_of_32_is_32_runs_to_rounding() -> None:
    specs = specs_of(32)
    together = losses(on_gpu(specs), 10)
    for index in (0, 1, 2, 13, 31):
        torch.testing.assert_close(losses(on_gpu([specs[index]]), 10)[:, 0], together[:, index], rtol=1e-3, atol=1e-3)


def test_a_run_on_a_gpu_is_that_of_the_cpu_to_rounding() -> None:
    specs = specs_of(3)
    for cpu, gpu in zip(run_each(specs), run_each(specs, device="cuda"), strict=True):
        for before, after in zip(cpu.curve, gpu.curve, strict=True):
            assert after["loss_nats"] == pytest.approx(before["loss_nats"], abs=5e-3)
        assert gpu.trial.loss_nats == pytest.approx(cpu.trial.loss_nats, abs=5e-3)


def test_a_captured_graph_is_the_eager_step() -> None:
    specs = specs_of(4)
    graphed, eager = on_gpu(specs), on_gpu(specs, graph=False)
    assert graphed.captured is not None
    torch.testing.assert_close(losses(graphed, 12), losses(eager, 12), rtol=1e-4, atol=1e-4)
    assert graphed.captured.graph is not None
    for one, other in zip(graphed.members, eager.members, strict=True):
        assert float(one.state()["optimizer"]["readout.weight"]["step"]) == 12  # capturing took no step
        for name, value in one.state()["network"].items():
            torch.testing.assert_close(value, other.state()["network"][name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_graph_follows_the_schedule_and_its_batches() -> None:
    """What is copied in before each replay: with stale inputs the losses would repeat."""
    found = losses(on_gpu(specs_of(2)), 10)
    assert len({round(float(loss), 6) for loss in found[:, 0]}) == 10


def test_a_step_does_not_wait_for_the_device(request: pytest.FixtureRequest) -> None:
    trained = on_gpu(specs_of(4))
    batches = Batches(corpus_of(trained.spec), trained.spec, "cuda")
    for _ in range(capture.EAGER_STEPS + 2):
        trained.step(batches.at(trained.members))
    request.getfixturevalue("no_waiting")
    for _ in range(3):
        trained.step(batches.at(trained.members))


def test_a_neighbour_that_diverges_is_seen_and_touches_nobody() -> None:
    specs = specs_of(3)
    bad = make_spec(width=32, hparams={"lr": 1e30, "clip_norm": None})
    first, diverged, last = train.run([specs[0], bad, specs[2]], device="cuda", members=3)
    (alone,) = train.run([specs[0]], device="cuda")
    assert diverged.outcome is Outcome.DIVERGED and diverged.tokens_seen <= 3 * 64
    assert first.loss_nats == pytest.approx(alone.loss_nats, abs=1e-3)
    assert last.outcome is Outcome.OK


@pytest.mark.parametrize("model", ["moe"])
def test_a_network_whose_shapes_depend_on_its_tokens_is_not_captured(model: str) -> None:
    trained = on_gpu(specs_of(2, model=model, sizes={"experts": 4, "top_k": 2}))
    assert trained.captured is None and trained.optimizer is not None
    assert losses(trained, 6).isfinite().all()


def test_as_many_are_trained_as_fit_and_they_do_fit() -> None:
    spec = make_spec(width=256, depth=4)
    free, total = torch.cuda.mem_get_info()
    count = members(spec, free_bytes=free)
    assert 1 <= count <= programs.GPU_MEMBERS and count * member_bytes(spec) <= total
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    trained = on_gpu([make_spec(width=256, depth=4, seed=seed) for seed in range(8)])
    losses(trained, 6)
    taken = (torch.cuda.max_memory_allocated() - before) / 8
    assert taken <= 1.5 * member_bytes(spec)  # estimated, and not by far too little
