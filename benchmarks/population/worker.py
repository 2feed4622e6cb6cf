"""The process that `population.py` asks: times steps of plain torch and of populations, a line in, a number out."""

import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from population.plain import PlainTransformer
from scalelab import data
from scalelab.shape import Architecture, Shape
from scalelab.spec import DataSpec, Horizon, Hparams, RunSpec
from scalelab.train.batches import Batches, corpus_of
from scalelab.train.member import begun
from scalelab.train.population import Population

PLAIN = 0  # members of what is no population
SECONDS = 0.15  # about, of one timing


def spec(width: int, seed: int = 0, dtype: str = "float32") -> RunSpec:
    """The default proxy of conf/train.yaml at some width, without an end."""

    def shape(at: int) -> Shape:
        heads = at // 32
        return Shape(vocab=256, context=64, width=at, depth=2, heads=heads, kv_heads=heads,
                     ffn=round(Fraction(8, 3) * at / 8) * 8)  # fmt: skip

    return RunSpec(
        parametrization="mup",
        optimizer="adamw",
        architecture=Architecture(),
        shape=shape(width),
        base=shape(32),
        hparams=Hparams(lr=0.01),
        horizon=Horizon(tokens=512 * 10**6, batch_tokens=512),
        data=DataSpec(name="embedded", sha256=data.load("embedded").sha256, vocab=256, bytes_per_token=1.0,
                      validation_tokens=64),
        seed=seed,
        dtype=dtype,
    )  # fmt: skip


def dtype_on(device: str) -> str:
    return "float32" if device == "cpu" else "bfloat16"


def plain(width: int, device: str) -> Callable[[], None]:
    run = spec(width)
    network = PlainTransformer(run).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    batches, reader = Batches(corpus_of(run), run, device), begun(0, run, device)

    def step() -> None:
        tokens = batches.at([reader])[0]
        reader.step += 1
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu"):
            loss = network.loss(tokens)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


def population(width: int, members: int, device: str) -> tuple[Callable[[], None], Population]:
    found = Population([begun(index, spec(width, index, dtype_on(device)), device) for index in range(members)])
    batches = Batches(corpus_of(found.spec), found.spec, device)

    def step() -> None:
        _, loss = found.step(batches.at(found.members))
        if device == "cpu":
            loss.tolist()

    return step, found


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(step: Callable[[], None], device: str) -> float:
    """Seconds a call: CPU time, or a GPU's wall time."""
    begin, calls = clock(device), 0
    while calls < 2 or clock(device) - begin < SECONDS:
        step()
        calls += 1
    return (clock(device) - begin) / calls


def peak(device: str) -> float:
    """The best float32 (on a GPU bfloat16) product of two square matrices, FLOP/s."""
    size = 512 if device == "cpu" else 8192
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    a, b = torch.randn(2, size, size, device=device, dtype=dtype).unbind()
    return max(2 * size**3 / timed(lambda: a @ b, device) for _ in range(3))


def held(found: Population) -> int:
    """Bytes of what a population keeps between steps, each storage once."""
    tensors = [t.data for t in found.stack.parameters()]
    for member in found.members:
        tensors += [t for optim in member.optims for state in optim.state.values() for t in state.values()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def peak_memory(step: Callable[[], None]) -> int:
    """Bytes allocated at the height of a step, by the allocator's own account."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    now = highest = 0
    events = (e for e in found.profiler.kineto_results.events() if e.name() == "[memory]")  # type: ignore[union-attr]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def main(device: str) -> None:
    torch.set_num_threads(1)
    steps: dict[tuple[int, int], tuple[Callable[[], None], Population | None]] = {}
    for line in sys.stdin:
        *kind, width, members = ["", "0", "0"] if line.strip() == "peak" else line.split()
        at = int(width), int(members)
        if line.strip() == "peak":
            answer: float = peak(device)
        else:
            if at not in steps:
                step, found = (plain(at[0], device), None) if at[1] == PLAIN else population(*at, device)
                step()
                steps[at] = step, found
            step, found = steps[at]
            if kind == ["held"]:
                assert found is not None
                answer = held(found)
            elif kind == ["peak_memory"]:
                answer = peak_memory(step) + held(found)  # type: ignore[arg-type]
            else:
                answer = timed(step, device) / max(1, at[1])
        print(answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
