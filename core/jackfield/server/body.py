"""Request bodies: bounded in size, decoded strictly."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec
from starlette.requests import Request

from jackfield.server.errors import ApiError, body_error

T = TypeVar("T", bound=msgspec.Struct)


class BodyReader(Generic[T]):
    """Reads bodies of one type."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._fields = kind.__struct_fields__

    async def read(self, request: Request, max_bytes: int) -> T:
        """The decoded body. Raises ApiError 400 naming the field, 413 for one that is too long."""
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise ApiError(413, f"The body is longer than {max_bytes} bytes.", code="body_too_long")
            parts.append(part)
        try:
            return self._decoder.decode(b"".join(parts))
        except msgspec.DecodeError as error:
            raise body_error(error, self._fields) from error
        except UnicodeDecodeError as error:
            raise ApiError(400, f"The body is not UTF-8: {error}", code="invalid_json") from error
