"""Completions: chunks of a stream, and the whole."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from jackfield.engine.messages import TokenLogprobs
from jackfield.frontend.sequence import Delta
from jackfield.frontend.submission import Submission
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.server.envelope import Envelope
from jackfield.server.protocol_completions import Completion, CompletionChoice, CompletionLogprobs
from jackfield.server.usage import count_usage

_encode = msgspec.json.Encoder().encode


class CompletionEvents:
    """Chunks of one stream. `echoes`: what comes before each sequence's text, by index; empty for nothing."""

    def __init__(
        self,
        envelope: Envelope,
        submission: Submission,
        tokenizer: Tokenizer,
        *,
        includes_usage: bool,
        echoes: Sequence[str] = (),
    ) -> None:
        self._submission = submission
        self._tokenizer = tokenizer
        self._includes_usage = includes_usage
        self._head = envelope.chunk_head("text_completion")
        self._tail = b'],"usage":null}\n\n' if includes_usage else b"]}\n\n"
        self._plain_end = b',"logprobs":null,"finish_reason":null,"stop_reason":null}' + self._tail
        self._begin: dict[int, bytes] = {}  # by index, up to the text
        self._offsets: dict[int, int] = {}  # by index: characters of the tokens sent so far
        self._echoes = echoes

    def delta(self, index: int, delta: Delta) -> bytes:
        begin, text = self._begin.get(index), delta.text
        if begin is None:
            begin = self._begin[index] = b'%s{"index":%d,"text":' % (self._head, index)
            text = self._echoes[index] + text if self._echoes else text
        if delta.finish_reason is None and delta.logprobs is None:
            return begin + _encode(text) + self._plain_end
        offset = self._offsets.get(index, 0)
        logprobs = completion_logprobs(self._tokenizer, delta.token_ids, delta.logprobs, offset)
        if logprobs is not None:
            self._offsets[index] = offset + sum(map(len, logprobs.tokens))
        rest = {"logprobs": logprobs, "finish_reason": delta.finish_reason, "stop_reason": delta.stop_reason}
        return begin + _encode(text) + b"," + _encode(rest)[1:] + self._tail

    def end(self) -> bytes:
        if not self._includes_usage:
            return b""
        return self._head + b'],"usage":' + _encode(count_usage(self._submission.states)) + b"}\n\n"


def completion_answer(
    envelope: Envelope, submission: Submission, tokenizer: Tokenizer, echoes: Sequence[str] = ()
) -> Completion:
    """The whole answer of a finished submission."""
    choices = []
    for sequence in (sequence for state in submission.states for sequence in state.sequences):
        text = sequence.completion().text
        choices.append(
            CompletionChoice(
                index=sequence.index,
                text=echoes[sequence.index] + text if echoes else text,
                logprobs=completion_logprobs(tokenizer, sequence.token_ids, sequence.logprobs, 0),
                finish_reason=sequence.finish_reason,
                stop_reason=sequence.stop_reason,
            )
        )
    return Completion(
        id=envelope.id,
        created=envelope.created,
        model=envelope.model,
        choices=choices,
        usage=count_usage(submission.states),
    )


def completion_logprobs(
    tokenizer: Tokenizer, ids: list[int], entries: list[TokenLogprobs] | None, offset: int
) -> CompletionLogprobs | None:
    """Log probabilities as completion clients read them; `offset` is where the first token begins in the text."""
    if entries is None:
        return None
    tokens = [tokenizer.token_text(token) for token in ids]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    top = None
    if any(entry.top_ids for entry in entries):
        top = [_alternatives(tokenizer, text, entry) for text, entry in zip(tokens, entries, strict=True)]
    return CompletionLogprobs(tokens, [entry.logprob for entry in entries], top, offsets)


def _alternatives(tokenizer: Tokenizer, chosen: str, entry: TokenLogprobs) -> dict[str, float]:
    table: dict[str, float] = {}
    for other, logprob in zip(entry.top_ids, entry.top_logprobs, strict=True):
        table.setdefault(tokenizer.token_text(other), logprob)  # of tokens that look alike, the likeliest
    table.setdefault(chosen, entry.logprob)
    return table
