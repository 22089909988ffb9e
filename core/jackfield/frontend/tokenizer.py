"""Text to token ids and back, by the tokenizer that came with the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jackfield.field_error import FieldError
from jackfield.frontend.byte_table import ByteTable
from jackfield.frontend.messages import Message
from jackfield.frontend.tokenizer_folder import has_chat_template, is_plain, plain_backend


class TokenizerError(RuntimeError):
    """A folder holds no tokenizer that we can use."""


class Tokenizer:
    """One Hugging Face tokenizer. Encoding is safe from several threads: nothing here is changed by it."""

    def __init__(self, hf: Any) -> None:
        if not getattr(hf, "is_fast", False):
            raise TokenizerError(
                f"Wanted a tokenizer with a tokenizer.json; found {type(hf).__name__}, which runs in Python only. "
                "Convert it with transformers' convert_slow_tokenizer and save the result beside the model."
            )
        self._attach(hf.backend_tokenizer)
        self.hf = hf

    def _attach(self, backend: Any, folder: Path | None = None) -> None:
        self._backend, self._folder = backend, folder
        backend.no_truncation(), backend.no_padding()  # a prompt is refused where it is too long, and never cut
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(token for token, entry in added.items() if entry.special)
        self.is_byte_level = _decodes_bytes(backend.decoder)
        self._bytes = ByteTable(backend.id_to_token, frozenset())
        self._bytes_without_special = ByteTable(backend.id_to_token, self.special_ids)
        self._token_texts: dict[int, str] = {}

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Load from a folder; nothing is fetched and no code of the folder is run. Raises TokenizerError.

        Where all that the tokenizer does is in tokenizer.json, `hf` is loaded when it is asked for.
        """
        where = Path(folder)
        if not where.is_dir():
            raise TokenizerError(f"Wanted a tokenizer's folder; {str(folder)!r} is none. Give one with --tokenizer.")
        try:
            backend = plain_backend(where)
            if backend is None:
                return cls(_load(where))
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise _refusal(where, error) from error
        tokenizer = cls.__new__(cls)
        tokenizer._attach(backend, where)
        return tokenizer

    @cached_property
    def hf(self) -> Any:
        """The Hugging Face tokenizer: it renders conversations, and is what `get_tokenizer` gives."""
        assert self._folder is not None, "given"
        try:
            return _load(self._folder)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise _refusal(self._folder, error) from error

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be rendered without a template of the caller's."""
        return bool(self.hf.chat_template) if self._folder is None else has_chat_template(self._folder)

    @property
    def vocab_size(self) -> int:
        """Tokens, added ones among them."""
        size: int = self._backend.get_vocab_size(with_added_tokens=True)
        return size

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`, with what the tokenizer puts around a text (such as a first token) unless told not."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of all of `ids`."""
        text: str = self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def byte_table(self, *, skip_special_tokens: bool) -> ByteTable:
        """Bytes of each token; right for byte-level vocabularies only (`is_byte_level`)."""
        return self._bytes_without_special if skip_special_tokens else self._bytes

    def token_text(self, token: int) -> str:
        """Text of one token alone, special ones included; U+FFFD where it holds part of a character only."""
        text = self._token_texts.get(token)
        if text is None:
            text = self._token_texts[token] = self.decode([token], skip_special_tokens=False)
        return text

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes of one token alone, which may be part of a character."""
        return self._bytes[token] if self.is_byte_level else self.token_text(token).encode()

    def render_chat(self, messages: Sequence[Message], **options: Any) -> str:
        """The prompt that the chat template makes of `messages`. Raises FieldError when it cannot."""
        import jinja2

        if options.get("chat_template") is None and not self.has_chat_template:
            raise FieldError(
                "messages",
                "This model's tokenizer has no chat template. Use /v1/completions or LLM.generate with a plain prompt, "
                "or put a chat_template.jinja beside the tokenizer.",
                code="no_chat_template",
            )
        try:
            prompt: str = self.hf.apply_chat_template(list(messages), tokenize=False, **options)
        except (jinja2.TemplateError, TypeError, ValueError) as error:  # whatever a template does with odd messages
            raise FieldError("messages", f"The chat template refused these messages: {error}") from error
        return prompt


def warm_up() -> None:
    """Import what conversations need, which takes a second, beside something else that takes time."""
    from transformers import PreTrainedTokenizerFast  # noqa: F401


def _load(folder: Path) -> Any:
    """By the class that AutoTokenizer, which imports every model's code, would take."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if is_plain(folder) else AutoTokenizer
    return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def _refusal(folder: Path, error: Exception) -> TokenizerError:
    names = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
    return TokenizerError(
        f"Wanted a tokenizer in {str(folder)!r}; found {names}: {error}. "
        "Put tokenizer.json and tokenizer_config.json there, or give their folder with --tokenizer."
    )


def _decodes_bytes(decoder: Any) -> bool:
    """Whether decoding is nothing but joining the bytes of tokens."""
    if decoder is None:
        return False
    state = json.loads(decoder.__getstate__())
    stages = state["decoders"] if state["type"] == "Sequence" else [state]
    return all(stage["type"] == "ByteLevel" for stage in stages) and len(stages) == 1
