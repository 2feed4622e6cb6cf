"""What a parametrized model goes through: copies, files, compilers, optimizers."""

import copy
import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import scalelab
from scalelab.errors import Refused
from scalelab.modules import multipliers
from scalelab.optimizers import OPTIMIZERS
from scalelab.parametrizations import table
from scalelab.scale import Power
from tests.modules.models import LM, MoE, ids, lm_loss, seeded, train

RESIDUAL = ("blocks.*.o_proj", "blocks.*.down")
Options = dict[str, Any]


def parametrized(model: LM | None = None, table: str = "completep", **options: Any) -> scalelab.Parametrized:
    """Grouped-query attention, tied weights, depth, a query factor: every kind of multiplier there is."""
    model = model or seeded(LM, 64, 4, heads=4, kv_heads=2, tied=True)  # type: ignore[assignment]
    base = seeded(LM, 16, 2, heads=2, kv_heads=1, tied=True, seed=1)
    return scalelab.parametrize(model, table, base=base, residual=RESIDUAL, query=("*.q_proj",), **options)  # type: ignore[arg-type]


def values(groups: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(group["names"], group["lr"], group["weight_decay"], group["eps"]) for group in groups]


def trajectory(model: nn.Module, groups: list[dict[str, Any]], **options: Any) -> list[float]:
    return train(model, torch.optim.AdamW(groups, **options))


def test_twice_is_refused_also_for_parts_and_without_multipliers() -> None:
    found = parametrized(table="mup")
    for model in (found.model, copy.deepcopy(found.model), nn.ModuleDict({"inner": found.model})):
        with pytest.raises(Refused, match=r"is parametrized already \(.* with 'mup'\): build it anew"):
            scalelab.parametrize(model, "sp", base=LM(16))
    plain = LM(64)
    scalelab.parametrize(plain, "sp", base=LM(16))
    assert multipliers(plain) == {}
    with pytest.raises(Refused, match=r"parametrized already \(it with 'sp'\)"):
        scalelab.parametrize(plain, "mup", base=LM(16))


def test_deepcopy_pickle_and_save_keep_the_multipliers_and_the_groups(tmp_path: Path) -> None:
    found = parametrized()
    file = tmp_path / "model.pt"
    torch.save(found.model, file)
    copies = (
        copy.deepcopy(found.model), pickle.loads(pickle.dumps(found.model)), torch.load(file, weights_only=False),
    )  # fmt: skip
    expected = values(found.groups(lr=0.02, weight_decay=0.1))
    losses = trajectory(found.model, found.groups(lr=0.02, weight_decay=0.1))
    for each in copies:
        assert multipliers(each) == multipliers(found.model) and len(multipliers(each)) == 1 + 4 * 3 - 4 + 4
        groups = found.groups(lr=0.02, weight_decay=0.1, model=each)
        assert values(groups) == expected
        assert groups[0]["params"][0] is not found.groups(lr=0.02)[0]["params"][0]
        assert trajectory(each, groups) == losses
    whole = copy.deepcopy(found)  # the found settings travel with their model
    assert values(whole.groups(lr=0.02, weight_decay=0.1)) == expected


def test_a_state_dict_goes_into_a_fresh_model() -> None:
    found, fresh = parametrized(), parametrized(seeded(LM, 64, 4, heads=4, kv_heads=2, tied=True, seed=5))  # type: ignore[arg-type]
    assert found.model.state_dict().keys() == LM(64, 4, heads=4, kv_heads=2, tied=True).state_dict().keys()
    fresh.model.load_state_dict(found.model.state_dict())
    assert torch.equal(fresh.model(ids()), found.model(ids()))


