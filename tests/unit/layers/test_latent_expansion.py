"""`kv_b_proj` is cut into keys and values by head, out of whatever format it is stored in."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from jackfield.config.latent_config import LatentConfig
from jackfield.layers.latent_attention import LatentAttention, LatentExpansion
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_platforms.refusal import Refused
from jackfield_quantization.unquantized import Unquantized

HEADS, RANK, NOPE, VALUE = 3, 16, 5, 4
LATENT = LatentConfig(query_rank=None, rank=RANK, rope_dim=4, nope_dim=NOPE, v_dim=VALUE, interleaved=True)
ROWS = HEADS * (NOPE + VALUE)


class Given(QuantMethod):
    """A format whose weight is there already."""

    name = "given"

    def __init__(self, encoded: Encoded, reason: str | None = None) -> None:
        self.encoded, self.reason = encoded, reason

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        return self.reason

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        return {}

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        return self.encoded


def encoded(*, group: int | None, ordered: bool) -> Encoded:
    generator = torch.Generator().manual_seed(3)
    groups = 1 if group is None else RANK // group
    return Encoded(
        Encoding("int", 8, group=group, scale="float32", ordered=ordered),
        torch.randint(-128, 128, (ROWS, RANK), generator=generator, dtype=torch.int8),
        scale=torch.rand(ROWS, groups, generator=generator),
        order=torch.randperm(RANK, generator=generator) if ordered else None,
    )


def build(method: QuantMethod, ranks: int = 1) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(latent=LATENT, num_heads=HEADS, architecture="DeepseekV3ForCausalLM"),
        dtype=torch.float32,
        dtype_name="float32",
        capabilities=Capabilities(dtypes=("float32",), kv_dtypes=("float32",)),
        quant=lambda name: method,
        comm=SimpleNamespace(rank=0, size=ranks),
        layers=range(2),
    )


def check(layer: LatentExpansion, weight: Tensor) -> None:
    by_head = weight.view(HEADS, NOPE + VALUE, RANK)
    assert torch.equal(layer.keys, by_head[:, :NOPE])
    assert torch.equal(layer.values, by_head[:, NOPE:].transpose(1, 2))


def test_a_plain_weight_is_cut_by_head() -> None:
    layer = LatentExpansion(build(Unquantized()), "kv_b_proj")
    assert layer.params() == {"weight": ParamSpec((ROWS, RANK), "float32")}
    weight = torch.randn(ROWS, RANK)
    layer.pack({"weight": weight.clone()})
    check(layer, weight)


@pytest.mark.parametrize("group", [None, 8])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_quantised_weight_is_what_its_product_says(group: int | None, ordered: bool) -> None:
    stored = encoded(group=group, ordered=ordered)
    layer = LatentExpansion(build(Given(stored)), "kv_b_proj")
    layer.pack({})
    check(layer, TorchDequantLinear().apply(torch.eye(RANK), stored).T)


def test_a_format_that_cannot_serve_is_named() -> None:
    method = Given(encoded(group=None, ordered=False), "no such rows")
    with pytest.raises(Refused, match="'given' cannot serve kv_b_proj: no such rows"):
        LatentExpansion(build(method), "kv_b_proj")


def test_several_ranks_are_refused() -> None:
    with pytest.raises(Refused, match="not split over ranks"):
        LatentAttention(build(Unquantized(), ranks=2), 0)
