"""The weights of all experts as the kernels find them: where the first lies, and how far from it the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor

from jackfield_gpu.linear.narrow_weight import NarrowWeight
from jackfield_gpu.linear.tiles import Tile
from jackfield_platforms.linear import Encoded

PLAIN = 16
"""What the kernels call the bits of plain floats of any width."""

_ALIGNED = 16  # numbers


class ExpertTable(msgspec.Struct, frozen=True, eq=False):
    """One weight of each expert, all of one form. The tensors stay where they are, and are kept."""

    data: Tensor  # of the first expert, [out, padded]
    offsets: Tensor  # int64 [experts], in numbers from the first one's
    scale: Tensor  # the same; plain floats: the data again
    scale_offsets: Tensor
    zero: Tensor  # the same; where there are no zero points, the scales again
    zero_offsets: Tensor
    has_zero: bool
    bits: int
    is_float: bool
    group: int  # columns that share a scale, 0: a whole row
    group_out: int
    in_size: int
    padded_size: int
    columns: int  # as in `NarrowWeight`; 0: any
    held: tuple[Tensor, ...]

    @classmethod
    def of(cls, packed: Sequence[Encoded | NarrowWeight]) -> ExpertTable:
        """The table of what `TorchLinear` or `WeightOnlyLinear` packed, one an expert."""
        first = packed[0]
        if isinstance(first, NarrowWeight):
            narrow = _alike([weight.encoded for weight in packed if isinstance(weight, NarrowWeight)])
            return cls._of(
                [weight.data for weight in narrow],
                [weight.scale for weight in narrow if weight.scale is not None],
                [weight.zero for weight in narrow if weight.zero is not None],
                bits=first.encoded.encoding.bits,
                is_float=first.encoded.encoding.kind == "float",
                group=first.group,
                group_out=first.encoded.encoding.group_out,
                in_size=first.in_size,
                padded_size=first.padded_size,
                columns=first.columns,
            )
        data = [weight.data for weight in packed if isinstance(weight, Encoded)]
        in_size = data[0].shape[1]
        plain = {"bits": PLAIN, "is_float": True, "group": 0, "group_out": 1}
        return cls._of(data, data, [], **plain, in_size=in_size, padded_size=in_size, columns=0)

    @classmethod
    def _of(cls, data: list[Tensor], scales: list[Tensor], zeros: list[Tensor], **facts: Any) -> ExpertTable:
        data = [_aligned(x) for x in data]
        return cls(
            data=data[0],
            offsets=_offsets(data),
            scale=scales[0],
            scale_offsets=_offsets(scales),
            zero=(zeros or scales)[0],
            zero_offsets=_offsets(zeros or scales),
            has_zero=bool(zeros),
            held=(*data, *scales, *zeros),
            **facts,
        )

    def columns_for(self, tile: Tile) -> int:
        """Columns of a tile over these weights: 4-bit ones were packed for one number of them."""
        if self.bits == 4 or 0 < self.columns < tile.columns:
            return self.columns
        return tile.columns


def _alike(experts: list[Encoded]) -> list[Encoded]:
    """The same numbers, all with zero points where one has them: those that all lie in the middle are not kept."""
    if all(expert.zero is None for expert in experts):
        return experts
    return [expert if expert.zero is not None else _with_zero(expert) for expert in experts]


def _with_zero(expert: Encoded) -> Encoded:
    assert expert.scale is not None, "ints have scales"
    bits = expert.encoding.bits
    zero = torch.full(expert.scale.shape, 2 ** (bits - 1), dtype=torch.int16, device=expert.scale.device)
    data = expert.data if bits == 4 else expert.data.view(torch.uint8) ^ 128
    return msgspec.structs.replace(expert, data=data, zero=zero)


def _aligned(x: Tensor) -> Tensor:
    """x where 16 of its numbers are aligned, as the kernels are told; otherwise a copy, which torch aligns."""
    return x if x.data_ptr() % (_ALIGNED * x.element_size()) == 0 and x.is_contiguous() else x.clone().contiguous()


def _offsets(tensors: Sequence[Tensor]) -> Tensor:
    """How far each begins from the first, in numbers. All are of one dtype and shape."""
    first, size = tensors[0].data_ptr(), tensors[0].element_size()
    if any(x.shape != tensors[0].shape for x in tensors):
        raise ValueError("the weights of a layer's experts must be of one shape")
    return torch.tensor([(x.data_ptr() - first) // size for x in tensors], device=tensors[0].device)
