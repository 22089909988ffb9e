"""Log probabilities with the text of their tokens."""

from __future__ import annotations

from jackfield.engine.messages import TokenLogprobs
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.outputs import Logprob


def logprob_table(tokenizer: Tokenizer, token: int, entry: TokenLogprobs) -> dict[int, Logprob]:
    """By token id: the sampled token first, then the likeliest, in falling order."""
    table = {token: Logprob(entry.logprob, entry.rank, tokenizer.token_text(token))}
    for rank, (other, logprob) in enumerate(zip(entry.top_ids, entry.top_logprobs, strict=True), start=1):
        if other != token:
            table[other] = Logprob(logprob, rank, tokenizer.token_text(other))
    return table
