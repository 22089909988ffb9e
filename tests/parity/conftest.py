"""The small models, made once a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_models import SmallModel, make


@pytest.fixture(scope="session", params=["llama", "qwen3", "qwen3-hybrid", "deepseek"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    """A random checkpoint with its prompts and Hugging Face's answers."""
    return make(request.param, tmp_path_factory.mktemp(request.param))
