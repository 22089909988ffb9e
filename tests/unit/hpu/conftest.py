"""The stand-in for the vendor's software, for tests that ask for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from fake_habana import MODULES, Bridge
from fake_habana_ops import registered


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def bridge(monkeypatch):
    """The vendor's modules and operations, for one test."""
    made = Bridge()
    for name, module in MODULES(made).items():
        monkeypatch.setitem(sys.modules, name, module)
    with registered():
        yield made
