"""Kernels are interpreted here, on the host: this must be said before anything imports Triton."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

if importlib.util.find_spec("triton") is None:  # no wheel for this system
    collect_ignore_glob = ["test_*.py"]
else:
    from triton_interpreter import use_interpreter

    use_interpreter()

    import torch

    @pytest.fixture(autouse=True)
    def inference():
        with torch.inference_mode():
            yield
