"""The machine: its matmul peak, measured and kept; its energy, from counters that wrap, vanish or were never there."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scalelab.errors import Refused
from scalelab.machine import Meter, Peak, cpu_share, known_peak, matmul_peak, peak
from scalelab.machine.energy import rapl_zones

RANGE = 262_143_328_850  # microjoules, of a Xeon's package


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCALELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zone(powercap: Path, folder: str, name: str, energy: int, *, range_uj: int | None = RANGE) -> Path:
    at = powercap / folder
    at.mkdir(parents=True)
    (at / "name").write_text(f"{name}\n")
    (at / "energy_uj").write_text(f"{energy}\n")
    if range_uj is not None:
        (at / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return at


def test_a_peak_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.perf_counter()
    found = matmul_peak(threads=1)
    assert time.perf_counter() - started < 4.0  # 2 s on an idle core
    # One core multiplies at 1 GFLOP/s at the very least, and not at 10 TFLOP/s.
    assert 1e9 < found.flops_per_second < 1e13 and found.side in peak.SIDES["cpu"]
    assert (found.device, found.dtype, found.threads, found.torch) == ("cpu", "float32", 1, torch.__version__)
    monkeypatch.setattr(peak, "_measured", lambda *_: pytest.fail("measured again"))
    assert matmul_peak(threads=1) == found == known_peak("cpu", torch=torch.__version__)


def test_a_peak_is_that_of_a_host_a_type_a_thread_count_and_a_torch(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Peak(
        flops_per_second=5e10, side=512, host="one", device="cpu", name="", dtype="float32", threads=2, torch="2.13"
    )
    monkeypatch.setattr(peak, "_measured", lambda *_: made)
    monkeypatch.setattr(torch, "__version__", "2.13")
    monkeypatch.setattr(peak.platform, "node", lambda: "one")
    assert matmul_peak(threads=2) == made
    assert known_peak("cpu", "float32", 2, torch="2.13", host="one") == made
    for asked in (
        {"dtype": "bfloat16"}, {"threads": 1}, {"torch": "2.14"}, {"host": "another"}, {"device": "cuda"},
    ):  # fmt: skip
        key = {"device": "cpu", "dtype": "float32", "threads": 2, "torch": "2.13", "host": "one", **asked}
        assert known_peak(**key) is None  # type: ignore[arg-type]
    faster = replace(made, flops_per_second=6e10)
    monkeypatch.setattr(peak, "_measured", lambda *_: faster)
    assert matmul_peak(threads=2) == made and matmul_peak(threads=2, again=True) == faster == matmul_peak(threads=2)


def test_the_fastest_of_several_calls_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([9.0, 3.0, 1.0, 2.0, 5.0, 5.0, 5.0])  # the first loads the kernel
    clock = [0.0]

    def multiply() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(peak.time, "perf_counter", lambda: clock[0])
    assert peak._fastest(multiply, 5.5) == 1.0
    assert next(durations) == 5.0  # it stopped when the budget was spent


def test_measuring_leaves_the_process_as_it_was(cache: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    before = torch.get_num_threads()
    matmul_peak(threads=before + 1)
    assert torch.get_num_threads() == before and torch.equal(torch.rand(1), expected)


def test_a_cache_that_cannot_be_written_costs_a_second_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCALELAB_CACHE", str(tmp_path / "file"))
    assert matmul_peak().flops_per_second > 0


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("tpu", None, "unknown device 'tpu': accepted are cpu, cuda"),
        ("cpu", "float33", "no matrix product in float33 on cpu"),
        ("cpu", "bool", "no matrix product in bool on cpu"),
    ],
)
def test_what_cannot_be_multiplied_is_refused(device: str, dtype: str | None, message: str, cache: Path) -> None:
    with pytest.raises(Refused, match=message):
        matmul_peak(device, dtype)
    assert not cache.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused(cache: Path) -> None:
    with pytest.raises(Refused, match="no CUDA device here"):
        matmul_peak("cuda")
    assert Meter("cuda").joules() is None


def test_packages_and_their_memory_are_summed_and_nothing_twice(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    other = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    memory = zone(tmp_path, "intel-rapl:0:2", "dram", 5_000_000)
    cores, platform = (
        zone(tmp_path, "intel-rapl:0:0", "core", 7), zone(tmp_path, "intel-rapl:2", "psys", 7),
    )  # fmt: skip
    assert set(rapl_zones(tmp_path)) == {package, other, memory}
    meter = Meter(powercap=tmp_path)
    assert meter.joules() == 0.0
    for at in (package, other, memory, cores, platform):
        (at / "energy_uj").write_text(str(6_000_000))
    assert meter.joules() == pytest.approx(5 + 6 + 1)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    at = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 2_000_000)
    meter = Meter(powercap=tmp_path)
    for reading, joules in ((1_000_000, 3.0), (RANGE - 1, (RANGE - 1) / 1e6 + 2.0), (0, RANGE / 1e6 + 2.0)):
        (at / "energy_uj").write_text(str(reading))
        assert meter.joules() == pytest.approx(joules)


def test_where_a_device_does_not_tell_there_is_no_number(tmp_path: Path) -> None:
    assert Meter(powercap=tmp_path / "absent").joules() is None
    assert Meter("mps", powercap=tmp_path / "absent").joules() is None
    at = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    assert Meter("meta", powercap=tmp_path).joules() is None  # a meter of the CPU is none of another device
    meter = Meter(powercap=tmp_path)
    (at / "energy_uj").unlink()
    assert meter.joules() is None
    (at / "energy_uj").write_text("200")
    assert meter.joules() is None  # what was drawn in between is unknown
    unbounded = zone(tmp_path / "two", "intel-rapl:0", "package-0", 100, range_uj=None)
    meter = Meter(powercap=tmp_path / "two")
    (unbounded / "energy_uj").write_text("50")
    assert meter.joules() is None


def test_a_counter_that_only_root_may_read_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 100)
    read = Path.read_text

    def denied(path: Path, *args: object, **kwargs: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", denied)
    assert Meter(powercap=tmp_path).joules() is None


def nvml(readings: list[int | None]) -> SimpleNamespace:
    """As pynvml answers: millijoules, or its own error where the counter is missing."""

    class NVMLError(Exception): ...

    def total(handle: str) -> int:
        assert handle == "handle of GPU-1234"
        if (reading := readings.pop(0)) is None:
            raise NVMLError
        return reading

    return SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetTotalEnergyConsumption=total,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("readings", "joules"),
    [([5_000, 7_500, 9_000], [2.5, 4.0]), ([None], [None, None]), ([1, None, None], [None, None])],
)
def test_a_gpu_is_asked_for_by_its_identifier(
    readings: list[int | None], joules: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(list(readings)))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    meter = Meter("cuda:0")
    assert [meter.joules(), meter.joules()] == joules


def test_without_pynvml_a_gpu_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Meter("cuda:0").joules() is None


def test_the_share_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert (cpu_share(2), cpu_share(16)) == (0.25, 1.0)


def test_a_kept_peak_is_plain_json(cache: Path) -> None:
    found = matmul_peak()
    (file,) = (cache / "peaks").iterdir()
    assert json.loads(file.read_text())["flops_per_second"] == found.flops_per_second
