"""The seam between the frontend, which owns text, and the engine, which owns tokens."""

from __future__ import annotations

from typing import Protocol

from jackfield.engine.messages import EngineOutputs, EngineRequest, EngineStats
from jackfield.engine.model_info import ModelInfo


class EngineDeadError(RuntimeError):
    """The engine process has ended, so that nothing more will come. The text says why."""


class EngineClient(Protocol):
    """An engine in a process of its own."""

    model: ModelInfo
    startup_text: str  # the start-up paragraph: platform and why, attention backend and why, memory, blocks

    async def add(self, requests: list[EngineRequest]) -> None:
        """Queue sequences. Raises EngineDeadError."""

    async def abort(self, ids: list[str]) -> None:
        """Forget sequences; unknown ids are ignored, and nothing more is reported of them."""

    async def outputs(self) -> EngineOutputs:
        """Wait for what the next steps added. Raises EngineDeadError once the process has ended."""

    async def stats(self) -> EngineStats:
        """Read the engine's counters. Raises EngineDeadError."""

    async def close(self, drain: bool) -> None:
        """End the process; with `drain` after the sequences that run have finished."""

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""


class InProcessEngine(Protocol):
    """An engine in this process, stepped by whoever wants answers."""

    model: ModelInfo

    def add(self, request: EngineRequest) -> None:
        """Queue a sequence."""

    def abort(self, id: str) -> None:
        """Forget a sequence; an unknown id is ignored."""

    def step(self) -> EngineOutputs:
        """Run one step; nothing may come of it."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
