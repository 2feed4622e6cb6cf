"""An explained configuration says what `resolve` resolved, each number with its base and its rule, at any size."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scalelab.derivations import Value
from scalelab.errors import Refused
from scalelab.explain import Explanation, Line, explain, with_vocab
from scalelab.models import count_params, inventory
from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations import POLICIES, TABLES
from scalelab.resolve import Setting, betas, multipliers, settings
from scalelab.shape import Architecture
from scalelab.spec import RunSpec
from tests.conftest import make_spec
from tests.helpers import one_line, scalelab, squeezed, tree

BIG = (
    "width=8192", "depth=80", "head_dim=128", "kv_heads=8", "ffn=28672", "context=8192", "batch_tokens=4194304",
    "tokens=1572864000000", "base.width=256", "base.depth=4", "base.kv_heads=2", "base.ffn=896",
)  # fmt: skip
NAMES = ("multiplier", "init_std", "lr", "weight_decay", "eps")


def by_name(found: tuple[Line, ...]) -> Iterator[tuple[str, Line]]:
    for line in found:
        for part in line.parts:
            yield part.pattern, line


def each_of(spec: RunSpec) -> dict[str, dict[str, Value]]:
    """Every parameter's values by name, of `explain(each=True)`."""
    found = explain(spec, each=True).lines
    assert all(len(line.parts) == 1 and line.parts[0].tensors == 1 for line in found)
    return {name: {value.name: value for value in line.values} for name, line in by_name(found)}


def specs() -> Iterator[RunSpec]:
    for name, table in TABLES.items():
        given = {"width": 64, "depth": 4, "architecture": Architecture(mlp="gelu", norm_gains="none")}
        moved = {"base_tokens": 160, "base_batch_tokens": 64} if not table.unit_scaled else {}
        for optimizer, kind in OPTIMIZERS.items():
            schedule = "wsd" if kind.then else "linear"
            spec = make_spec(name, optimizer=optimizer, schedule=schedule, **given, **moved)  # type: ignore[arg-type]
            try:
                settings(spec)
            except Refused:
                continue
            yield spec


SPECS = list(specs())
every = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.parametrization}-{spec.optimizer}")


@every
def test_every_number_is_the_one_that_is_trained_with(spec: RunSpec) -> None:
    found, resolved = each_of(spec), settings(spec)
    assert set(found) == {setting.tensor.name for setting in resolved}
    for setting in resolved:
        values = found[setting.tensor.name]
        assert tuple(values) == NAMES
        for name, value in values.items():
            assert value.target == getattr(setting, name), (setting.tensor.name, name)
            if value.factor is not None and value.base is not None:
                assert value.target == pytest.approx(value.base * value.factor, rel=1e-9)
    assert [value.target for value in explain(spec).sites][:2] == [
        multipliers(spec).attention,
        multipliers(spec).residual,
    ]


@pytest.mark.parametrize("spec", [s for s in SPECS if not TABLES[s.parametrization].unit_scaled],
                         ids=lambda spec: f"{spec.parametrization}-{spec.optimizer}")  # fmt: skip
def test_every_base_is_what_the_base_run_has(spec: RunSpec) -> None:
    """The base column, got by dividing by the rule's factor, is what resolving the base itself gives."""
    small = replace(spec, shape=spec.base, base_tokens=None, base_batch_tokens=None)
    at_base: dict[str, Setting] = {setting.tensor.name: setting for setting in settings(small)}
    for name, values in each_of(spec).items():
        if name in at_base:  # the base has fewer blocks
            for value in values.values():
                if value.base is not None:
                    assert value.base == pytest.approx(getattr(at_base[name], value.name), rel=1e-9), (name, value)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("architecture", [
    Architecture(mlp="gelu", biases=True, qk_norm=True, readout_init="fan_in", attention_scale="sqrt"),
    Architecture(mlp="gelu", norm_gains="scalar", tied_head=True, residual_init="depth-scaled", zero_init_query=True),
], ids=["sqrt", "tied"])  # fmt: skip
def test_policies_and_held_parts_are_explained(policy: str, architecture: Architecture) -> None:
    spec = make_spec("mup", width=64, depth=2, architecture=architecture, weight_decay_policy=policy, tokens=1280,
                     base_tokens=640)  # fmt: skip
    found = each_of(spec)
    for setting in settings(spec):
        for value in found[setting.tensor.name].values():
            assert value.target == getattr(setting, value.name)
            assert value.rule
    small = replace(spec, shape=spec.base, base_tokens=None)
    for setting in settings(small):
        for value in found[setting.tensor.name].values():
            assert value.base == pytest.approx(getattr(setting, value.name), rel=1e-9)


def groups_partition(found: Explanation, spec: RunSpec) -> None:
    assert sum(line.params for line in found.lines) == count_params(spec).total == found.params["total"]
    assert sum(part.tensors for line in found.lines for part in line.parts) == len(inventory(spec))


