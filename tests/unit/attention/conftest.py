"""A random step over a poisoned paged cache, and what the dense oracle says about it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jackfield_attention.dense import dense_attention
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Latent, Paged, Windowed
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import OpSpec, OpTable, resolve

NAN = float("nan")

if importlib.util.find_spec("triton") is None:  # no wheel for this system
    collect_ignore_glob = ["test_triton_*.py"]
else:  # kernels are interpreted, which must be said before anything imports Triton
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    from triton_interpreter import use_interpreter

    use_interpreter()


def a_need(**changes: Any) -> AttentionNeed:
    """Four query heads on two kv heads of 16, float32, unless changed."""
    fields = {"kv_heads": 2, "k_dim": 16, "v_dim": 16, "dtype": "float32"}
    fields |= {name: changes.pop(name) for name in tuple(changes) if name in fields}
    window, latent = changes.pop("window", None), changes.pop("latent", None)
    kv = Paged(**fields) if window is None else Windowed(**fields, window=window)
    kv = kv if latent is None else Latent(*latent, fields["dtype"])
    heads = changes.pop("query_heads", 4)
    return AttentionNeed(kv, heads, **{"scale": 0.3, "query_dtype": kv.dtype, **changes})


@dataclass
class Scene:
    """Rows (kv_len, query_len) in shuffled blocks; what no past token wrote, the null block included, is NaN."""

    need: AttentionNeed
    backend: AttentionBackend[Any]
    layer: LayerKV
    layout: Layout
    q: Tensor
    k: Tensor  # of the step's tokens
    v: Tensor
    keys: list[Tensor]  # of all tokens, a row each, as the cache rounds them
    values: list[Tensor]

    def bucket(self, **changes: Any) -> Bucket:
        sizes = {"phase": "mixed", "num_rows": self.layout.num_rows, "num_tokens": self.q.shape[0], **changes}
        return Bucket(**sizes)

    def run(self, bucket: Bucket | None = None) -> Tensor:
        bucket = bucket or self.bucket()
        plan = self.backend.blank(bucket)
        self.backend.plan(self.layout, bucket, plan)
        return self.backend.run(self.q, self.k, self.v, self.layer, plan)

    def expected(self) -> list[Tensor | None]:
        """Outputs of each row in float64; None for padding rows."""
        return [
            dense_attention(self.q[tokens].double(), k, v, self.need, self.layer.sinks, self.layer.slopes)
            if len(k)
            else None
            for tokens, k, v in zip(self.tokens(), self.keys, self.values, strict=True)
        ]

    def tokens(self) -> list[slice]:
        """The step's tokens of each row."""
        layout = self.layout
        return [slice(a, a + n) for a, n in zip(layout.query_start.tolist(), layout.num_new.tolist(), strict=False)]

    def check(self, out: Tensor, tolerance: float = 2e-6) -> None:
        """Every element of every real row, relative to the largest value."""
        assert out.dtype == self.q.dtype
        for row, (tokens, expected) in enumerate(zip(self.tokens(), self.expected(), strict=True)):
            if expected is not None:
                got = out[tokens].double()
                error = (got - expected).abs().max() / max(1.0, float(expected.abs().max()))
                assert error <= tolerance, f"row {row} of {self.layout.kv_len.tolist()}: error {error:.2e}"


def _store(layer: LayerKV, block: Tensor, offset: Tensor, k: Tensor, v: Tensor) -> None:
    parts = ((layer.cache.k, k, layer.k_scale), (layer.cache.v, v, layer.v_scale))
    for cache, numbers, scale in parts:
        kept = (numbers if scale is None else numbers / scale[:, None]).to(cache.dtype)
        if cache.dtype.itemsize == 1:  # torch does not index 8-bit floats
            cache, kept = cache.view(torch.uint8), kept.view(torch.uint8)
        cache[block, :, offset] = kept


def powers_of_two(count: int, generator: torch.Generator) -> Tensor:
    """By which numbers are multiplied and divided without rounding."""
    return torch.exp2(torch.randint(-2, 3, (count,), generator=generator).float())


