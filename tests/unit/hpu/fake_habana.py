"""A stand-in for the bridge between PyTorch and Gaudi, on the host, as far as the plugin uses it.

Modules hold the names below and no others, so that any other is an AttributeError; operations are registered with the
vendor's own schemas, so that other arguments are refused. Sources: [bridge] github.com/HabanaAI/gaudi-pytorch-bridge,
[docs] docs.habana.ai.

    name                                described in                                   here
    hpu.wrap_in_hpu_graph(module, ...)  [bridge] torch/hpu/graphs.py; [docs] "Run      records the first call, and
                                        Inference Using HPU Graphs"                    replays over its arguments
    hpu.memory_allocated, max_memory_-  [bridge] torch/hpu/memory.py                   numbers of the test
      allocated, reset_peak_memory_-
      stats, mem_get_info
    hpu.synchronize, get_device_name,   [bridge] torch/hpu/__init__.py, events.py      noted; a name of the test
      Event
    hpu.metrics.metric_global           [bridge] torch/hpu/metrics/metrics.py          programs that were recorded
    core.mark_step                      [docs] "PyTorch Gaudi Theory of Operations"    noted
    hpex.kernels.FusedSDPA.apply        [bridge] hpex/kernels/FusedSDPA.py             sums in float64
    torch.ops.hpu.rms_norm              [bridge] hpex/normalization/FusedRMSNorm.py    in float32
    torch.ops.hpu.rotary_pos_embedding  [bridge] hpex/kernels/RotaryPosEmbedding-      as its docstring says
                                        Helper.py
    torch.ops.hpu.block_softmax,        [bridge] tests of block_softmax;               as the tests' reference; what
      block_softmax_adjustment          vllm-project/vllm-gaudi, extension/ops.py      they leave open is NaN
    torch.ops.hpu.cast_to_fp8_v2        [bridge] schemas, tests of fp8; [docs] "Run    saturates as a Gaudi 3
    torch.ops.hpu.fp8_gemm_v2           Inference Using FP8"                           in float32
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from jackfield_platforms.testing.recording_graphs import Recording

_ALIGNED = 16  # columns of the kernel's own layout of maxima and sums

SCHEMAS = {
    "rms_norm": "(Tensor data_in, Tensor gamma, float epsilon) -> (Tensor, Tensor)",
    "rotary_pos_embedding": (
        "(Tensor input, Tensor sin, Tensor cos, Tensor? position_ids, int offset, int mode) -> Tensor"
    ),
    "block_softmax": "(Tensor attn, Tensor block_bias, Tensor block_groups) -> (Tensor, Tensor, Tensor)",
    "block_softmax_adjustment": (
        "(Tensor block_maxes, Tensor block_sums, Tensor block_groups, int batch_size, int[] out_shape) -> Tensor"
    ),
    "cast_to_fp8_v2": (
        "(Tensor input, Tensor? scale=None, bool stochastic_rounding=False, bool is_amax=False, "
        "ScalarType dtype=None, int[]? scale_shape=None) -> (Tensor, Tensor)"
    ),
    "cast_to_fp8_v2.scalar": (
        "(Tensor input, float scale, bool stochastic_rounding=False, bool is_amax=False, "
        "ScalarType dtype=None, int[]? scale_shape=None) -> (Tensor, Tensor)"
    ),
    "fp8_gemm_v2": (
        "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, Tensor? A_scale_inv=None, "
        "Tensor? B_scale_inv=None, Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None) -> Tensor"
    ),
    "fp8_gemm_v2.scalar": (
        "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, float A_scale_inv, "
        "float B_scale_inv, Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None) -> Tensor"
    ),
}


class Bridge:
    """What a test sets and reads."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.allocated = self.peak = 0
        self.free, self.total = 90 << 30, 128 << 30
        self.name = "GAUDI3"
        self.compiled = 0
        self.sdpa_calls: list[dict[str, Any]] = []


def MODULES(bridge: Bridge) -> dict[str, ModuleType]:  # noqa: N802
    """The vendor's modules by name."""
    root = "habana_frameworks"
    made = {
        root: {},
        f"{root}.torch": {},
        f"{root}.torch.hpu": _hpu(bridge),
        f"{root}.torch.hpu.metrics": {"metric_global": lambda name: _metric(bridge, name)},
        f"{root}.torch.core": {"mark_step": lambda: bridge.events.append("mark_step")},
        f"{root}.torch.hpex": {},
        f"{root}.torch.hpex.kernels": {"FusedSDPA": _fused_sdpa(bridge)},
    }
    modules = {}
    for name, members in made.items():
        modules[name] = module = ModuleType(name)
        module.__path__ = []
        vars(module).update(members)
    return modules


