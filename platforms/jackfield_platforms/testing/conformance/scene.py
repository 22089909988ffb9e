"""Sequences in a poisoned cache, run step by step as the core would run them, every answer compared with the oracle.

The cache is written through `run` alone. Before anything else each block is filled with NaN, and the null block too, by
steps that nobody reads; what no sequence has written stays NaN. The blocks of a sequence are shuffled, the first and
the last block of the cache are in use, and entries of the block table that no query needs hold the numbers of other
blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jackfield_platforms.attention import LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket, Limits, RowSizes, phase_of
from jackfield_platforms.kv import Latent
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import OpSpec, resolve
from jackfield_platforms.testing.conformance import oracle
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase
from jackfield_platforms.testing.conformance.mismatch import expect, near
from jackfield_platforms.testing.conformance.tolerances import tolerance

MAX_ROWS, MAX_TOKENS = 8, 256
_SPARE_BLOCKS = 3  # of nobody, in the middle of the cache
_ROTATED = 2  # times the tolerance: queries and keys were rounded once more

Rows = Sequence[tuple[int, int]]  # (sequence, new tokens)


@dataclass
class Tokens:
    """One sequence: all that it will ever hold, where it lives, and how much of it is in the cache."""

    q: Tensor  # [length, heads, k_dim] in the query dtype
    k: Tensor
    v: Tensor
    blocks: Any  # int32 [blocks]
    done: int = 0

    def __len__(self) -> int:
        return len(self.q)


@dataclass(frozen=True)
class Launch:
    """One launch of a step: which rows, at which size, and what `run` is given."""

    rows: Rows
    bucket: Bucket
    layout: Layout
    inputs: tuple[Tensor, Tensor, Tensor]  # q, k, v of the bucket's tokens, NaN where no row has one
    positions: Tensor


class Scene:
    """`lengths` are what the sequences may grow to. Equal seeds give equal sequences."""

    def __init__(self, case: AttentionCase, lengths: Sequence[int], seed: int) -> None:
        self.case, self.need, self.block_size = case, case.need, case.block_size
        self.platform = platform = case.subject.platform
        self.rules, self.device = platform.capabilities().scheduling, platform.device()
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        ops = resolve(platform.ops(), OpSpec(self.need.query_dtype))
        self.backend = case.backend(self.need, self.block_size, device=self.device, ops=ops)
        self.limits = Limits(MAX_ROWS, MAX_TOKENS, max(max(lengths), self.block_size), self.block_size)
        self.buckets = case.subject.buckets(self.limits)
        self.rotation: tuple[Tensor, bool] | None = None  # table, interleaved
        self.bounded = False  # whether answers are only held to lie within the values, not to be the oracle's
        self._plans: dict[Bucket, Any] = {}
        self._make(lengths)

    @torch.inference_mode()
    def _make(self, lengths: Sequence[int]) -> None:
        counts = [-(-length // self.block_size) for length in lengths]
        self.num_blocks = 1 + sum(counts) + _SPARE_BLOCKS
        sinks = torch.randn(self.need.query_heads, generator=self.generator) + 1
        self.sinks = sinks if self.need.sinks else None
        self.slopes = torch.rand(self.need.query_heads, generator=self.generator) / 4 if self.need.alibi else None
        self.k_scale, self.v_scale = self._scales(), None if isinstance(self.need.kv, Latent) else self._scales()
        cache = self.backend.allocate(self.num_blocks)
        self.layer = LayerKV(cache, *map(self._put, (self.sinks, self.slopes, self.k_scale, self.v_scale)))
        self._poison()
        middle = 1 + self.num_blocks // 2
        used = [block for block in range(1, self.num_blocks) if not middle <= block < middle + _SPARE_BLOCKS]
        parts = np.split(self.rng.permutation(np.array(used, np.int32)), np.cumsum(counts)[:-1])
        self.sequences = [self._draw(length, blocks) for length, blocks in zip(lengths, parts, strict=True)]

    def _scales(self) -> Tensor | None:
        """Powers of two, by which numbers of the cache can be divided and multiplied without rounding."""
        if not self.need.kv_scales:
            return None
        return torch.exp2(torch.randint(-2, 3, (self.need.kv.kv_heads,), generator=self.generator).float())

    def _put(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(self.device)

    def _draw(self, length: int, blocks: Any) -> Tokens:
        kv = self.need.kv
        query, cached = torch_dtype(self.need.query_dtype), torch_dtype(kv.dtype)
        shapes = ((self.need.query_heads, kv.k_dim), (kv.kv_heads, kv.k_dim), (kv.kv_heads, kv.v_dim))
        q, k, v = (torch.randn(length, *shape, generator=self.generator) for shape in shapes)
        k, v = k.to(cached).to(query), v.to(cached).to(query)
        if self.k_scale is not None:
            k = k * self.k_scale[:, None].to(query)
        if self.v_scale is not None:
            v = v * self.v_scale[:, None].to(query)
        if isinstance(kv, Latent):
            v = k[..., : kv.rank]
        return Tokens(q.to(query), k, v, blocks)

    def _poison(self) -> None:
        """Fill every block with NaN, block by block; then the null block, by tokens that pad a launch."""
        size, kv = self.block_size, self.need.kv
        query = torch_dtype(self.need.query_dtype)
        nan = torch.full((size, kv.kv_heads, max(kv.k_dim, kv.v_dim)), float("nan"), dtype=query)
        q = torch.zeros(size, self.need.query_heads, kv.k_dim, dtype=query)
        self.sequences = [
            Tokens(q, nan[..., : kv.k_dim], nan[..., : kv.v_dim], np.array([block], np.int32))
            for block in range(1, self.num_blocks)
        ]
        for batch in self._batches([(block, size) for block in range(self.num_blocks - 1)]):
            for launch in self._launches(batch):
                self.run(launch)
        padded = self.roomy([(0, size)])
        if padded is not None:
            self.run(self.launch([(0, size)], padded))

    @torch.inference_mode()
    def step(self, rows: Rows, bucket: Bucket | None = None) -> dict[int, Tensor]:
        """Run the next tokens of some sequences, compare each with the oracle, and return the answers by sequence.

        Without a bucket the platform's plan places the rows, in as many steps as its scheduling rules need.
        """
        answers: dict[int, Tensor] = {}
        ordered = sorted(rows, key=lambda row: row[1] != 1)  # decode rows first
        for batch in [ordered] if bucket is not None else self._batches(ordered):
            launches = self._launches(batch) if bucket is None else [self.launch(batch, bucket)]
            for launch in launches:
                answers |= self.check(launch, self.run(launch))
            for index, new in batch:
                self.sequences[index].done += new
        return answers

    def fill(self, done: Sequence[int]) -> None:
        """Bring each sequence to as many tokens, by prompts."""
        self.step([(index, count) for index, count in enumerate(done) if count])

    def _batches(self, rows: Rows) -> Iterator[Rows]:
        """Rows of one step each, within the limits and the platform's scheduling rules."""
        batch: list[tuple[int, int]] = []
        for row in rows:
            prefills = sum(new > 1 for _, new in batch) + (row[1] > 1)
            full = len(batch) == MAX_ROWS or sum(new for _, new in batch) + row[1] > MAX_TOKENS
            many = self.rules.max_prefills is not None and prefills > self.rules.max_prefills
            mixes = not self.rules.mixed and bool(batch) and (batch[0][1] == 1) != (row[1] == 1)
            if batch and (full or many or mixes):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _launches(self, rows: Rows) -> Iterator[Launch]:
        new = np.array([count for _, count in rows], np.int32)
        done = np.array([self.sequences[index].done for index, _ in rows], np.int32)
        for placed in self.buckets.place(RowSizes(new, done + new)):
            yield self.launch(rows[slice(*placed.rows)], placed.bucket)

    def roomy(self, rows: Rows) -> Bucket | None:
        """A bucket with more rows and more tokens than `rows` have: the smallest planned one, or one of our own where
        any size runs.
        """
        new = np.array([count for _, count in rows], np.int32)
        num_rows, num_tokens, phase = len(rows), int(new.sum()), phase_of(new)
        counts = [-(-(self.sequences[index].done + count) // self.block_size) for index, count in rows]
        blocks = max(counts)
        if not self.buckets.buckets():
            return Bucket(phase, num_rows + 2, num_tokens + 5, max_blocks=blocks + 2)
        return next(
            (
                bucket
                for bucket in reversed(self.buckets.buckets())
                if bucket.phase in (phase, "mixed")
                and bucket.num_rows > num_rows
                and bucket.num_tokens > num_tokens
                and (bucket.query_len is None or bucket.query_len >= new.max())
                and (bucket.max_blocks == 0 or bucket.max_blocks >= blocks)
                and (bucket.num_blocks == 0 or bucket.num_blocks >= sum(counts))
            ),
            None,
        )

    def launch(self, rows: Rows, bucket: Bucket) -> Launch:
        """What `plan` and `run` are given for the next tokens of `rows`, padded to the bucket."""
        layout = self._layout(rows, bucket)
        like = self.sequences[0]
        inputs = [x.new_full((bucket.num_tokens, *x.shape[1:]), float("nan")) for x in (like.q, like.k, like.v)]
        positions = torch.zeros(bucket.num_tokens, dtype=torch.int64)
        for (index, new), start in zip(rows, layout.query_start.tolist(), strict=False):
            sequence = self.sequences[index]
            fresh = slice(sequence.done, sequence.done + new)
            for buffer, tokens in zip(inputs, (sequence.q, sequence.k, sequence.v), strict=True):
                buffer[start : start + new] = tokens[fresh]
            positions[start : start + new] = torch.arange(sequence.done, sequence.done + new)
        q, k, v = (x.to(self.device) for x in inputs)
        return Launch(rows, bucket, layout, (q, k, v), positions.to(self.device))

    def _layout(self, rows: Rows, bucket: Bucket) -> Layout:
        new = np.array([count for _, count in rows], np.int32)
        kv_len = np.array([self.sequences[index].done for index, _ in rows], np.int32) + new
        padding = bucket.num_rows - len(rows)
        width = bucket.max_blocks or int(-(-kv_len.max() // self.block_size)) + 2
        table = np.zeros((bucket.num_rows, width), np.int32)
        for row, (index, count) in enumerate(rows):
            table[row] = self._table_row(self.sequences[index], count, width)
        if bucket.query_len is None:
            start = np.concatenate(([0], np.cumsum(new), np.full(padding, new.sum())))
        else:
            start = np.arange(bucket.num_rows + 1) * bucket.query_len
        return Layout(
            num_rows=len(rows),
            num_tokens=int(new.sum()),
            query_start=start.astype(np.int32),
            num_new=np.pad(new, (0, padding)),
            kv_len=np.pad(kv_len, (0, padding)),
            block_table=table,
        )

    def _table_row(self, sequence: Tokens, new: int, width: int) -> Any:
        """A sequence's blocks among stale entries: those past its end, and those before every query's window."""
        entries = self.rng.integers(0, self.num_blocks, width).astype(np.int32)
        window = oracle.window(self.need)
        first = 0 if window is None else max(0, sequence.done - window + 1) // self.block_size
        last = -(-(sequence.done + new) // self.block_size)
        entries[first:last] = sequence.blocks[first:last]
        return entries

    def planned(self, launch: Launch) -> Any:
        """The bucket's plan, made once, filled for a launch."""
        plan = self.plan_of(launch.bucket)
        self.backend.plan(launch.layout, launch.bucket, plan)
        return plan

    def plan_of(self, bucket: Bucket) -> Any:
        """The bucket's plan as it was last filled; a blank one the first time."""
        if bucket not in self._plans:
            self._plans[bucket] = self.backend.blank(bucket)
        return self._plans[bucket]

    @torch.inference_mode()
    def run(self, launch: Launch) -> Tensor:
        """What the backend answers. As between programs, everything recorded so far is launched: a device that records
        operations would otherwise compile all earlier writes of the cache with each answer.
        """
        rope = None
        if self.rotation is not None:
            table, interleaved = self.rotation
            rope = Rope(table.to(self.device), launch.positions, interleaved)
        out = self.backend.run(*launch.inputs, self.layer, self.planned(launch), rope)
        self.platform.synchronize(self.device)
        return out

    def check(self, launch: Launch, out: Tensor) -> dict[int, Tensor]:
        """Compare every real token's answer; they are returned by sequence."""
        host, dtype = out.cpu(), launch.inputs[0].dtype
        expect(host.dtype == dtype, f"wanted answers in {dtype}; found {host.dtype}")
        answers = {}
        for (index, new), start in zip(launch.rows, launch.layout.query_start.tolist(), strict=False):
            length = self.sequences[index].done + new
            answers[index] = host[start : start + new]
            what = f"sequence {index} ({new} new of {length} tokens) in a launch of {len(launch.rows)} rows"
            if self.bounded:
                most = float(self.sequences[index].v[:length].abs().max())
                wrong = int((~(answers[index].abs() <= 1.02 * most)).sum())
                expect(wrong == 0, f"{what}: {wrong} elements are outside of the values that they average, or NaN")
                continue
            near(answers[index], self.expected(index, new), self._tolerance(), f"{what} in {launch.bucket}")
        return answers

    def expected(self, index: int, new: int) -> Tensor:
        """The oracle's answer for the next `new` tokens of a sequence."""
        sequence = self.sequences[index]
        stop = sequence.done + new
        q, k, v = (x[:stop].double() for x in (sequence.q, sequence.k, sequence.v))
        if self.rotation is not None:
            table, interleaved = self.rotation
            q, k = (oracle.rotate(x, table, torch.arange(stop), interleaved) for x in (q, k))
        sinks, slopes = (None if x is None else x.double() for x in (self.sinks, self.slopes))
        return oracle.attention(q[sequence.done :], k, v, self.need, sinks, slopes)

    def _tolerance(self) -> float:
        allowed = tolerance(self.need.query_dtype, self.need.kv.dtype)
        return allowed if self.rotation is None else _ROTATED * allowed
