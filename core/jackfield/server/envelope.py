"""What all chunks and answers of one HTTP request have in common."""

from __future__ import annotations

import time
import uuid

import msgspec


class Envelope(msgspec.Struct, frozen=True):
    """Id, time and model of an answer."""

    id: str
    created: int  # seconds since 1970
    model: str

    @classmethod
    def new(cls, prefix: str, model: str) -> Envelope:
        """A fresh id, now."""
        return cls(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model)

    def chunk_head(self, kind: str) -> bytes:
        """The beginning of every chunk of a stream, up to its choices."""
        fields = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return b"data: " + msgspec.json.encode(fields)[:-1] + b',"choices":['
