"""A stand-in for the bridge between PyTorch and Gaudi, on the host, as far as the plugin uses it.

Modules hold the names below and no others, so that any other is an AttributeError; operations of torch.ops.hpu are in
`fake_habana_ops`. Sources: [bridge] github.com/HabanaAI/gaudi-pytorch-bridge, [docs] docs.habana.ai.

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
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from jackfield_platforms.testing.recording_graphs import Recording


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
