"""Changes to logits that a request asked for by token id: bias, allowed ids, no end before `min_tokens`."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield.sampling_params import SamplingParams


class LogitEdits:
    """The edits of one slot, as device tensors made once, when the sequence starts."""

    def __init__(self, sampling: SamplingParams, stop_token_ids: frozenset[int], device: torch.device) -> None:
        bias = sampling.logit_bias or {}
        self._bias_ids = torch.tensor(list(bias), dtype=torch.int64, device=device)
        self._bias = torch.tensor(list(bias.values()), dtype=torch.float32, device=device)
        self._allowed = _ids(sampling.allowed_token_ids, device)
        self._stops = torch.tensor(sorted(stop_token_ids), dtype=torch.int64, device=device)
        self._min_tokens = sampling.min_tokens

    @staticmethod
    def wanted(sampling: SamplingParams, stop_token_ids: frozenset[int]) -> bool:
        """Whether these parameters edit logits at all."""
        ends_late = sampling.min_tokens > 0 and bool(stop_token_ids)
        return bool(sampling.logit_bias) or sampling.allowed_token_ids is not None or ends_late

    def apply(self, line: Tensor, num_generated: int) -> None:
        """Edit the float32 logits `[vocab]` of the slot's next token in place; `num_generated` tokens came before
        it.
        """
        if self._allowed is not None:
            kept = line[self._allowed]
            line.fill_(-torch.inf)
            line[self._allowed] = kept
        line.index_add_(0, self._bias_ids, self._bias)
        if num_generated < self._min_tokens:
            line.index_fill_(0, self._stops, -torch.inf)


def _ids(ids: list[int] | None, device: torch.device) -> Tensor | None:
    return None if ids is None else torch.tensor(ids, dtype=torch.int64, device=device)
