"""Tensors that an engine keeps are made in the mode that its steps run in: torch-xla cannot view one in the other."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from jackfield.config.options import EngineOptions
from jackfield.conformance import random_llama
from jackfield.engine.build import build_engine


def tensors() -> dict[int, torch.Tensor]:
    """All that Python knows of, by id."""
    gc.collect()
    return {id(found): found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)}


@pytest.mark.parametrize("platform", ["cpu", "strict"])
def test_an_engine_keeps_inference_tensors_alone(platform: str, tmp_path: Path) -> None:
    random_llama.write_checkpoint(tmp_path, random_llama.random_weights(5))
    speculation = {"model": str(tmp_path), "num_speculative_tokens": 2}
    options = EngineOptions(
        model=str(tmp_path),
        platform=platform,
        dtype="float32",
        max_num_seqs=2,
        max_num_batched_tokens=16,
        max_model_len=64,
        kv_cache_memory=2 << 20,
        speculative_config=speculation if platform == "cpu" else None,
    )
    before = tensors()
    engine = build_engine(options, progress=False)
    kept = [tensor for id, tensor in tensors().items() if id not in before]
    assert len(kept) > 20
    assert [tuple(tensor.shape) for tensor in kept if not tensor.is_inference()] == []
    assert not engine.has_work
