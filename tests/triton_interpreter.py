"""Triton's interpreter in the test process: chosen before Triton's first import, and repaired where it is wrong.

Triton decides when a kernel is decorated whether it will be compiled or interpreted, and its own functions are
decorated when it is imported. What is repaired was seen in Triton 3.9.0: bfloat16 is held as its bits, and `tl.dot`
multiplies those as integers; floats are cut off, not rounded, where they become bfloat16; 8-bit floats that round up
into the next power of two come out wrong. And in 3.6.0, which refuses `range(n)` beside numpy 2.4.
"""

from __future__ import annotations

import os
import sys
from typing import Any

SWITCH = "TRITON_INTERPRET"


def use_interpreter() -> None:
    """Interpret kernels from now on; RuntimeError where Triton was imported to compile them. Twice does no harm."""
    if os.environ.get(SWITCH) != "1" and "triton" in sys.modules:
        raise RuntimeError(
            f"triton was imported before {SWITCH} was set, so that its functions will be compiled. Run this folder's "
            "tests by themselves, or find out who imports triton while tests are collected"
        )
    os.environ[SWITCH] = "1"
    from triton.runtime import interpreter

    if not hasattr(interpreter, "jackfield_repaired"):
        interpreter.jackfield_repaired = True
        _repair(interpreter)


def _repair(interpreter: Any) -> None:
    import numpy as np
    import torch
    import triton.language as tl

    floats = {
        tl.float32: torch.float32,
        tl.float16: torch.float16,
        tl.bfloat16: torch.bfloat16,
        tl.float8e4nv: torch.float8_e4m3fn,
        tl.float8e4b8: torch.float8_e4m3fnuz,
    }
    convert, dot = interpreter._convert_float, interpreter.InterpreterBuilder.create_dot
    patch_tensor = interpreter._patch_lang_tensor

    def converted(given: Any, from_type: Any, to_type: Any, rounding: Any) -> Any:
        """As torch converts: to the nearest, of two the even one."""
        if from_type not in floats or to_type not in floats:
            return convert(given, from_type, to_type, rounding)
        held = torch.from_numpy(np.frombuffer(given.tobytes(), np.uint8).copy()).view(floats[from_type])
        bits = held.to(floats[to_type]).view(torch.uint8).numpy().view(f"u{to_type.primitive_bitwidth // 8}")
        return bits.reshape(given.shape)

    def widened(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return interpreter.TensorHandle(
            converted(handle.data, tl.bfloat16, tl.float32, None).view(np.float32), tl.float32
        )

    def dotted(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, widened(a), widened(b), *rest)

    def patched(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    interpreter._convert_float = converted
    interpreter.InterpreterBuilder.create_dot = dotted
    interpreter._patch_lang_tensor = patched
