"""What a tokenizer's folder says, read without `transformers`, whose import takes a second of every start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")  # all that they do is in tokenizer.json
_CONFIG, _SPECIAL, _ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"


def is_plain(folder: Path) -> bool:
    """Whether a plain tokenizer.json is all there is to it, but for tokens that other files may name."""
    return _read(folder / _CONFIG).get("tokenizer_class") in _PLAIN_CLASSES and (folder / "tokenizer.json").is_file()


def plain_backend(folder: Path) -> Any | None:
    """The tokenizer of tokenizer.json; None where `transformers` would make another of it: by a class of its own, or by
    a token that only another file names."""
    if not is_plain(folder):
        return None
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = {entry.content: entry.special for entry in backend.get_added_tokens_decoder().values()}
    is_whole = all(special.get(token) is wanted for token, wanted in _named(folder))
    return backend if is_whole and not (folder / _ADDED).is_file() else None


def _named(folder: Path) -> Iterator[tuple[str, bool]]:
    """(token, whether it is special) of every token that the other files name."""
    config = _read(folder / _CONFIG)
    for entry in config.get("added_tokens_decoder", {}).values():
        yield entry["content"], bool(entry.get("special"))
    for named in (config, _read(folder / _SPECIAL)):
        for key, value in named.items():
            if key.endswith("_token") and value is not None and not isinstance(value, bool):
                yield _content(value), True
            elif key.endswith("_special_tokens") and value:
                yield from ((_content(each), True) for each in (value.values() if isinstance(value, dict) else value))


def _content(token: Any) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    return content


def has_chat_template(folder: Path) -> bool:
    """Whether the folder holds a chat template, where `transformers` looks for one."""
    return bool(_read(folder / _CONFIG).get("chat_template")) or (folder / "chat_template.jinja").is_file()
