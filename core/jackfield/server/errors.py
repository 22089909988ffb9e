"""Errors in the shape that OpenAI's clients read, and which status each of ours has."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jackfield.field_error import FieldError
from jackfield.frontend.engine_client import EngineDeadError
from jackfield.frontend.frontend import OverloadedError
from jackfield.frontend.submission import RequestFailedError

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer with an error status. `param` names the field at fault; `code` is a stable word for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """JSON in OpenAI's shape."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return msgspec.json.encode(
            {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}
        )

    def response(self) -> Response:
        """The answer."""
        return Response(self.body(), self.status, self.headers, media_type="application/json")


class ShuttingDownError(RuntimeError):
    """The server ends before a request was answered."""


def as_api_error(error: Exception) -> ApiError:
    """What a client is told about an exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, FieldError):
        return ApiError(400, str(error), param=error.field, code=error.code)
    if isinstance(error, OverloadedError):
        return ApiError(429, f"{error} Try again later.", code="overloaded", headers={"Retry-After": "1"})
    if isinstance(error, EngineDeadError):
        return ApiError(503, f"The engine is dead: {error}", code="engine_dead")
    if isinstance(error, ShuttingDownError):
        return ApiError(503, str(error), code="shutting_down", headers={"Retry-After": "5"})
    if isinstance(error, RequestFailedError):
        return ApiError(500, str(error), code="engine_error")
    if isinstance(error, ClientDisconnect):
        return ApiError(499, "The client left.")  # for the count of responses: nobody reads it
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), headers=error.headers)
    logger.error("A request failed", exc_info=error)
    return ApiError(500, f"The server failed on this request ({type(error).__name__}); its log says more.")


async def error_response(_: Request, error: Exception) -> Response:
    """Starlette's exception handler for everything."""
    return as_api_error(error).response()


def body_error(error: msgspec.DecodeError, fields: tuple[str, ...]) -> ApiError:
    """A body that is no JSON, or whose JSON does not fit; `fields` are those that would."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return ApiError(400, f"The body is not valid JSON: {text}", code="invalid_json")
    place = _PATH.search(text)
    path = place["path"] if place else ""
    message = _PATH.sub("", text)
    named = _UNKNOWN.search(text) or _MISSING.search(text)
    if named:
        path = f"{path}.{named['name']}" if path else named["name"]
    if _UNKNOWN.search(text):
        return ApiError(400, _unknown_field(path, fields), param=path, code="unknown_parameter")
    return ApiError(400, f"{path}: {message}" if path else message, param=path or None)


def _unknown_field(path: str, fields: Any) -> str:
    import difflib

    close = difflib.get_close_matches(path, fields, n=1)
    return f"Unknown field {path!r}." + (f" Did you mean {close[0]!r}?" if close else "")
