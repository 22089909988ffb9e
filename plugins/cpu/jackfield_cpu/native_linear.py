"""Multiplying with the plugin's own kernels: bfloat16, float32, int8 and int4 weights in panels of 16 outputs."""

from __future__ import annotations

import ctypes

import msgspec
import torch
from torch import Tensor

from jackfield_cpu.kernels import Kernels, Rows, Weight, refusal
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, torch_dtype

LANES = 16
_DEPTH = 8  # inputs are padded to a multiple
_LARGE_PAGE = 2 << 20
PLAIN, SILU_MUL = 0, 1  # `Finish` of native/weight.h
_PAIR_BYTES = {"float32": 128, "bfloat16": 64, "int8": 32, "int4": 16}
_FORMATS = {name: number for number, name in enumerate(_PAIR_BYTES)}  # `Format` of native/weight.h


class Panels(msgspec.Struct, eq=False):
    """A packed weight: what the kernels are told, and the tensors that it points into."""

    weight: Weight
    held: tuple[Tensor, ...]
    dtype: torch.dtype  # of gathered rows


class NativeLinear:
    """Weights are read once a product at few rows, and stay in the cache at many. Sums are float32, rounded once."""

    name = "native"

    def __init__(self, kernels: Kernels | str) -> None:
        self.kernels = kernels

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        reason = refusal(self.kernels, layer.dtype)
        if reason is None and not _format(encoding):
            return f"reads plain floats, int8 rows and int4 groups, not {encoding.describe()}"
        return reason

    def pack(self, encoded: Encoded) -> Panels:
        return pack(self.kernels, encoded)

    def apply(self, x: Tensor, packed: Panels) -> Tensor:
        assert isinstance(self.kernels, Kernels), "rejected"
        if x.stride(-1) != 1:
            x = x.contiguous()
        out = x.new_empty(x.shape[0], packed.weight.out)
        if len(x):
            self.kernels.library.jackfield_linear(packed.weight, Rows.of(x), len(x), Rows.of(out), PLAIN)
        return out

    def rows(self, packed: Panels, ids: Tensor) -> Tensor:
        assert isinstance(self.kernels, Kernels), "rejected"
        ids = ids.contiguous()
        out = torch.empty(len(ids), packed.weight.in_size, dtype=packed.dtype)
        if len(ids):
            read = self.kernels.library.jackfield_gather(packed.weight, ids.data_ptr(), len(ids), Rows.of(out))
            if read < len(ids):
                raise IndexError(f"ids must be 0 to {packed.weight.out - 1}; got {int(ids[read])}")
        return out


def pack(kernels: Kernels | str, encoded: Encoded) -> Panels:
    """The weight in panels; `rejects` has accepted it."""
    assert isinstance(kernels, Kernels), "rejected"
    name, out_size = _format(encoded.encoding), encoded.data.shape[0]
    in_size = encoded.data.shape[1] * (2 if name == "int4" else 1)
    panels, depth = -(-out_size // LANES), -(-in_size // _DEPTH) * _DEPTH
    panel_bytes = depth // 2 * _PAIR_BYTES[name]
    data = _room(kernels, panels * panel_bytes)
    scale, offset = _scales(encoded, panels)
    bias = None if encoded.bias is None else _lanes(encoded.bias.float()[:, None], panels)
    source = encoded.data.contiguous()
    weight = Weight(
        format=_FORMATS[name],
        out=out_size,
        in_size=in_size,
        panels=panels,
        depth=depth,
        panel_bytes=panel_bytes,
        group=encoded.encoding.group or depth,
        data=data.data_ptr(),
        scale=_address(scale),
        offset=_address(offset),
        bias=_address(bias),
    )
    kernels.library.jackfield_pack(ctypes.byref(weight), source.data_ptr(), data.data_ptr())
    held = tuple(x for x in (data, scale, offset, bias) if x is not None)
    dtype = source.dtype if encoded.encoding.is_plain else torch_dtype(encoded.dtype)
    return Panels(weight, held, dtype)


def _room(kernels: Kernels, size: int) -> Tensor:
    """Bytes on large pages: a product reads them once, and looks up addresses meanwhile."""
    if size < _LARGE_PAGE:
        return torch.empty(size, dtype=torch.uint8)
    wide = torch.empty(size + _LARGE_PAGE, dtype=torch.uint8)  # what lies outside of the slice is never touched
    data = wide[-wide.data_ptr() % _LARGE_PAGE :][:size]
    kernels.library.jackfield_large_pages(data.data_ptr(), size)
    return data


def _format(encoding: Encoding) -> str:
    """Which of the kernels' formats this is; "" where it is none."""
    if encoding.is_plain:
        return {32: "float32", 16: "bfloat16"}.get(encoding.bits, "")
    if encoding.kind != "int" or encoding.scale is None or encoding.group_out != 1 or encoding.ordered:
        return ""
    if encoding.bits == 8:
        return "int8" if encoding.group is None and not encoding.zero else ""
    return "int4" if encoding.bits == 4 and (encoding.group or _DEPTH) % _DEPTH == 0 else ""


def _scales(encoded: Encoded, panels: int) -> tuple[Tensor | None, Tensor | None]:
    """Scales, and what is added after them: minus the zero point times the scale."""
    if encoded.scale is None:
        return None, None
    scale = encoded.scale.float()
    if encoded.encoding.bits == 8:
        return _lanes(scale, panels), None
    zero = torch.full_like(scale, 8) if encoded.zero is None else encoded.zero.float()
    return _lanes(scale, panels), _lanes(-zero * scale, panels)


def _lanes(values: Tensor, panels: int) -> Tensor:
    """`[out, groups]` to `[panels, groups, 16]`, zeros past the end."""
    padded = values.new_zeros(panels * LANES, values.shape[1])
    padded[: len(values)] = values
    lanes: Tensor = padded.unflatten(0, (panels, LANES)).transpose(1, 2)
    return lanes.contiguous()


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
