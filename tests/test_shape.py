"""Shapes and counts: counted here, counted by torch."""

import pytest

from scalelab.errors import Refused
from scalelab.models import count_flops_per_token, count_params
from scalelab.networks import build
from scalelab.shape import Architecture
from tests.conftest import make_shape, make_spec

ARCHITECTURES = [
    Architecture(),
    Architecture(mlp="gelu"),
    Architecture(mlp="relu", tied_head=True, biases=True),
    Architecture(qk_norm=True, biases=True),
    Architecture(norm_gains="none", qk_norm=True),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_counts_equal_the_network(architecture: Architecture, kv_heads: int) -> None:
    sizes = {"heads": 4, "kv_heads": kv_heads, "ffn": 96}
    spec = make_spec(width=64, depth=3, architecture=architecture, sizes=sizes)
    network = build(spec)
    counted = count_params(spec)
    assert counted.total == sum(p.numel() for p in network.parameters())
    blocks = sum(p.numel() for p in network.blocks.parameters())
    final = 64 if architecture.norm_gains == "vector" else 0
    assert counted.non_embedding == blocks + final


def test_flop_conventions_differ_by_what_their_names_say() -> None:
    spec = make_spec(width=64, depth=3, architecture=Architecture(), sizes={"ffn": 96})
    flops, params = count_flops_per_token(spec), count_params(spec)
    assert flops.six_n_non_embedding == 6 * params.non_embedding
    assert flops.six_n - flops.six_n_non_embedding == 6 * 256 * 64
    assert flops.six_n_attention - flops.six_n == 6 * 3 * 16 * 64
    # attention by hand: 2 matmuls of T/2 keys × width (causal half), multiply-add 2, forward + backward 3
    assert flops.six_n_attention - flops.six_n == 3 * 2 * 2 * (16 // 2) * 64 * 3


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"heads": 3}, "do not divide width"),
        ({"heads": 4, "kv_heads": 3}, "do not divide heads"),
        ({"ffn": 0}, "positive integers"),
    ],
)
def test_impossible_shapes_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(Refused, match=message):
        make_shape(64, **sizes)
