"""A step as bytes, for the other ranks of a model. Arrays travel as bytes; the struct's types say what they are."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import numpy as np

from jackfield.engine.step import Step


class StepCodec:
    """Both directions; arrays that were decoded are read only, as those of every step."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_as_bytes)
        self._decoder = msgspec.msgpack.Decoder(Step, dec_hook=_as_array)

    def encode(self, step: Step) -> bytes:
        """The step in msgpack."""
        return self._encoder.encode(step)

    def decode(self, message: bytes) -> Step:
        """The step again."""
        return self._decoder.decode(message)


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    raise NotImplementedError(f"a step holds no {type(value).__name__}")


def _as_array(kind: Any, value: bytes) -> Any:
    """`kind` is `np.ndarray[shape, np.dtype[number]]`."""
    _, dtype = get_args(kind)
    (number,) = get_args(dtype)
    return np.frombuffer(value, number)