def _hpu(bridge: Bridge) -> dict[str, Any]:
    def reset() -> None:
        bridge.peak = bridge.allocated

    class Event:
        def record(self) -> None:
            bridge.events.append("event recorded")

        def synchronize(self) -> None:
            bridge.events.append("event waited for")

    return {
        "wrap_in_hpu_graph": lambda module, **options: _wrapped(bridge, module, **options),
        "memory_allocated": lambda: bridge.allocated,
        "max_memory_allocated": lambda: bridge.peak,
        "reset_peak_memory_stats": reset,
        "mem_get_info": lambda: (bridge.free, bridge.total),
        "synchronize": lambda: bridge.events.append("synchronize"),
        "get_device_name": lambda device=None: bridge.name,
        "Event": Event,
    }


class _Metric:
    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    def stats(self) -> list[tuple[str, float]]:
        return [("TotalNumber", self.bridge.compiled), ("TotalTime", 12.5), ("AvgTime", 0.5)]


def _metric(bridge: Bridge, name: str) -> _Metric | None:
    return _Metric(bridge) if name == "graph_compilation" else None


def _wrapped(
    bridge: Bridge,
    module: nn.Module,
    asynchronous: bool = False,
    disable_tensor_cache: bool = False,
    dry_run: bool = False,
    max_graphs: int | None = None,
) -> nn.Module:
    """Graphs by a hash of the arguments: shapes of tensors, values of anything else."""
    assert isinstance(module, nn.Module)
    graphs: dict[Any, tuple[Recording, Any, list[int]]] = {}
    original = module.forward

    def forward(*args: Any) -> Any:
        key = tuple((arg.shape, arg.dtype) if isinstance(arg, Tensor) else arg for arg in args)
        if key not in graphs:
            bridge.compiled += 1
            bridge.allocated += 1024
            recording = Recording()
            recording.start()
            try:
                outputs = original(*args)
            finally:
                recording.stop()
            graphs[key] = recording, outputs, [arg.data_ptr() for arg in args if isinstance(arg, Tensor)]
            bridge.events.append("capture")
            return outputs
        recording, outputs, places = graphs[key]
        assert places == [arg.data_ptr() for arg in args if isinstance(arg, Tensor)], "this stand-in patches no address"
        recording.replay()
        bridge.events.append("replay")
        return outputs

    module.forward = forward
    return module


def _fused_sdpa(bridge: Bridge) -> type:
    class FusedSDPA:
        """What the bridge's autograd function offers without gradients."""

        @staticmethod
        def apply(
            q: Tensor,
            k: Tensor,
            v: Tensor,
            attn_mask: Tensor | None = None,
            dropout_p: float = 0.0,
            is_causal: bool = False,
            scale: float | None = None,
            softmax_mode: str = "None",
            recompute_mode: bool | None = None,
            valid_seq_len: Tensor | None = None,
            seq_padding_type: str = "left",
        ) -> Tensor:
            assert q.dim() == k.dim() == v.dim() == 4
            assert dropout_p == 0.0
            assert softmax_mode in ("None", "fast")
            if valid_seq_len is not None and not is_causal:
                raise AssertionError(
                    "Valid sequence length is supported only in inference with is_causal(triangular) mask case"
                )
            assert seq_padding_type == "right"
            bridge.sdpa_calls.append({"is_causal": is_causal, "mask": attn_mask, "lengths": valid_seq_len})
            group = q.shape[1] // k.shape[1]
            keys, values = (x.double().repeat_interleave(group, 1) for x in (k, v))
            scores = q.double() @ keys.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
            if attn_mask is not None:
                assert attn_mask.shape == (q.shape[0], 1, q.shape[2], k.shape[2])
                scores = scores + attn_mask.double()
            if is_causal:
                assert q.shape[2] == k.shape[2], "triangular masks are square"
                scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
            out = (scores.softmax(-1) @ values).to(q.dtype)
            if valid_seq_len is not None:  # what lies behind is not computed
                behind = torch.arange(q.shape[2]) >= valid_seq_len[:, None]
                out = out.masked_fill(behind[:, None, :, None], math.nan)
            return out

    return FusedSDPA


