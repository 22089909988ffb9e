"""What is checked of every weight format: products and gathered rows against float64."""

from __future__ import annotations

import numpy as np
import torch

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, LinearSpec

CAPABILITIES = Capabilities(dtypes=("float32", "bfloat16", "float16"), kv_dtypes=("float32",))
ROUNDING = {"float32": 2.0**-23, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def spec(in_size: int, *out_sizes: int, dtype: str = "float32", bias: bool = False) -> LinearSpec:
    """A layer."""
    return LinearSpec("block.layer", in_size, out_sizes, dtype, bias, gathers=True)


def assert_stands_for(encoded: Encoded, exact: np.ndarray, layer: LinearSpec) -> None:
    """The reference op multiplies by, and gathers from, the numbers in `exact`, float64 `[out, in]`."""
    op, dtype = TorchDequantLinear(), getattr(torch, layer.dtype)
    assert op.rejects(encoded.encoding, layer) is None
    wanted, packed = torch.from_numpy(np.ascontiguousarray(exact)), op.pack(encoded)
    x = torch.randn(5, layer.in_size, generator=torch.Generator().manual_seed(3)).to(dtype)
    bias = 0 if encoded.bias is None else encoded.bias.double()
    got, product = op.apply(x, packed), x.double() @ wanted.t() + bias
    assert (got.dtype, got.shape) == (dtype, (5, layer.out_size))
    bound = (x.double().abs() @ wanted.t().abs()) + abs(bias)  # what errors of single terms may add up to
    assert ((got.double() - product).abs() <= bound * 4 * ROUNDING[layer.dtype] + 1e-12).all()
    ids = torch.tensor([layer.out_size - 1, 0, layer.out_size // 2])
    rows = op.rows(packed, ids)
    assert rows.dtype == dtype
    # float16 has nothing between 0 and 6e-8
    assert torch.allclose(rows.double(), wanted[ids], rtol=2 * ROUNDING[layer.dtype], atol=6e-8)
