"""Chat answers: chunks of a stream, and the whole."""

from __future__ import annotations

import msgspec

from jackfield.engine.messages import TokenLogprobs
from jackfield.frontend.sequence import Delta
from jackfield.frontend.submission import Submission
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.server.envelope import Envelope
from jackfield.server.protocol_chat import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    TokenLogprob,
    TopLogprob,
)
from jackfield.server.usage import count_usage

_encode = msgspec.json.Encoder().encode


class ChatEvents:
    """Chunks of one stream. What never changes is encoded once, since this runs for every token of every stream."""

    def __init__(
        self, envelope: Envelope, submission: Submission, tokenizer: Tokenizer, *, includes_usage: bool
    ) -> None:
        self._submission = submission
        self._tokenizer = tokenizer
        self._includes_usage = includes_usage
        self._head = envelope.chunk_head("chat.completion.chunk")
        self._tail = b'],"usage":null}\n\n' if includes_usage else b"]}\n\n"
        self._plain_end = b'},"logprobs":null,"finish_reason":null}' + self._tail
        self._begin: dict[int, bytes] = {}  # by index, up to the content's text

    def delta(self, index: int, delta: Delta) -> bytes:
        begin = self._begin.get(index)
        opening = b""
        if begin is None:
            choice = b'%s{"index":%d,"delta":{' % (self._head, index)
            opening = choice + b'"role":"assistant","content":""' + self._plain_end
            begin = self._begin[index] = choice + b'"content":'
        if delta.finish_reason is None and delta.logprobs is None:
            return opening + begin + _encode(delta.text) + self._plain_end
        return opening + self._content(begin, delta) + self._finish(index, delta)

    def end(self) -> bytes:
        if not self._includes_usage:
            return b""
        return self._head + b'],"usage":' + _encode(count_usage(self._submission.states)) + b"}\n\n"

    def _content(self, begin: bytes, delta: Delta) -> bytes:
        if not delta.text and not delta.token_ids:
            return b""
        logprobs = _encode(chat_logprobs(self._tokenizer, delta.token_ids, delta.logprobs))
        return begin + _encode(delta.text) + b'},"logprobs":' + logprobs + b',"finish_reason":null}' + self._tail

    def _finish(self, index: int, delta: Delta) -> bytes:
        if delta.finish_reason is None:
            return b""
        reasons = _encode({"finish_reason": delta.finish_reason, "stop_reason": delta.stop_reason})
        return b'%s{"index":%d,"delta":{},"logprobs":null,%s%s' % (self._head, index, reasons[1:], self._tail)


def chat_answer(envelope: Envelope, submission: Submission, tokenizer: Tokenizer) -> ChatCompletion:
    """The whole answer of a finished submission."""
    choices = []
    for sequence in (sequence for state in submission.states for sequence in state.sequences):
        completion = sequence.completion()
        choices.append(
            ChatChoice(
                index=sequence.index,
                message=AnswerMessage(completion.text),
                logprobs=chat_logprobs(tokenizer, sequence.token_ids, sequence.logprobs),
                finish_reason=sequence.finish_reason,
                stop_reason=sequence.stop_reason,
            )
        )
    return ChatCompletion(
        id=envelope.id,
        created=envelope.created,
        model=envelope.model,
        choices=choices,
        usage=count_usage(submission.states),
    )


def chat_logprobs(tokenizer: Tokenizer, ids: list[int], entries: list[TokenLogprobs] | None) -> ChatLogprobs | None:
    """Log probabilities as chat clients read them."""
    if entries is None:
        return None
    return ChatLogprobs([_token(tokenizer, token, entry) for token, entry in zip(ids, entries, strict=True)])


def _token(tokenizer: Tokenizer, token: int, entry: TokenLogprobs) -> TokenLogprob:
    top = [
        TopLogprob(tokenizer.token_text(other), logprob, list(tokenizer.token_bytes(other)))
        for other, logprob in zip(entry.top_ids, entry.top_logprobs, strict=True)
    ]
    return TokenLogprob(tokenizer.token_text(token), entry.logprob, list(tokenizer.token_bytes(token)), top)
