"""The random models, made once a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from speculative_runs import Models, make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A target, a near and an unrelated draft model."""
    return make_models(tmp_path_factory.mktemp("speculation"))
