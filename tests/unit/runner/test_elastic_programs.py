"""Forward and logits captured once for every size: eager's own numbers, and a reason where they are not captured."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_engines import PROMPTS, answers, finish

from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams
from jackfield_attention.paged import PagedTorchAttention
from jackfield_cpu.native_graphs import NativeGraphs, NativeRecorder
from jackfield_cpu.platform import CpuPlatform
from jackfield_platforms.graph import EagerRunner, ProgramKey

QWEN3 = {"hidden_size": 64, "head_dim": 16, "tie_word_embeddings": True}
LLAMA = {"architectures": ["LlamaForCausalLM"], "hidden_size": 48, "head_dim": 32, "attention_bias": True}
WINDOWED = {"architectures": ["MistralForCausalLM"], "hidden_size": 32, "head_dim": 16, "sliding_window": 9}
SHAPES = {"qwen3": QWEN3, "llama": LLAMA, "windowed": WINDOWED}
CAPTURED = "graphs     forward in one call, logits in one call"


class Eager(CpuPlatform):
    def graph_runner(self):
        return EagerRunner()


class Poisoning(NativeRecorder):
    """Fills all that a run may not read with NaN before it: memory of its own, and inputs of other tokens."""

    def run(self, key: ProgramKey, num_tokens: int) -> Any:
        captured = self._recorded[key]
        for blocks in self._memory._free.values():
            for block in blocks:
                block[:] = 0xFF
        for tensor in [*captured.outputs.values()] if isinstance(captured.outputs, dict) else [captured.outputs]:
            tensor.fill_(float("nan"))
        hidden = captured.held[1][0]
        for tensor in hidden.values() if isinstance(hidden, dict) else [hidden]:
            tensor[num_tokens:] = float("nan")
        return super().run(key, num_tokens)


class PoisoningGraphs(NativeGraphs):
    def elastic(self):
        return Poisoning(self.kernels)


class Poisoned(CpuPlatform):
    def graph_runner(self):
        return PoisoningGraphs(self.kernels)


class TorchAttention(CpuPlatform):
    def attention_backends(self):
        return (PagedTorchAttention,)


class TorchLayers(CpuPlatform):
    """Layers in parts, so that torch cuts and joins what is between the kernels."""

    def fuse(self, spec):
        return "not here"

    def ops(self):
        return type(super().ops())()


def kept(engine: Any, method: str) -> list[torch.Tensor]:
    """What the programs' method gives, launch after launch."""
    programs, found = engine._executor._programs, []
    own = getattr(programs, method)

    def keeping(*args: Any) -> torch.Tensor:
        result = own(*args)
        found.append(result.clone())
        return result

    setattr(programs, method, keeping)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_states_and_logits_are_eagers_bit_by_bit(engine_on, shape, dtype):
    engines = [engine_on(platform, SHAPES[shape], dtype=dtype) for platform in (Eager, CpuPlatform, Poisoned)]
    assert CAPTURED not in engines[0].startup_text
    assert all(CAPTURED in engine.startup_text for engine in engines[1:])
    found = [(kept(engine, "hidden"), kept(engine, "logits")) for engine in engines]
    wanted = answers(engines[0]) + answers(engines[0])
    for engine, (hidden, logits) in zip(engines[1:], found[1:], strict=True):
        assert answers(engine) + answers(engine) == wanted
        for got, right in zip((hidden, logits), found[0], strict=True):
            assert len(got) == len(right) > 40
            assert all(map(torch.equal, got, right))
        assert engine.stats().num_late_captures == 0


def test_tokens_survive_preemption(engine_on):
    few = {"kv_cache_memory": 16 * 8 * 3 * 2 * 2 * 16 * 4, "enable_prefix_caching": False, "max_model_len": 64}
    wanted, found = (preempted(engine_on(platform, QWEN3, **few)) for platform in (Eager, Poisoned))
    assert found == wanted


def preempted(engine: Any) -> list[list[int]]:
    for place, prompt in enumerate(PROMPTS):
        engine.add(EngineRequest(str(place), prompt, SamplingParams(temperature=0, max_tokens=26, seed=0)))
    tokens = finish(engine, len(PROMPTS))
    assert engine.stats().num_preemptions > 0
    return tokens


@pytest.mark.parametrize(
    ("platform", "options", "reason"),
    [
        (TorchAttention, {}, "forward in parts (attention backend paged-torch may not be inside)"),
        (TorchLayers, {}, "forward in parts (aten."),
        (CpuPlatform, {"enable_lora": True}, "forward in parts (LoRA adapters are looked up token by token)"),
        (CpuPlatform, {"dtype": "float16"}, "logits in parts (aten."),
    ],
)
def test_what_is_not_captured_runs_as_it_is_and_says_why(engine_on, platform, options, reason):
    engine = engine_on(platform, QWEN3, **options)
    assert reason in engine.startup_text
    eager = type("EagerSame", (platform,), {"graph_runner": lambda self: EagerRunner()})
    assert answers(engine) == answers(engine_on(eager, QWEN3, **options))
