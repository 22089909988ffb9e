"""Prompt lookup: what followed the last time that the sequence said the same (Saxena, 2023). Costs no model."""

from __future__ import annotations

import numpy as np

from jackfield.engine.step import Int32s
from jackfield.speculation.drafter import DraftNeeds, Drafts


class NgramDrafter:
    """Looks for the longest of the last `max_ngram` to `min_ngram` tokens earlier in the sequence, newest first."""

    def __init__(self, *, num_drafts: int, min_ngram: int, max_ngram: int) -> None:
        self._num_drafts, self._min, self._max = num_drafts, min_ngram, max_ngram

    def propose(self, needs: DraftNeeds) -> Drafts:
        """As many of the tokens behind the match as there are and are wanted."""
        counts = np.zeros(len(needs.slots), np.int32)
        ids = np.zeros((len(counts), self._num_drafts), np.int32)
        for row in np.flatnonzero(needs.max_drafts).tolist():
            tokens = needs.tokens[needs.slots[row], : needs.num_known[row]]
            found = self._following(tokens, min(int(needs.max_drafts[row]), self._num_drafts))
            counts[row], ids[row, : len(found)] = len(found), found
        return Drafts(counts, ids)

    def _following(self, tokens: Int32s, count: int) -> Int32s:
        """Up to `count` tokens that followed the longest ending that was there before: the newest place where all of
        them are known, otherwise the oldest.
        """
        length = len(tokens)
        ends = np.flatnonzero(tokens[:-1] == tokens[-1]) + 1  # earlier places that end like the sequence, ever longer
        longest = ends[:0]
        for size in range(1, min(self._max, length - 1) + 1):
            if size > 1:
                ends = ends[ends >= size]
                ends = ends[tokens[ends - size] == tokens[length - size]]
            if not len(ends):
                break
            if size >= self._min:
                longest = ends
        if not len(longest):
            return tokens[:0]
        whole = longest[longest <= length - count]
        end = int(whole[-1] if len(whole) else longest[0])
        return tokens[end : end + count]
