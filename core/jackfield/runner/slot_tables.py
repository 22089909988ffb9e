"""What sampling keeps on the device of each slot's request, in tables whose rows are written whole when it starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.runner.logit_edits import LogitEdits


class SlotTables(NamedTuple):
    """Rows of slots that asked for nothing hold anything. The last row is nobody's, for what pads a step."""

    edits: Tensor  # float32 [slots + 1, vocab] added to logits: bias, -inf for what is not allowed
    stops: Tensor  # bool [slots + 1, vocab] not allowed before `min_tokens` are there
    seen: Tensor  # int32 [slots + 1, vocab] as the op `penalize` wants it

    @classmethod
    def empty(cls, num_slots: int, vocab: int, device: torch.device) -> SlotTables:
        """Tables of that many slots, and nobody's row."""
        return cls(*(torch.zeros(num_slots + 1, vocab, dtype=dtype, device=device) for dtype in _DTYPES))

    @staticmethod
    def num_bytes(num_slots: int, vocab: int) -> int:
        """What they take."""
        return (num_slots + 1) * vocab * sum(dtype.itemsize for dtype in _DTYPES)

    def write(self, slot: Tensor, rows: SlotTables) -> tuple[()]:
        """A program: `rows` of one row each become the row of `slot` `[1]`."""
        for table, row in zip(self, rows, strict=True):
            table.index_copy_(0, slot, row)
        return ()


_DTYPES = (torch.float32, torch.bool, torch.int32)


def wants_tables(start: Start) -> bool:
    """Whether a request needs its rows."""
    return LogitEdits.wanted(start.sampling, start.stop_token_ids) or start.sampling.has_penalties


def rows_of(start: Start, vocab: int) -> SlotTables:
    """The rows `[1, vocab]` of a request, on the host."""
    sampling = start.sampling
    edits, stops = torch.zeros(1, vocab), torch.zeros(1, vocab, dtype=torch.bool)
    if sampling.allowed_token_ids is not None:
        edits.fill_(-torch.inf)
        edits[0, sampling.allowed_token_ids] = 0
    for token, bias in (sampling.logit_bias or {}).items():
        edits[0, token] += bias
    stops[0, sorted(start.stop_token_ids)] = True
    ids = torch.from_numpy(np.frombuffer(start.tokens, np.int32).astype(np.int64))
    prompt, generated = (
        torch.bincount(part, minlength=vocab) for part in (ids[: start.prompt_len], ids[start.prompt_len :])
    )
    return SlotTables(edits, stops, (2 * generated + (prompt > 0)).int().unsqueeze(0))
