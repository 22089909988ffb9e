"""From logits to token ids, for many rows with parameters of their own."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.runner.candidates import from_candidates
from jackfield.runner.draw import draw
from jackfield.runner.logit_edits import LogitEdits
from jackfield.runner.penalties import Penalties
from jackfield.runner.slot_sampling import Array, RandomRows, SamplingRows
from jackfield_platforms.ops import Ops

LOWEST_TEMPERATURE = 1e-5  # below it logits would overflow; the likeliest token has all the mass long before


class Logprobs(NamedTuple):
    """Logprobs of some rows, on the device, with as many alternatives as any of them wants, or more."""

    own: Tensor  # [rows] float32
    rank: Tensor  # [rows] int64, 1 is the likeliest
    top: Tensor  # [rows, num_top] float32
    top_ids: Tensor  # [rows, num_top] int64


class Sampled(msgspec.Struct, frozen=True):
    """What a step sampled, on the device."""

    ids: Tensor  # [sampling rows] int64; rows past those that were asked for mean nothing
    logprobs: Logprobs | None
    of_every_row: bool = False  # whether `logprobs` are, or else of the rows that asked


class Sampler:
    """Edits, penalties, temperature, top-k, top-p, min-p, the draw; logprobs of the model's own distribution.

    `may_wait` says that reading a value on the host costs nothing (a synchronous device), which allows a shorter way to
    top-p.
    """

    def __init__(self, vocab: int, device: torch.device, *, may_wait: bool, ops: Ops) -> None:
        self._device, self._may_wait, self._ops = device, may_wait, ops
        self._penalties = Penalties(vocab, device, ops.penalize)
        self._edits: dict[int, LogitEdits] = {}

    def start(self, start: Start) -> None:
        """A sequence takes a slot: forget what was there."""
        self._penalties.start(start)
        self._edits.pop(start.slot, None)
        if LogitEdits.wanted(start.sampling, start.stop_token_ids):
            self._edits[start.slot] = LogitEdits(start.sampling, start.stop_token_ids, self._device)

    def sample(self, logits: Tensor, rows: SamplingRows, masks: Tensor | None = None) -> Sampled:
        """Token ids for `logits` `[rows, vocab]`; `masks` int32 `[rows, ceil(vocab / 32)]` allow ids bit by bit."""
        asked = self._put(rows.with_logprobs)
        own_logits = logits[asked].float() if asked.numel() else None  # before anything edits them
        if rows.edited.size or rows.penalised.size or masks is not None:
            logits = logits.float().clone()
            for r in rows.edited:
                self._edits[int(rows.slots[r])].apply(logits[int(r)], int(rows.num_generated[r]))
            self._penalties.apply(logits, rows)
        if masks is not None:
            logits.masked_fill_(~unpack(masks, logits.shape[-1]), -torch.inf)
        ids = self._ops.argmax(logits)
        if rows.random is not None:
            chosen = self._put(rows.random.rows)
            ids[chosen] = self._draw(logits[chosen].float(), rows.random)
        self._penalties.count(ids, rows)
        return Sampled(
            ids, None if own_logits is None else logprobs(own_logits, ids[asked], int(rows.num_logprobs.max()))
        )

    def _draw(self, logits: Tensor, random: RandomRows) -> Tensor:
        logits = logits / self._put(random.temperature).clamp(min=LOWEST_TEMPERATURE).unsqueeze(-1)
        if random.filtered:
            threshold = self._threshold(logits, self._put(random.top_k), self._put(random.top_p))
            logits = logits.masked_fill(logits < threshold, -torch.inf)
        if (random.min_p > 0).any():
            floor = logits.amax(-1, keepdim=True) + self._put(random.min_p).log().unsqueeze(-1)
            logits = logits.masked_fill(logits < floor, -torch.inf)
        return draw(logits, self._put(random.uniforms))

    def _threshold(self, logits: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
        if not self._may_wait:
            return self._ops.sampling_threshold(logits, top_k, top_p)
        threshold, enough = from_candidates(logits, top_k, top_p)
        if not bool(enough.all()):
            more = (~enough).nonzero().squeeze(-1)
            threshold[more] = self._ops.sampling_threshold(logits[more], top_k[more], top_p[more])
        return threshold

    def _put(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)


def logprobs(logits: Tensor, ids: Tensor, num_top: int) -> Logprobs:
    """Of each row of `logits` `[rows, vocab]` float32: its id's, and the `num_top` likeliest."""
    scores = logits.log_softmax(-1)
    own = scores.gather(-1, ids.unsqueeze(-1))
    top, top_ids = scores.topk(num_top, dim=-1)
    return Logprobs(own.squeeze(-1), (scores > own).sum(-1) + 1, top, top_ids)


def unpack(masks: Tensor, vocab: int) -> Tensor:
    """Bits of `masks` `[rows, ceil(vocab / 32)]` int32 as booleans `[rows, vocab]`."""
    bits = torch.arange(32, device=masks.device, dtype=torch.int32)
    return ((masks.unsqueeze(-1) >> bits) & 1).flatten(-2)[:, :vocab].bool()