def rms_norm(data_in: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    inverse = torch.rsqrt(data_in.float().square().mean(-1, keepdim=True) + epsilon)
    return (data_in.float() * inverse * gamma.float()).to(data_in.dtype), inverse


def rotary_pos_embedding(
    input: Tensor, sin: Tensor, cos: Tensor, position_ids: Tensor | None, offset: int, mode: int
) -> Tensor:
    assert position_ids is None
    assert offset == 0
    assert input.dtype == sin.dtype == cos.dtype
    assert sin.shape[-1] == input.shape[-1]
    if mode == 0:
        first, second = input.chunk(2, -1)
        turned = torch.cat((-second, first), -1)
    else:
        turned = torch.stack((-input[..., 1::2], input[..., ::2]), -1).flatten(-2)
    return input * cos + turned * sin


def block_softmax(attn: Tensor, block_bias: Tensor, block_groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    assert attn.dim() == block_bias.dim() == 5
    assert attn.dtype == block_bias.dtype
    assert attn.dtype in (torch.bfloat16, torch.float32)
    assert block_groups.dtype == torch.int32
    scores = (attn + block_bias).float()
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp()
    owned = (block_groups != -1).view(-1, 1, 1, 1, 1)
    weights = torch.where(owned, weights, 0)
    flat = [torch.where(owned, x, math.nan).flatten(1).to(attn.dtype) for x in (top, weights.sum(-1, keepdim=True))]
    room = -(-flat[0].shape[1] // _ALIGNED) * _ALIGNED
    top, sums = (nn.functional.pad(x, (0, room - x.shape[1]), value=math.nan) for x in flat)
    return weights.to(attn.dtype), top, sums


def block_softmax_adjustment(
    block_maxes: Tensor, block_sums: Tensor, block_groups: Tensor, batch_size: int, out_shape: list[int]
) -> Tensor:
    assert block_maxes.dim() == 2
    count = math.prod(out_shape[1:])
    top, sums = block_maxes[:, :count].float(), block_sums[:, :count].float()
    out = torch.full_like(top, math.nan)
    for row in range(batch_size):
        mine = block_groups == row
        if mine.any():
            peak = top[mine].amax(0)
            share = (top[mine] - peak).exp()
            out[mine] = share / (share * sums[mine]).sum(0)
    return out.view(out_shape).to(block_maxes.dtype)


def cast_to_fp8_v2(
    input: Tensor,
    scale: Tensor | float | None = None,
    stochastic_rounding: bool = False,
    is_amax: bool = False,
    dtype: torch.dtype | None = None,
    scale_shape: list[int] | None = None,
) -> tuple[Tensor, Tensor]:
    assert (stochastic_rounding, is_amax, scale_shape) == (False, False, None)
    assert dtype is torch.float8_e4m3fn
    numbers = input.float() if scale is None else input.float() * scale
    most = torch.finfo(dtype).max
    return numbers.clamp(-most, most).to(dtype), torch.empty(0)


def fp8_gemm_v2(
    A: Tensor,  # noqa: N803
    trans_A: bool,  # noqa: N803
    B: Tensor,  # noqa: N803
    trans_B: bool,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    out_dtype: torch.dtype,
    A_scale_inv: Tensor | float | None = None,  # noqa: N803
    B_scale_inv: Tensor | float | None = None,  # noqa: N803
    bias: Tensor | None = None,
    accumulate: bool = False,
    B_scale_shape: list[int] | None = None,  # noqa: N803
) -> Tensor:
    assert A.dtype == B.dtype == torch.float8_e4m3fn
    assert (D, accumulate, B_scale_shape) == (None, False, None)
    left, right = (x.float().mT if turned else x.float() for x, turned in ((A, trans_A), (B, trans_B)))
    out = left @ right
    for scale in (A_scale_inv, B_scale_inv):
        out = out if scale is None else out * scale
    return (out if bias is None else out + bias.float()).to(out_dtype)


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """`torch.ops.hpu` holds the operations of `SCHEMAS` meanwhile."""
    library = torch.library.Library("hpu", "DEF")
    try:
        for name, schema in SCHEMAS.items():
            library.define(f"{name}{schema}")
            library.impl(name, globals()[name.partition(".")[0]], "CompositeExplicitAutograd")
        yield
    finally:
        library._destroy()
