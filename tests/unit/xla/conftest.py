"""The stand-in is imported by name; the real torch-xla, where it is installed, runs on the host."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
if find_spec("torch_xla") is not None:
    os.environ.setdefault("PJRT_DEVICE", "CPU")  # read when the first device is asked for
