"""Tokens to text as they come. A character is given out when its last byte is there, never in part."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from jackfield.frontend.byte_table import ByteTable
from jackfield.frontend.tokenizer import Tokenizer

_PRIMING = 6  # last tokens of the prompt that the first new token may depend on: a character's rest, a space
_MAX_HELD = 8  # tokens; a character has four bytes at most, so that more without an end are not a character
_REPLACEMENT = "\ufffd"


class Detokenizer(Protocol):
    """Text of one sequence. What `feed` and `flush` gave, joined, is the text that the tokens add to the prompt's."""

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is certain after `ids`, beyond what was given before."""

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""


def make_detokenizer(tokenizer: Tokenizer, prompt: Sequence[int], *, skip_special_tokens: bool) -> Detokenizer:
    """The cheapest one that is right for this tokenizer."""
    if tokenizer.is_byte_level:
        return ByteDetokenizer(tokenizer.byte_table(skip_special_tokens=skip_special_tokens), prompt)
    return WindowDetokenizer(tokenizer, prompt, skip_special_tokens=skip_special_tokens)


class ByteDetokenizer:
    """For byte-level vocabularies: tokens are bytes, whatever stands beside them."""

    def __init__(self, table: ByteTable, prompt: Sequence[int]) -> None:
        self._table = table
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.feed(prompt[-_PRIMING:])

    def feed(self, ids: Sequence[int]) -> str:
        table = self._table
        if len(ids) == 1:
            return self._decode(table[ids[0]])
        return self._decode(b"".join([table[token] for token in ids]))

    def flush(self) -> str:
        return self._decode(b"", True)


class WindowDetokenizer:
    """For any vocabulary: decodes a short window twice, without and with the new tokens, and gives the difference.

    The window begins early enough for tokens whose text depends on the one before. Unlike the byte form it cannot tell
    bytes that are no character from the beginning of one, so it waits `_MAX_HELD` tokens before it gives U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window = list(prompt[-_PRIMING:])
        self._num_given = len(self._window)  # tokens of the window whose text was given
        self._given = self._text(self._window)

    def feed(self, ids: Sequence[int]) -> str:
        pieces = [self._add(token) for token in ids]
        return pieces[0] if len(pieces) == 1 else "".join(pieces)

    def flush(self) -> str:
        return self._text(self._window)[len(self._given) :]

    def _add(self, token: int) -> str:
        self._window.append(token)
        text = self._text(self._window)
        num_held = len(self._window) - self._num_given
        if len(text) <= len(self._given) or (text.endswith(_REPLACEMENT) and num_held <= _MAX_HELD):
            return ""
        new = text[len(self._given) :]
        del self._window[: self._num_given]
        self._num_given = len(self._window)
        self._given = self._text(self._window)
        return new

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip_special_tokens)
