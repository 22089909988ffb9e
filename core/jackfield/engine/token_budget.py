"""How many tokens a step may hold, from how long steps take: a long prompt must not freeze streams that are running."""

from __future__ import annotations

_DECAY = 0.9  # a step's weight against the one after it: the estimates forget with a half-life of about 7 steps
_MOST_SURPRISE = 4.0  # a step counts as at most this many times the estimate: a stall is not a slow device


class TokenBudget:
    """Estimates seconds per prefill token and per decode step; limits prefill beside running streams accordingly.

    A step with decode rows may take `target_seconds`, or `slowdown` decode-only steps if that is longer: on a fast
    device streams see a hiccup of at most `target_seconds` a token, on a slow one prefill gets the `1 - 1 / slowdown`
    of each step that streams leave to it. Without decode rows nobody waits and the budget is whole. Same observations,
    same limits.
    """

    def __init__(self, max_tokens: int, min_chunk: int, *, target_seconds: float, slowdown: float) -> None:
        if target_seconds <= 0 or slowdown <= 1:
            raise ValueError(f"target_seconds must exceed 0 and slowdown 1; got {target_seconds:g} and {slowdown:g}")
        self._max_tokens, self._min_chunk = max_tokens, min_chunk
        self._target_seconds, self._slowdown = target_seconds, slowdown
        self._decode_seconds = 0.0
        self._prefill_seconds, self._prefill_tokens = 0.0, 0.0  # decayed sums; their ratio is what a token costs

    @property
    def token_seconds(self) -> float:
        """What one more prefill token adds to a step; 0 until a prefill was observed."""
        return self._prefill_seconds / self._prefill_tokens if self._prefill_tokens else 0.0

    def limit(self, num_decode: int) -> int:
        """Tokens for the next step, decode rows included; at least `min_chunk` of them are for prefill."""
        if num_decode == 0 or not self._prefill_tokens:
            return self._max_tokens
        allowed = max(self._target_seconds, self._slowdown * self._decode_seconds) - self._decode_seconds
        if self.token_seconds * self._max_tokens <= allowed:
            return self._max_tokens
        chunk = int(allowed / self.token_seconds)
        return min(self._max_tokens, num_decode + max(self._min_chunk, chunk - chunk % self._min_chunk))

    def observe(self, *, num_decode: int, num_prefill: int, seconds: float) -> None:
        """Learn from a step that took `seconds` with this many decode and prefill tokens."""
        if num_prefill == 0:
            if num_decode:
                self._observe_decode(seconds)
            return
        beyond = max(seconds - self._decode_seconds, 0.0)  # before its first prefill token a step costs a decode step
        if self._prefill_tokens:
            beyond = min(beyond, _MOST_SURPRISE * self.token_seconds * num_prefill)
        self._prefill_seconds = _DECAY * self._prefill_seconds + beyond
        self._prefill_tokens = _DECAY * self._prefill_tokens + num_prefill

    def _observe_decode(self, seconds: float) -> None:
        if not self._decode_seconds:
            self._decode_seconds = seconds
            return
        seconds = min(seconds, _MOST_SURPRISE * self._decode_seconds)
        self._decode_seconds += (1 - _DECAY) * (seconds - self._decode_seconds)
