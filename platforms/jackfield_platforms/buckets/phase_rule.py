"""From ladders to the buckets of one phase."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from jackfield_platforms.bucket import Bucket, Limits, Phase
from jackfield_platforms.buckets.ladder import AnyLadder, Listed


class PhaseRule(msgspec.Struct, frozen=True, kw_only=True):
    """The buckets of one phase: every combination of the ladders' sizes that a step within the limits may need.

    Give `tokens` for ragged rows or `query` for rows padded to one length, never both; a decode phase needs neither,
    since its rows have one token, or that and `Limits.num_drafts` more. Without `blocks` the length of what rows look
    back at is not a dimension.
    """

    phase: Phase
    rows: AnyLadder | None = None  # None: as many as tokens
    tokens: AnyLadder | None = None
    query: AnyLadder | None = None
    blocks: AnyLadder | None = None  # a row

    def __post_init__(self) -> None:
        if self.tokens is not None and self.query is not None:
            raise ValueError(f"{self.phase}: tokens are for ragged rows, query for padded ones; give one of them")
        if self.phase == "decode" and (self.tokens or self.query):
            raise ValueError(
                "decode: rows have a token and its drafts, so that neither tokens nor query is a dimension"
            )
        if self.phase != "decode" and not (self.tokens or self.query):
            raise ValueError(f"{self.phase}: tokens (ragged rows) or query (padded rows) must be given")
        if self.rows is None and not self.tokens:
            raise ValueError(f"{self.phase}: rows must be given")

    def buckets(self, limits: Limits) -> Iterator[Bucket]:
        """All of them. A combination is left out when a smaller one holds every step that it could hold."""
        for rows, query, tokens in self._queries(limits):
            for blocks in (0,) if self.blocks is None else self.blocks.sizes(limits.max_blocks):
                yield Bucket(self.phase, num_rows=rows, num_tokens=tokens, query_len=query, max_blocks=blocks)

    def _queries(self, limits: Limits) -> Iterator[tuple[int, int | None, int]]:
        """(rows, query length, tokens), the query length None where rows are ragged."""
        if self.phase == "decode":
            assert self.rows is not None
            for length in sorted({1, 1 + limits.num_drafts}):
                yield from ((rows, length, rows * length) for rows in self.rows.sizes(limits.max_rows))
        elif self.query is not None:
            yield from self._padded(limits, self.query)
        else:
            assert self.tokens is not None
            yield from self._ragged(limits, self.tokens)

    def _padded(self, limits: Limits, query: AnyLadder) -> Iterator[tuple[int, int | None, int]]:
        assert self.rows is not None
        longest = min(limits.max_tokens, limits.max_model_len)
        for count, rows in enumerate(self.rows.sizes(limits.max_rows)):
            for length in query.sizes(longest):
                # rows of the smallest number take any length; more of them only what a step's tokens can fill
                if count == 0 or rows * length <= max(limits.max_tokens, rows):
                    yield rows, length, rows * length

    def _ragged(self, limits: Limits, tokens: AnyLadder) -> Iterator[tuple[int, int | None, int]]:
        for size in tokens.sizes(limits.max_tokens):
            most = min(size, limits.max_rows)
            for rows in (Listed((most,)) if self.rows is None else self.rows).sizes(most):
                if rows <= size:
                    yield rows, None, size
