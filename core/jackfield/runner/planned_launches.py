"""The tokens that go into planned launches and the hidden rows that come out of them, at sizes of their buckets."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from jackfield.runner.captures import Captures
from jackfield.runner.step_buffers import Filled
from jackfield_platforms.bucket import Bucket


class _Launch(msgspec.Struct, frozen=True):
    """What a bucket's programs read beside its hidden states."""

    tokens: Tensor  # int64 [num_tokens]
    continued: Tensor  # int64 [num_tokens] the slot whose last id a token is; of the others -1
    sources: Tensor  # int64 [rows to sample at most] places of tokens
    targets: Tensor  # int64, as many: places among the taken rows


class PlannedLaunches:
    """Reads what slots sampled last and collects a step's rows in `rows` `[most + 1, hidden]`; the last is nobody's."""

    def __init__(self, captures: Captures, sampled_last: Tensor, rows: Tensor, *, most_of_a_row: int) -> None:
        self._captures, self._sampled_last, self.rows = captures, sampled_last, rows
        self._most, self._most_of_a_row = len(rows) - 1, most_of_a_row
        self._launches: dict[Bucket, _Launch] = {}
        self._num_taken = 0

    def capture(self, bucket: Bucket, hidden: Tensor) -> None:
        """Capture what surrounds a bucket whose forward leaves its result in `hidden`."""
        launch = self._launches[bucket] = self._launch(bucket)
        self._captures.capture("take", bucket, _take, hidden, launch.sources, launch.targets, self.rows)
        if bucket.phase != "prefill":  # there no row continues
            self._captures.capture("tokens", bucket, _tokens, launch.tokens, launch.continued, self._sampled_last)

    def tokens(self, bucket: Bucket, filled: Filled) -> Tensor:
        """As of `RowSampling`."""
        if not filled.sampled_last.numel():
            return filled.tokens
        launch = self._launch(bucket)
        continued = torch.full((bucket.num_tokens,), -1)
        continued[filled.sampled_last] = filled.sampled_last_slots
        launch.tokens.copy_(filled.tokens)
        launch.continued.copy_(continued)
        buffers = launch.tokens, launch.continued, self._sampled_last
        result: Tensor = self._captures.run("tokens", bucket, _tokens, *buffers)
        return result

    def take(self, bucket: Bucket, filled: Filled, hidden: Tensor) -> None:
        """As of `RowSampling`."""
        count = len(filled.sample_rows)
        if not count:
            return
        launch = self._launch(bucket)
        room = len(launch.sources)
        sources, targets = torch.zeros(room, dtype=torch.int64), torch.full((room,), self._most)
        sources[:count] = filled.sample_rows
        targets[:count] = torch.arange(self._num_taken, self._num_taken + count)
        self._num_taken += count
        launch.sources.copy_(sources)
        launch.targets.copy_(targets)
        self._captures.run("take", bucket, _take, hidden, launch.sources, launch.targets, self.rows)

    def taken(self) -> Tensor:
        """As of `RowSampling`."""
        self._num_taken = 0
        return self.rows

    def _launch(self, bucket: Bucket) -> _Launch:
        """The bucket's buffers, or some for this launch alone."""
        if bucket in self._launches:
            return self._launches[bucket]
        num_tokens, device = bucket.num_tokens, self.rows.device
        room = min(num_tokens, bucket.num_rows * self._most_of_a_row, self._most)
        tokens, continued, sources = (
            torch.zeros(size, dtype=torch.int64, device=device) for size in (num_tokens, num_tokens, room)
        )
        return _Launch(tokens, continued, sources, torch.full((room,), self._most, device=device))


def _tokens(tokens: Tensor, continued: Tensor, sampled_last: Tensor) -> Tensor:
    return torch.where(continued < 0, tokens, sampled_last.index_select(0, continued.clamp(min=0)))


def _take(hidden: Tensor, sources: Tensor, targets: Tensor, rows: Tensor) -> tuple[()]:
    rows.index_copy_(0, targets, hidden.index_select(0, sources))
    return ()
