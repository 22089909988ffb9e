"""An executor over several ranks: each gets every step, and rank 0 samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor

from jackfield.engine.messages import EngineStats
from jackfield.engine.other_ranks import OtherRanks
from jackfield.engine.step import ExecutorLost, Step
from jackfield.lora_request import LoRARequest
from jackfield.runner.attention_groups import Ints
from jackfield.runner.model_runner import ModelRunner
from jackfield.runner.pending_step import PendingStep
from jackfield.runner.row_sampling import Forward
from jackfield_platforms.kv_tokens import KVTokens
from jackfield_platforms.refusal import Refused

_WHOLE = "KV is exchanged between engines of one rank each; this one's is split among ranks (tensor_parallel_size)"


class RanksExecutor:
    """This process's runner, and a step's frame to the others before each launch.

    Ranks agree only while each runs the same collectives in the same order. So whatever fails on one ends all.
    """

    def __init__(self, runner: ModelRunner, others: OtherRanks) -> None:
        self._runner, self._others = runner, others
        self._lost: str | None = None

    def launch(self, step: Step) -> Forward:
        with self._together():
            self._others.send(step)
            return self._runner.launch(step)

    def sample(self, forward: Forward, masks: Tensor | None = None) -> PendingStep:
        with self._together():
            return self._runner.sample(forward, masks)

    def count(self, stats: EngineStats) -> EngineStats:
        return self._runner.count(stats)

    def export_kv(self, slots: Sequence[Ints]) -> tuple[KVTokens, ...]:
        raise Refused(_WHOLE)

    def import_kv(self, slots: Sequence[Ints], tokens: Sequence[KVTokens]) -> None:
        raise Refused(_WHOLE)

    def read_adapter(self, lora: LoRARequest) -> None:
        self._runner.read_adapter(lora)

    def close(self) -> None:
        self._others.close()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        if self._lost is not None:
            raise ExecutorLost(self._lost)
        try:
            yield
        except Exception as error:
            may_be_theirs = isinstance(error, (RuntimeError, OSError))
            reason = self._others.lost() if may_be_theirs else None
            reason = reason or f"a step failed on rank 0, and the others wait for it: {type(error).__name__}: {error}"
            self._lost = f"{reason}. The model cannot run without all its ranks: start the engine again"
            self._others.kill()
            raise ExecutorLost(self._lost) from error
