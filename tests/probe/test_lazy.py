"""The laziness check: a departure is what it says, α = ½ is lazy in depth and α = 1 is not."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scalelab.errors import Refused
from scalelab.probe import Laziness, lazy
from scalelab.probe.lazy import departure
from tests.helpers import one_line, scalelab, squeezed
from tests.probe.sizes import specs

DEPTHS = (2, 4, 8)


def checked(name: str, *, steps: int = 4, seeds: int = 2, **given: object) -> Laziness:
    return lazy(specs(name, "depth", DEPTHS, seeds=seeds, steps=steps, **given), axis="depth", steps=steps)  # type: ignore[arg-type]


# --- of one module ----------------------------------------------------------------------------------------------------


class Product(nn.Module):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.randn(4, 4, generator=generator)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.first @ self.second


def test_a_product_of_two_matrices_departs_by_the_product_of_their_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    start = Product(generator).double()
    x = torch.randn(8, 4, generator=generator).double()
    end, moved = copy.deepcopy(start), [torch.randn(4, 4, generator=generator).double() for _ in range(2)]
    for share in (1.0, 0.25):
        with torch.no_grad():
            end.first.copy_(start.first + share * moved[0])
            end.second.copy_(start.second + share * moved[1])
        linear = x @ moved[0] @ start.second + x @ start.first @ moved[1]
        expected = share * (x @ moved[0] @ moved[1]).norm() / linear.norm()
        assert departure(start, end, (x,)) == pytest.approx(expected.item(), rel=1e-6)


def test_a_map_that_is_linear_in_its_parameters_departs_not() -> None:
    start, end = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    assert departure(start, end, (torch.ones(3, 4).double(),)) < 1e-7


def test_a_module_that_did_not_move_is_refused() -> None:
    start = nn.Linear(4, 4).double()
    with pytest.raises(Refused, match="does not change: give more --steps, or a higher lr"):
        departure(start, copy.deepcopy(start), (torch.ones(3, 4).double(),))


# --- of networks ------------------------------------------------------------------------------------------------------


def test_half_is_lazy_in_depth_and_one_is_not() -> None:
    half, one = checked("depth_mup"), checked("completep")
    assert [each.branch for each in half.branches] == ["attention out", "mlp out"]
    for each, other in zip(half.branches, one.branches, strict=True):
        assert each.slope == pytest.approx(-0.5, abs=0.2) and each.verdict == "lazy"
        assert other.slope == pytest.approx(0.0, abs=0.15) and other.verdict == "stays"
        # at the base depth the two are one network
        assert each.departure[0] == pytest.approx(other.departure[0])
        assert len(each.departure) == len(DEPTHS) and len(each.departure[0]) == 2
    assert one.passed and not half.passed


def test_a_larger_step_departs_further() -> None:
    small, large = (checked("completep", seeds=1, hparams={"lr": lr}).branches for lr in (1e-4, 1e-2))
    for each, other in zip(small, large, strict=True):
        assert other.departure[0][0] > 10 * each.departure[0][0]
        assert each.se_slope is None


def test_every_kind_of_branch_is_seen(tmp_path: Path) -> None:
    kinds = {"resnet": ["branch out 1", "branch out 2"], "vit": ["attention out", "mlp out"], "mlp": ["branch out"]}
    for model, branches in kinds.items():
        result = scalelab(
            "check", "--lazy", f"model={model}", "data=digits", "context=64", "width=32", "batch_tokens=256",
            "tokens=2560", "--depths", "2,4", "--seeds", "1", "--steps", "1", "-o", str(tmp_path / model),
        )  # fmt: skip
        assert "Laziness check of mup" in result.stdout, result.output
        plain = json.loads((tmp_path / model / "lazy_mup_depth.json").read_text())
        assert [each["branch"] for each in plain["branches"]] == branches


def test_a_network_that_does_not_survive_is_refused() -> None:
    with pytest.raises(Refused, match=r"diverged within 4 steps.*lower the lr"):
        checked("mup", hparams={"lr": 1e20})


# --- the command ------------------------------------------------------------------------------------------------------

QUICK = ("context=32", "batch_tokens=256", "tokens=2560", "width=32", "--depths", "2,4,8", "--seeds", "2")


@pytest.mark.parametrize(("parametrization", "status"), [("completep", 0), ("completep_half", 1)])
def test_the_command_says_so_with_its_exit_status(parametrization: str, status: int, tmp_path: Path) -> None:
    result = scalelab("check", "--lazy", f"parametrization={parametrization}", *QUICK, "-o", str(tmp_path))
    assert result.exit_code == status, result.output
    plain = json.loads((tmp_path / f"lazy_{parametrization}_depth.json").read_text())
    assert plain["passed"] is (status == 0) and plain["steps"] == 4 and plain["values"] == [2, 4, 8]
    assert (tmp_path / f"lazy_{parametrization}_depth.svg").exists()
    text = squeezed(result.stdout)
    for each in plain["branches"]:
        assert f"{each['slope']:+.2f} ± {each['se_slope']:.2f} {each['verdict']}" in text
    assert f"{parametrization}: {'no branch becomes lazy' if status == 0 else 'branches become LAZY'} in depth" in text


def test_one_check_at_a_time(tmp_path: Path) -> None:
    refused = scalelab("check", "--lazy", "--stability", *QUICK, "-o", str(tmp_path / "out"))
    assert "--lazy with --stability: one check at a time" in one_line(refused)
