"""A user's value that cannot be served, and the field that holds it."""

from __future__ import annotations


class FieldError(ValueError):
    """A bad value in a request. `field` is its name as the user wrote it; `code` is a stable word for programs."""

    def __init__(self, field: str | None, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.code = code
