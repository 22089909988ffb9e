"""Whose line it was: the place in a plugin, out of a stack that is mostly torch's, pytest's and our own."""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType

Frame = tuple[FrameType, int]  # and the number of its line

_SDK = Path(__file__).parents[1]
_MACHINERY = sys.stdlib_module_names | {"torch", "numpy", "pluggy", "pytest", "_pytest"}


def calling_line() -> str:
    """The innermost line of the stack that is neither the SDK's nor a library's; "" where there is none."""
    return _told(traceback.walk_stack(sys._getframe(1)), ours=False)


def raising_line(trace: TracebackType | None) -> str:
    """The innermost line of a traceback that is a plugin's; where no plugin's is in it, the SDK's."""
    frames = list(traceback.walk_tb(trace))[::-1]
    return _told(frames, ours=False) or _told(frames, ours=True)


def _told(innermost_first: Iterable[Frame], *, ours: bool) -> str:
    for frame, number in innermost_first:
        file = frame.f_code.co_filename
        if _is_machinery(frame) or (not ours and _SDK in Path(file).parents):
            continue
        text = linecache.getline(file, number).strip()
        return f"{_shortened(file)}:{number}, in {frame.f_code.co_name}" + (f": {text}" if text else "")
    return ""


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _MACHINERY


def _shortened(file: str) -> str:
    """As seen from the working folder, if it is in it."""
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith(os.pardir) else relative
