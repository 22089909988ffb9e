"""Attention alone, ours beside that of libraries and torch's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from attention_layout import layout_of

from gpu_parts.sizes import DIM, HEADS, KV_HEADS, Sizes
from gpu_parts.speed import Clock, Speed, seconds
from jackfield_attention.triton.backend import TritonAttention
from jackfield_gpu.platform import GpuPlatform
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV
from jackfield_platforms.bucket import Bucket, phase_of
from jackfield_platforms.kv import Paged
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import OpSpec, resolve

Backend = type[AttentionBackend[Any]]


class Attending:
    """A backend with a step's tensors, and as many caches as keep the device's own cold."""

    def __init__(self, backend: Backend, platform: GpuPlatform, rows: list[tuple[int, int]], sizes: Sizes) -> None:
        need, dtype = need_of(sizes), torch_dtype(sizes.dtype)
        ops, device = resolve(platform.ops(), OpSpec(sizes.dtype)), platform.device()
        block = backend.block_sizes[0]
        self.backend = backend(need, block, device=device, ops=ops)
        self.layout = layout_of(rows, block)
        num_blocks = 1 + self.layout.block_table.size
        caches = max(1, sizes.apart // (num_blocks * block * sizes.token_bytes))
        self.layers = [LayerKV(self.backend.allocate(num_blocks)) for _ in range(caches)]
        for layer in self.layers:
            for view in self.backend.token_views(layer.cache).values():
                view.normal_()
        shapes = ((HEADS, DIM), (KV_HEADS, DIM), (KV_HEADS, DIM))
        tokens = self.layout.num_tokens
        self.q, self.k, self.v = (torch.randn(tokens, *s, dtype=dtype, device=device) for s in shapes)
        self.bucket = Bucket(
            phase_of(self.layout.num_new), len(rows), tokens, max_blocks=self.layout.block_table.shape[1]
        )
        self.plan, self.turn = self.backend.blank(self.bucket), 0
        self.backend.plan(self.layout, self.bucket, self.plan)

    @torch.inference_mode()
    def run(self) -> None:
        self.turn = (self.turn + 1) % len(self.layers)
        self.backend.run(self.q, self.k, self.v, self.layers[self.turn], self.plan)


def need_of(sizes: Sizes) -> AttentionNeed:
    return AttentionNeed(Paged(KV_HEADS, DIM, DIM, sizes.dtype), HEADS, DIM**-0.5, query_dtype=sizes.dtype)


def backends(platform: GpuPlatform, sizes: Sizes) -> Iterator[Backend]:
    """Ours, and those of libraries that are installed."""
    yield TritonAttention
    yield from (one for one in platform.vendor_attention if one.objection(need_of(sizes)) is None)


def of_torch(rows: list[tuple[int, int]], device: torch.device, sizes: Sizes) -> float:
    """SDPA over dense keys and values of rows of one length: no pages, and nothing is written."""
    (kv_len, new), count, dtype = rows[0], len(rows), torch_dtype(sizes.dtype)
    q = torch.randn(count, HEADS, new, DIM, dtype=dtype, device=device)
    k, v = (torch.randn(count, KV_HEADS, kv_len, DIM, dtype=dtype, device=device) for _ in range(2))
    causal = new == kv_len and new > 1

    def attend() -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

    return seconds(attend, device, sizes.runs)


def decode_attention(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> list[dict[str, Any]]:
    """Bytes a second over the copy's, by batch and context."""
    print("decode attention, of copy bandwidth (microseconds):")
    found = []
    for batch in sizes.batches:
        for context in sizes.contexts:
            size = batch * context * sizes.token_bytes
            if 3 * size > platform.memory(platform.device()).free or not clock.has(8, f"decode {batch} x {context}"):
                continue
            rows = [(context, 1)] * batch
            took = {one.name: measured(one, platform, rows, sizes) for one in backends(platform, sizes)}
            took["sdpa"] = of_torch(rows, platform.device(), sizes)
            found.append({"batch": batch, "context": context, **took})
            told = "  ".join(f"{name} {size / t / speed.bytes_s:5.2f} ({1e6 * t:.0f})" for name, t in took.items())
            print(f"  {batch:>3} x {context:>6}  {told}")
    return found


def prefill_attention(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> list[dict[str, Any]]:
    """Operations a second over the matrix product's."""
    print("prefill attention, of the matrix product (TFLOP/s):")
    found = []
    for name, rows in sizes.prompts.items():
        if not clock.has(8, f"prefill of {name}"):
            continue
        pairs = sum(new * (kv_len - new) + new * (new + 1) // 2 for kv_len, new in rows)
        took = {one.name: measured(one, platform, rows, sizes) for one in backends(platform, sizes)}
        if rows[0][0] == rows[0][1]:
            took["sdpa"] = of_torch(rows, platform.device(), sizes)
        flop = 4 * pairs * HEADS * DIM
        found.append({"case": name, **took})
        told = "  ".join(f"{who} {flop / t / speed.flop_s:5.2f} ({flop / t / 1e12:.0f})" for who, t in took.items())
        print(f"  {name:<20}  {told}")
    return found


def measured(backend: Backend, platform: GpuPlatform, rows: list[tuple[int, int]], sizes: Sizes) -> float:
    return seconds(Attending(backend, platform, rows, sizes).run, platform.device(), sizes.runs)
