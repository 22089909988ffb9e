"""`Platform.experts`: a layer's experts over stacked products."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_attention.triton.tiles import power_of_two
from jackfield_gpu.arch import Arch
from jackfield_gpu.experts.expert_kernels import combine_kernel, down_kernel, gate_up_kernel
from jackfield_gpu.experts.expert_weights import ExpertTable
from jackfield_gpu.experts.routing import Routing, route
from jackfield_gpu.experts.tiles import most_blocks, tile_for
from jackfield_gpu.linear.tiles import Tile
from jackfield_gpu.linear.weight_only import WeightOnlyLinear
from jackfield_platforms.experts import ExpertsSpec, ExpertWeights, MakeExperts
from jackfield_platforms.linear import TorchLinear

COMBINE_BLOCK = 1024  # numbers of a token's sum that one program makes
_OPS = (TorchLinear.name, WeightOnlyLinear.name)


def experts(arch: Arch, spec: ExpertsSpec) -> MakeExperts | str:
    """The layer's experts in five launches beside their routing, or why not."""
    if spec.dtype not in arch.dtypes:
        return f"{arch.name} computes in {', '.join(arch.dtypes)}"
    for linear in (spec.gate_up, spec.down):
        if linear.op not in _OPS:
            return f"{linear.layer.name} is multiplied by {linear.op}"
        if linear.layer.bias:
            return f"{linear.layer.name} has a bias"
        if linear.encoding.ordered:
            return f"{linear.layer.name}: {linear.encoding.describe()}, in an order that differs from expert to expert"
    return lambda weights: TritonExperts(arch, spec, weights)


class TritonExperts:
    """An `ExpertsFn`. Gate and up meet in float32 and are rounded once, each product once, and a token's sum once."""

    def __init__(self, arch: Arch, spec: ExpertsSpec, weights: ExpertWeights) -> None:
        self._arch, self._spec = arch, spec
        self._gate_up, self._down = (
            ExpertTable.of([linear.packed for linear in linears]) for linears in (weights.gate_up, weights.down)
        )

    def __call__(self, x: Tensor, logits: Tensor) -> Tensor:
        x = x if x.stride(-1) == 1 else x.contiguous()
        tokens, hidden = x.shape
        out = torch.empty(tokens, hidden, dtype=x.dtype, device=x.device)
        if not tokens:
            return out
        spec, pairs = self._spec, tokens * self._spec.top
        tile = tile_for(self._arch, x.element_size() * 8, pairs, spec.num_experts)
        routing = route(spec, logits, tile.rows)
        blocks = most_blocks(pairs, spec.num_experts, tile.rows)
        inner = torch.empty(pairs, spec.inner_size, dtype=x.dtype, device=x.device)
        self._multiply_gate_up(x, routing, inner, tile, blocks)
        products = torch.empty(pairs, hidden, dtype=x.dtype, device=x.device)
        self._multiply_down(inner, routing, products, tile, blocks)
        combine_kernel[(tokens, -(-hidden // COMBINE_BLOCK))](
            products, routing.share, out, hidden, TOP=spec.top, BLOCK=COMBINE_BLOCK, num_warps=4
        )
        return out

    def _multiply_gate_up(self, x: Tensor, routing: Routing, out: Tensor, tile: Tile, blocks: int) -> None:
        table, spec = self._gate_up, self._spec
        gate_up_kernel[(-(-spec.inner_size // tile.outs), blocks)](
            x, table.data, table.offsets, table.scale, table.scale_offsets, table.zero, table.zero_offsets,
            routing.order, routing.starts, routing.blocks, out,
            spec.num_experts, spec.top, spec.inner_size, table.in_size, table.padded_size,
            x.stride(0), table.data.stride(0), table.scale.shape[1], table.group_out,
            **self._constants(table, tile),
        )  # fmt: skip

    def _multiply_down(self, x: Tensor, routing: Routing, out: Tensor, tile: Tile, blocks: int) -> None:
        table, spec = self._down, self._spec
        down_kernel[(-(-out.shape[1] // tile.outs), blocks)](
            x, table.data, table.offsets, table.scale, table.scale_offsets, table.zero, table.zero_offsets,
            routing.order, routing.starts, routing.blocks, out,
            spec.num_experts, out.shape[1], table.in_size, table.padded_size,
            table.data.stride(0), table.scale.shape[1], table.group_out,
            **self._constants(table, tile),
        )  # fmt: skip

    def _constants(self, table: ExpertTable, tile: Tile) -> dict[str, int]:
        return {
            "BITS": table.bits,
            "IS_FLOAT": table.is_float,
            "GROUP": table.group,
            "HAS_ZERO": table.has_zero,
            "EXPERTS": power_of_two(self._spec.num_experts),
            "ROWS": tile.rows,
            "OUTS": tile.outs,
            "COLUMNS": table.columns_for(tile),
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
        }
