"""The text side of one sequence: what came from the engine so far, and what of it was handed out."""

from __future__ import annotations

import msgspec

from jackfield.engine.messages import EngineOutput, TokenLogprobs
from jackfield.frontend.detokenizer import make_detokenizer
from jackfield.frontend.logprobs import logprob_table
from jackfield.frontend.requests import RequestBuilder
from jackfield.frontend.stop_strings import StopStrings
from jackfield.outputs import CompletionOutput
from jackfield.sampling_params import SamplingParams


class Delta(msgspec.Struct, frozen=True):
    """What was added to one sequence since the last time."""

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class Sequence:
    """Gathers one sequence. However late `take` is called, it gives all that came since: nothing queues up."""

    __slots__ = (
        "_detokenizer",
        "_is_taken",
        "_model",
        "_num_taken",
        "_num_taken_pieces",
        "_pieces",
        "_sampling",
        "_stops",
        "_tokenizer",
        "finish_reason",
        "index",
        "logprobs",
        "stop_reason",
        "token_ids",
    )

    def __init__(self, index: int, prompt: list[int], sampling: SamplingParams, builder: RequestBuilder) -> None:
        self.index = index
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprobs] | None = None if sampling.logprobs is None else []
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None
        self._sampling = sampling
        self._tokenizer = builder.tokenizer
        self._model = builder.model
        self._is_taken = False  # to its end
        self._detokenizer = (
            make_detokenizer(builder.tokenizer, prompt, skip_special_tokens=sampling.skip_special_tokens)
            if sampling.detokenize
            else None
        )
        stops = sampling.stop_strings
        self._stops = StopStrings(stops, include_stop=sampling.include_stop_str_in_output) if stops else None
        self._pieces: list[str] = []
        self._num_taken_pieces = 0
        self._num_taken = 0  # tokens

    def accept_token(self, token: int) -> bool:
        """Add one plain token, the common case. True: as `accept`."""
        self.token_ids.append(token)
        if self._detokenizer is None:
            return False
        text = self._detokenizer.feed((token,))
        if not text:
            return False
        if self._stops is not None:
            return self._pass(self._stops, text, len(self.token_ids) >= self._sampling.min_tokens)
        self._pieces.append(text)
        return False

    def accept(self, output: EngineOutput) -> bool:
        """Add what a step brought. True: a stop string was met, so that the engine must be told to stop."""
        num_used = self._add_text(output)
        ids = output.token_ids
        self.token_ids.extend(ids if num_used == len(ids) else ids[:num_used])
        if self.logprobs is not None and output.logprobs is not None:
            self.logprobs.extend(output.logprobs[:num_used])
        if self.finish_reason is not None:  # a stop string
            return output.finish_reason is None
        if output.finish_reason is not None:
            self._finish(output)
        return False

    def take(self) -> Delta | None:
        """What is new since the last call; None when nothing that a reader could see is."""
        pieces, start = self._pieces, self._num_taken_pieces
        num_new = len(pieces) - start
        if not (num_new or self._shows_without_text()):
            return None
        self._is_taken = self.finish_reason is not None
        taken, self._num_taken = self._num_taken, len(self.token_ids)
        self._num_taken_pieces = len(pieces)
        return Delta(
            pieces[start] if num_new == 1 else "".join(pieces[start:]),
            self.token_ids[taken:],
            None if self.logprobs is None else self.logprobs[taken:],
            self.finish_reason,
            self.stop_reason,
        )

    def completion(self) -> CompletionOutput:
        """All that came so far."""
        tables = total = None
        if self.logprobs is not None:
            pairs = zip(self.token_ids, self.logprobs, strict=True)
            tables = [logprob_table(self._tokenizer, token, entry) for token, entry in pairs]
            total = sum(entry.logprob for entry in self.logprobs)
        return CompletionOutput(
            index=self.index,
            text="".join(self._pieces),
            token_ids=list(self.token_ids),
            cumulative_logprob=total,
            logprobs=tables,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )

    def _shows_without_text(self) -> bool:
        if self.finish_reason is not None:
            return not self._is_taken
        return (self.logprobs is not None or self._detokenizer is None) and len(self.token_ids) > self._num_taken

    def _add_text(self, output: EngineOutput) -> int:
        """Detokenise; how many tokens of the output count, which are fewer when a stop string ends among them."""
        ids = output.token_ids
        if self._detokenizer is None:
            return len(ids)
        hides_last = output.stop_reason is not None and not self._sampling.include_stop_str_in_output
        visible = ids[:-1] if hides_last else ids  # the token that ended the sequence has no text
        if self._stops is None:
            if visible and (text := self._detokenizer.feed(visible)):
                self._pieces.append(text)
            return len(ids)
        return self._add_watched(visible, self._stops, len(ids))

    def _add_watched(self, visible: list[int], stops: StopStrings, num_ids: int) -> int:
        assert self._detokenizer is not None
        for used, token in enumerate(visible, start=1):
            may_stop = len(self.token_ids) + used >= self._sampling.min_tokens
            if self._pass(stops, self._detokenizer.feed((token,)), may_stop):
                return used
        return num_ids

    def _pass(self, stops: StopStrings, text: str, may_stop: bool) -> bool:
        passed = stops.feed(text, may_stop=may_stop)
        if passed.text:
            self._pieces.append(passed.text)
        if passed.stop is not None:
            self.finish_reason, self.stop_reason = "stop", passed.stop
        return passed.stop is not None

    def _finish(self, output: EngineOutput) -> None:
        rest = "" if self._detokenizer is None else self._detokenizer.flush()
        if self._stops is not None:
            if self._pass(self._stops, rest, len(self.token_ids) >= self._sampling.min_tokens):
                return
            rest = self._stops.flush()
        if rest:
            self._pieces.append(rest)
        self.finish_reason = output.finish_reason
        own_end = output.stop_reason in self._model.eos_token_ids and output.stop_reason not in (
            self._sampling.stop_token_ids or ()
        )
        self.stop_reason = None if own_end else output.stop_reason