def test_an_optimizer_resumes_from_a_file_of_plain_types() -> None:
    found = parametrized()
    optimizer = torch.optim.AdamW(found.groups(lr=0.02, weight_decay=0.1))
    train(found.model, optimizer, steps=2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = copy.deepcopy(found.model)
    resumed = torch.optim.AdamW(found.groups(lr=0.02, weight_decay=0.1, model=again))
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert train(again, resumed) == train(found.model, optimizer)


def test_compiled_in_one_graph_forward_and_backward() -> None:
    found = parametrized()
    eager, compiled = copy.deepcopy(found.model), torch.compile(found.model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids()), eager(ids()), rtol=1e-5, atol=1e-6)
    groups = found.groups(lr=0.02, weight_decay=0.1, model=compiled)  # names with _orig_mod. before them
    assert values(groups) == values(found.groups(lr=0.02, weight_decay=0.1))
    assert trajectory(compiled, groups) == pytest.approx(
        trajectory(eager, found.groups(lr=0.02, weight_decay=0.1, model=eager)), rel=1e-5
    )
    with pytest.raises(Refused, match=r"call before wrapping"):
        scalelab.parametrize(torch.compile(LM(64), backend="aot_eager"), "mup", base=LM(16))  # type: ignore[arg-type]


def test_functional_call_and_its_gradient() -> None:
    found = parametrized()
    parameters = {name: p.detach() for name, p in found.model.named_parameters()}

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = torch.func.functional_call(found.model, values, (ids(),))
        return logits.square().mean()

    gradients = torch.func.grad(loss)(parameters)
    found.model(ids()).square().mean().backward()
    for name, parameter in found.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_export_has_the_multipliers_in_it() -> None:
    found = parametrized()
    exported = torch.export.export(found.model, (ids(),)).module()
    torch.testing.assert_close(exported(ids()), found.model(ids()))


def test_keyword_inputs_are_scaled_too() -> None:
    found = scalelab.parametrize(nn.ModuleDict({"head": nn.Linear(64, 5)}), "mup", base=nn.ModuleDict(
        {"head": nn.Linear(16, 5)}), init="keep")  # fmt: skip
    head, x = found.model.head, torch.randn(3, 64)
    assert torch.equal(head(input=x), head(x)) and torch.equal(
        head(x), nn.functional.linear(x * 0.25, head.weight, head.bias)
    )


def test_a_tensor_learning_rate_is_nobodys_alias() -> None:
    found = parametrized()
    lr = torch.tensor(0.02)
    groups = found.groups(lr=lr, weight_decay=0.1)
    assert float(lr) == pytest.approx(0.02)  # mup divides it in place, for every group
    tensors = [tensor for group in groups for tensor in (group["lr"], group["peak_lr"])]
    assert len({tensor.data_ptr() for tensor in [lr, *tensors]}) == len(tensors) + 1
    plain = found.groups(lr=0.02, weight_decay=0.1)
    assert [float(group["lr"]) for group in groups] == pytest.approx([group["lr"] for group in plain])
    model = copy.deepcopy(found.model)
    one = trajectory(model, found.groups(lr=lr, weight_decay=0.1, model=model), fused=True)
    assert one == pytest.approx(trajectory(found.model, plain), rel=1e-4)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
def test_fused_and_foreach(options: Options) -> None:
    found = parametrized()
    reference = copy.deepcopy(found.model)
    expected = trajectory(reference, found.groups(lr=0.02, weight_decay=0.1, model=reference))
    assert trajectory(found.model, found.groups(lr=0.02, weight_decay=0.1), **options) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_relative_schedule_keeps_the_ratios() -> None:
    found = parametrized()
    optimizer = torch.optim.AdamW(found.groups(lr=0.02))
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for step in range(1, 4):
        train(found.model, optimizer, steps=1)
        schedule.step()
        assert [group["lr"] / group["peak_lr"] for group in optimizer.param_groups] == pytest.approx(
            [1 / (1 + step)] * len(optimizer.param_groups)
        )