def make_scene(
    backend: type[AttentionBackend[Any]],
    rows: list[tuple[int, int]],
    need: AttentionNeed,
    *,
    block_size: int = 8,
    seed: int = 0,
    padding: int = 0,
    num_blocks: int = 0,
) -> Scene:
    """A scene of `rows` in `num_blocks` blocks at least; `padding` more tokens belong to no row and hold NaN."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    device = torch.device("cpu")
    made = backend(need, block_size, device=device, ops=resolve(OpTable(), OpSpec(need.query_dtype)))
    counts = [-(-kv_len // block_size) for kv_len, _ in rows]
    num_blocks = max(num_blocks, sum(counts) + 5)
    cache = made.allocate(num_blocks)
    cache.k.fill_(NAN), cache.v.fill_(NAN)
    sinks = torch.randn(need.query_heads, generator=generator) if need.sinks else None
    slopes = torch.rand(need.query_heads, generator=generator) / 4 if need.alibi else None
    k_scale, v_scale = (powers_of_two(need.kv.kv_heads, generator) if need.kv_scales else None for _ in range(2))
    if isinstance(need.kv, Latent):
        v_scale = k_scale
    layer = LayerKV(cache, sinks, slopes, k_scale, v_scale)
    ids = rng.permutation(np.arange(1, num_blocks)).astype(np.int32)
    table = rng.choice(ids, (len(rows), max([*counts, 1]) + 2)).astype(np.int32)  # stale past a row's own blocks
    dtype, kv_dtype = torch_dtype(need.query_dtype), torch_dtype(need.kv.dtype)

    def draw(tokens: int, heads: int, dim: int, scale: Tensor | None) -> Tensor:
        numbers = torch.randn(tokens, heads, dim, generator=generator).to(kv_dtype)
        numbers = numbers.float() if kv_dtype.itemsize == 1 else numbers
        return numbers if scale is None else (numbers * scale[:, None]).to(numbers.dtype)

    keys = [draw(kv_len, need.kv.kv_heads, need.kv.k_dim, k_scale) for kv_len, _ in rows]
    values = [draw(kv_len, need.kv.kv_heads, need.kv.v_dim, v_scale) for kv_len, _ in rows]
    if isinstance(need.kv, Latent):
        values = [key[..., : need.kv.rank] for key in keys]
    fresh_k, fresh_v = [], []
    for row, (kv_len, query_len) in enumerate(rows):
        table[row, : counts[row]], ids = ids[: counts[row]], ids[counts[row] :]
        past = np.arange(max(kv_len - query_len, 0))
        block, offset = torch.from_numpy(table[row, past // block_size]).long(), torch.from_numpy(past % block_size)
        _store(layer, block, offset, keys[row][: len(past)], values[row][: len(past)])
        missing = 0 if kv_len else query_len  # tokens of a padding row
        fresh_k += [keys[row][len(past) :], torch.full((missing, *keys[row].shape[1:]), NAN)]
        fresh_v += [values[row][len(past) :], torch.full((missing, *values[row].shape[1:]), NAN)]
    num_tokens = sum(query_len for _, query_len in rows)
    q = torch.randn(num_tokens + padding, need.query_heads, need.kv.k_dim, generator=generator).to(dtype)
    q[num_tokens:] = NAN
    k = torch.cat([*fresh_k, torch.full((padding, *keys[0].shape[1:]), NAN)]).to(dtype)
    v = torch.cat([*fresh_v, torch.full((padding, *values[0].shape[1:]), NAN)]).to(dtype)
    lengths = np.array(rows, np.int32)
    start = np.concatenate(([0], np.cumsum(lengths[:, 1]))).astype(np.int32)
    layout = Layout(
        num_rows=len(rows),
        num_tokens=num_tokens,
        query_start=start,
        num_new=np.where(lengths[:, 0] > 0, lengths[:, 1], 0).astype(np.int32),
        kv_len=lengths[:, 0].copy(),
        block_table=table,
    )
    return Scene(need, made, layer, layout, q, k, v, keys, values)


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """`scene(backend, rows, need, ...)`."""
    return make_scene


@pytest.fixture
def need() -> Callable[..., AttentionNeed]:
    """`need(window=…, soft_cap=…, …)`."""
    return a_need
