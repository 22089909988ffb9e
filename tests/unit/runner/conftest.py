"""Engines over a small random model, on platforms that a test defines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_engines import FIELDS, Hooks

from jackfield.config.options import EngineOptions
from jackfield.engine import assembly
from jackfield.engine.engine import Engine
from jackfield.engine.origin import here
from jackfield_platforms.discovery import Found
from jackfield_platforms.hooks import plugin_manager
from jackfield_platforms.loading import Plugins
from jackfield_platforms.platform import Platform

MakeEngine = Callable[..., Engine]


@pytest.fixture
def engine_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeEngine:
    """Makes an engine on a platform class: a small Qwen3 of random weights, the same each time; `fields` may differ."""

    def make(platform: type[Platform], fields: dict[str, Any] | None = None, **options: Any) -> Engine:
        manager = plugin_manager()
        manager.register(Hooks(platform))
        monkeypatch.setattr(assembly, "load", lambda name: Plugins(manager))
        (tmp_path / "config.json").write_text(json.dumps({**FIELDS, **(fields or {})}))
        found = Found(platform.name, "test", "1.0", "test.probe", "usable", "")
        given = {"model": str(tmp_path), "load_format": "dummy", "dtype": "float32", "kv_cache_memory": 4 << 20}
        given |= {"max_num_seqs": 4, "max_num_batched_tokens": 32, "max_model_len": 96, "target_step_seconds": 0}
        return assembly.assemble(found, EngineOptions(**{**given, **options}), here(), progress=False)

    return make