def test_every_parameter_that_trains_is_in_one_group_in_an_order_of_names() -> None:
    found = parametrized()
    found.model.positions.requires_grad_(False)
    found.model.blocks[0].up.requires_grad_(False)
    groups = found.groups(lr=0.02, weight_decay=0.1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trained = [id(parameter) for parameter in found.model.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trained) and len(set(grouped)) == len(grouped)
    assert found.frozen() == ("positions", "blocks.0.up.weight", "blocks.0.up.bias")
    for group in groups:
        assert group["names"] == sorted(group["names"]) and len(group["names"]) == len(group["params"])
        assert all(p is found.model.get_parameter(n) for n, p in zip(group["names"], group["params"], strict=True))
    assert [group["names"][0] for group in groups] == sorted(group["names"][0] for group in groups)


def test_parameters_that_came_later_or_went_are_refused() -> None:
    found = parametrized()
    found.model.adapter = nn.Linear(4, 4)
    with pytest.raises(Refused, match=r"adapter.weight was not there when the model was parametrized"):
        found.groups(lr=0.02)
    del found.model.adapter, found.model.norm.bias
    with pytest.raises(Refused, match=r"norm.bias was parametrized and is not a parameter of the model any more"):
        found.groups(lr=0.02)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_can_be_built_and_steps(name: str) -> None:
    found = scalelab.parametrize(seeded(MoE, 32), "mup", base=seeded(MoE, 16, seed=1), optimizer=name)
    if OPTIMIZERS[name].then:
        with pytest.raises(Refused, match=r"changes hands during the run"):
            found.optimizer(lr=0.01)
        return
    if OPTIMIZERS[name].hands_over:
        with pytest.raises(Refused, match=r"is two: call optimizers\(\)"):
            found.optimizer(lr=0.01)
    optimizers = found.optimizers(lr=0.01, weight_decay=0.01)
    assert len(optimizers) == (2 if OPTIMIZERS[name].hands_over else 1)
    before = [p.detach().clone() for p in found.model.parameters()]
    for _ in range(2):  # SOAP's first step only looks
        lm_loss(found.model, ids()).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, found.model.parameters(), strict=True))


def test_an_optimizer_of_a_table_of_ones_own_and_of_a_folded_one() -> None:
    own = replace(table("mup"), name="mine", one_minus_beta=Power(batch=1))
    found = scalelab.parametrize(LM(64), own, base=LM(16), fold=True, batch_tokens=(1, 2))
    (group, *_) = found.optimizer(lr=0.01, beta1=0.9, beta2=0.95).param_groups
    assert group["betas"] == (pytest.approx(0.8), pytest.approx(0.9))
    with pytest.raises(Refused, match=r"beta1=0.4 becomes -0.2: the table multiplies 1−β by 2 .*smaller batch"):
        found.betas(0.4)


def test_values_out_of_range_are_refused() -> None:
    found = parametrized()
    with pytest.raises(Refused, match=r"lr=-1.0: accepted is a finite number > 0"):
        found.groups(lr=-1.0)
    with pytest.raises(Refused, match=r"unknown hyperparameter 'logits_multiplier': accepted are beta1"):
        found.groups(lr=1.0, logits_multiplier=2.0)
    with pytest.raises(Refused, match=r"eps=0: accepted is a finite number > 0"):
        found.groups(lr=1.0, eps=0)


def test_the_settings_are_shown_as_a_table() -> None:
    found = parametrized()
    lines = found.table().splitlines()
    assert lines[0].split()[:5] == ["parameter", "role", "m_in", "m_out", "m_L"]
    row = next(line for line in lines if line.startswith("blocks.*.up.weight")).split()
    assert row[1:9] == ["hidden", "4", "4", "2", "1", "0.25", "4", "0.125"]
    at = next(line for line in found.table(found.at(lr=0.02, weight_decay=0.1)).splitlines() if "up.weight" in line)
    assert at.split()[6:9] == ["0.005", "0.4", "1.25e-09"]
    assert len(lines) == 1 + 18
