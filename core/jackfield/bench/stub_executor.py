"""An executor without a model: every row gets the same token, after as long as the emulated device takes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from jackfield.engine.messages import EngineStats
from jackfield.engine.step import Executor, Step, StepResult
from jackfield.lora_request import LoRARequest
from jackfield_platforms.kv_tokens import KVTokens
from jackfield_platforms.refusal import Refused

_TOKEN = 7


class StubPending(msgspec.Struct, frozen=True):
    """Ready when the emulated device's clock has reached `done_at`."""

    num_samples: int
    done_at: float

    def wait(self) -> StepResult:
        left = self.done_at - time.perf_counter()
        if left > 0:
            time.sleep(left)
        return StepResult(np.full(self.num_samples, _TOKEN, np.int32))


class StubExecutor:
    """One emulated device that runs steps one after another, `step_seconds` each, while the host goes on."""

    def __init__(self, step_seconds: float = 0.0) -> None:
        self._step_seconds, self._free_at = step_seconds, 0.0

    def count(self, stats: EngineStats) -> EngineStats:
        return stats

    def export_kv(self, slots: Sequence[npt.NDArray[np.int64]]) -> tuple[KVTokens, ...]:
        raise Refused("An emulated device without a model keeps no KV")

    def import_kv(self, slots: Sequence[npt.NDArray[np.int64]], tokens: Sequence[KVTokens]) -> None:
        raise Refused("An emulated device without a model keeps no KV")

    def read_adapter(self, lora: LoRARequest) -> None:
        raise ValueError(f"no model is here that the adapter {lora.lora_name!r} could change")

    def close(self) -> None:
        """Nothing runs beside this process."""

    def launch(self, step: Step) -> int:
        return int(np.count_nonzero(step.samples))

    def sample(self, forward: int, masks: object = None) -> StubPending:
        self._free_at = max(self._free_at, time.perf_counter()) + self._step_seconds
        return StubPending(forward, self._free_at)


class LaunchOnly:
    """Launches on a real runner, inputs, plans, parameters and all, and answers for the sampler."""

    def __init__(self, runner: Executor) -> None:
        self._runner = runner

    def count(self, stats: EngineStats) -> EngineStats:
        return self._runner.count(stats)

    def export_kv(self, slots: Sequence[npt.NDArray[np.int64]]) -> tuple[KVTokens, ...]:
        return self._runner.export_kv(slots)

    def import_kv(self, slots: Sequence[npt.NDArray[np.int64]], tokens: Sequence[KVTokens]) -> None:
        self._runner.import_kv(slots, tokens)

    def read_adapter(self, lora: LoRARequest) -> None:
        self._runner.read_adapter(lora)

    def close(self) -> None:
        self._runner.close()

    def launch(self, step: Step) -> int:
        self._runner.launch(step)
        return int(np.count_nonzero(step.samples))

    def sample(self, forward: int, masks: object = None) -> StubPending:
        return StubPending(forward, 0.0)
