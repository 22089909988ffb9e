"""Chat messages, brought to the plain form that chat templates read: a role and a string."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jackfield.field_error import FieldError

Message = dict[str, Any]  # role, content

_ROLES = ("system", "developer", "user", "assistant")


def plain_messages(messages: Sequence[Any]) -> list[Message]:
    """One conversation in plain form. Raises FieldError with the path of what cannot be served."""
    if not messages:
        raise FieldError("messages", "messages is empty: give at least one message")
    return [_plain(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _plain(path: str, message: Any) -> Message:
    if not isinstance(message, Mapping):
        raise FieldError(path, f"{path} must be an object with role and content; got {type(message).__name__}")
    role = message.get("role")
    if role not in _ROLES:
        raise FieldError(f"{path}.role", f"{path}.role must be one of {', '.join(_ROLES)}; got {role!r}")
    plain = {"role": "system" if role == "developer" else role, "content": _text(path, message.get("content"))}
    if message.get("name"):
        plain["name"] = message["name"]
    return plain


def _text(path: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not content:
        raise FieldError(f"{path}.content", f"{path}.content must be a string or a list of text parts; got {content!r}")
    return "\n".join(_part(f"{path}.content[{index}]", part) for index, part in enumerate(content))


def _part(path: str, part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind != "text":
        raise FieldError(f"{path}.type", f"{path} is of type {kind!r}; this model reads parts of type 'text' only")
    if not isinstance(part.get("text"), str):
        raise FieldError(f"{path}.text", f"{path}.text must be a string; got {part.get('text')!r}")
    text: str = part["text"]
    return text