@every
def test_groups_are_a_partition(spec: RunSpec) -> None:
    found = explain(spec)
    groups_partition(found, spec)
    names = [pattern for pattern, _ in by_name(found.lines)]
    assert len(names) == len(set(names))
    assert (found.then != ()) == (spec.kind.then is not None)


def test_moving_averages_are_those_of_the_run() -> None:
    spec = make_spec("completed_p", tokens=1280, base_tokens=640)
    assert tuple(value.target for value in explain(spec).betas) == betas(spec)
    assert explain(make_spec("mup", optimizer="sgd")).betas == ()


def test_another_vocabulary_changes_the_tables_only() -> None:
    spec = make_spec("mup")
    other = with_vocab(spec, 512)
    assert explain(other).params["embedding"] == 2 * explain(spec).params["embedding"]
    assert explain(other).params["non_embedding"] == explain(spec).params["non_embedding"]
    assert [line.values for line in explain(other).lines] == [line.values for line in explain(spec).lines]


def test_a_70b_shape_is_explained_in_numbers() -> None:
    result = scalelab("explain", "parametrization=completep", *BIG, "--vocab", "128256", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["params"]["total"] == 70_553_706_496
    sizes = {size["name"]: (size["base"], size["target"]) for size in found["sizes"]}
    assert sizes["width"] == (256, 8192) and sizes["kv_heads"] == (2, 8) and sizes["vocab"] == (128256, 128256)
    hidden = next(line for line in found["lines"] if line["role"] == "hidden")
    assert hidden["ratios"] == {"m_in": "32", "m_L": "20"}
    assert {"pattern": "blocks.*.attention.key.weight", "stored": [1024, 8192], "tensors": 80} in hidden["parts"]
    lr = next(value for value in hidden["values"] if value["name"] == "lr")
    assert (lr["base"], lr["factor"], lr["rule"]) == (0.03125, 1 / 32, "1/m_in")
    eps = next(value for value in hidden["values"] if value["name"] == "eps")
    assert eps["rule"] == "1/(m_in · m_L)" and eps["target"] == pytest.approx(1e-8 / 640)


def test_what_is_printed_holds_every_group(tmp_path: Path) -> None:
    result = scalelab("explain", "parametrization=completep", "width=256", "depth=8", "optimizer.weight_decay=0.1")
    assert result.exit_code == 0, result.output
    text = squeezed(result.stdout)
    assert "width 32 → 256, depth 2 → 8" in text and "at both: head_dim 32" in text
    assert "hidden, adam, in the blocks: 4,882,432 parameters; m_in 8, m_L 4" in text
    assert "blocks.*.attention.query.weight 8 × [256, 256] multiplier 1 = 1 × 1" in text
    assert "lr 0.00390625 = 0.03125 × 1/m_in" in text
    assert "weight decay 0 never decayed" in text and "weight decay 0.8 = 0.1 × m_in" in text
    assert "residual branch 0.25 = 1 × 1/m_L" in text and "beta1 0.9 = 1 − 0.1 × 1" in text
    assert "6,410,496 in all, 6,279,424 non-embedding" in text
    assert all(squeezed(note) in text for note in TABLES["completep"].notes)
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 120
    each = squeezed(scalelab("explain", "width=64", "--each").stdout)
    assert "blocks.0.attention.query.weight [64, 64]" in each and "blocks.1.mlp.down.weight" in each
    then = scalelab("explain", "optimizer=adamw_muon", "schedule=wsd").stdout
    assert "once the learning rate falls, muon" in then and "hidden, muon, in the blocks" in then


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("parametrization=mupp",), "did you mean 'mup'"),
        (("width=130",), "does not divide"),
        (("widht=64",), "width"),
        (("-m", "width=64,128"), "one configuration"),
        (("width=64,128",), "width=64,128"),
        (("--depth", "3"), "unknown option --depth"),
        (("lr=-1",), "lr=-1"),
        (("tokens=100",), "not a whole number of steps"),
        (("parametrization=u_mup", "model.norm_gains=none", "optimizer=sgd"), "no rule for embedding/sgd"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in one_line(scalelab("explain", *arguments))
    assert tree(tmp_path) == {}


def test_it_needs_neither_torch_nor_time() -> None:
    """With Hydra's own import apart, a 70B shape is explained within a second of processor time."""
    code = (
        "import sys, time\n"
        "from scalelab import plan, explain, show_explained\n"
        "started = time.process_time()\n"
        f"found = explain.explain(explain.with_vocab(plan.composed({list(BIG)!r}), 128256))\n"
        "took = time.process_time() - started\n"
        "heavy = [name for name in ('torch', 'matplotlib', 'scipy', 'optuna', 'wandb') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "print(took)\n"
    )
    started = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 1.0, time.monotonic() - started
