"""The step loop: the only place that sees both the scheduler and the executor. They never see each other."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from jackfield.engine.cached_prefixes import ExportedPrefix
from jackfield.engine.messages import EngineOutput, EngineOutputs, EngineRequest, EngineStats
from jackfield.engine.model_info import ModelInfo
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.step import Executor, ExecutorLost, Pending, Step
from jackfield.speculation.drafter import Drafter, DraftNeeds, Drafts

logger = logging.getLogger(__name__)


class InFlight:
    """A step that was launched, or failed to be: what is known of it until its results are committed."""

    def __init__(self, step: Step, executor: Executor) -> None:
        self.step, self.launched_at = step, time.perf_counter()
        self.pending: Pending | None = None
        self.error: Exception | None = None
        try:
            self.pending = executor.sample(executor.launch(step))
        except Exception as error:  # a step that fails fails its requests, not the server: see Engine._finish
            self.error = error

    def wait(self) -> Any:
        """The step's result; raises what the launch or the device raised."""
        if self.pending is None:
            raise self.error or AssertionError("a step has a pending result or an error")
        return self.pending.wait()


class Engine:
    """Runs sequences to their ends, a step at a time.

    The plain loop launches a step and waits for it. The overlapped one keeps `depth - 1` steps in hand: it schedules
    and launches step t + 1 before it reads the results of t, so that host work hides behind the device's.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        model: ModelInfo,
        *,
        depth: int = 1,
        startup_text: str = "",
        drafter: Drafter | None = None,
    ) -> None:
        if drafter is not None and depth != 1:
            raise ValueError(f"drafts need the plain loop: depth must be 1; got {depth}")
        self.model, self.startup_text = model, startup_text
        self._drafter, self._propose = drafter, None if drafter is None else self._ask_for_drafts
        self._scheduler, self._executor, self._depth = scheduler, executor, depth
        self._in_flight: deque[InFlight] = deque()
        self._aborted: list[EngineOutput] = []
        self._finished_at = 0.0

    def add(self, request: EngineRequest) -> None:
        """Queue a sequence; ValueError when it can never run, with the numbers."""
        if request.lora is not None:
            self._executor.read_adapter(request.lora)
        self._scheduler.add(request)

    def abort(self, id: str) -> None:
        """End a sequence; its last output comes with the next step. Unknown ids are ignored: the race is normal."""
        output = self._scheduler.abort(id)
        if output is not None:
            self._aborted.append(output)

    @property
    def has_work(self) -> bool:
        """Whether another `step` would do anything."""
        return bool(self._in_flight or self._aborted) or self._scheduler.has_work

    def stats(self) -> EngineStats:
        """A reading of the scheduler and the executor."""
        return self._executor.count(self._scheduler.stats())

    def step(self) -> EngineOutputs:
        """Launch the next step and finish the oldest one in flight; empty when there is nothing to tell yet.

        Raises ExecutorLost when no step can be run any more.
        """
        step = self._scheduler.schedule(self._propose)
        if step is not None:
            self._in_flight.append(InFlight(step, self._executor))
        if not self._in_flight or (step is not None and len(self._in_flight) < self._depth):
            return self._with_aborted(EngineOutputs())
        return self._with_aborted(self._finish(self._in_flight.popleft()))

    def export_kv(self, token_ids: Sequence[int], cache_salt: str = "") -> ExportedPrefix:
        """The KV of the longest prefix of `token_ids` that is cached, as whole blocks; its `token_ids` say how long.

        It stays here. ValueError without a prefix cache, Refused where the device's backend does not export.
        """
        place = self._scheduler.prefixes.find(token_ids, cache_salt)
        groups = self._executor.export_kv(place.slots)
        return ExportedPrefix(tuple(token_ids[: place.length]), cache_salt, place.firsts, groups)

    def import_kv(self, prefix: ExportedPrefix) -> int:
        """Take a prefix that an engine of the same weights exported into free blocks, for prompts to hit.

        Returns how many tokens were taken: whole blocks, as many as are free. ValueError when the two engines keep
        different things, or this one caches no prefixes; then nothing has changed but what free blocks held.
        """
        place = self._scheduler.prefixes.take(prefix)
        if not place.length:
            return 0
        try:
            ranges = zip(place.firsts, prefix.firsts, prefix.groups, strict=True)
            tokens = [group.narrowed(first - held, place.length - held) for first, held, group in ranges]
            self._executor.import_kv(place.slots, tokens)
        except BaseException:
            self._scheduler.prefixes.give(place)
            raise
        self._scheduler.prefixes.keep(place)
        return place.length

    def close(self) -> None:
        """End what runs beside this process: other ranks. No step comes after it."""
        self._executor.close()

    def _ask_for_drafts(self, needs: DraftNeeds) -> Drafts:
        """What the drafter says; a step whose drafting fails runs without drafts, and its tokens are the same."""
        assert self._drafter is not None
        try:
            return self._drafter.propose(needs)
        except Exception:
            logger.exception("drafting for %d sequences failed; their step runs without drafts", len(needs.slots))
            return Drafts.none(len(needs.slots))

    def _finish(self, flight: InFlight) -> EngineOutputs:
        try:
            result = flight.wait()
        except ExecutorLost:  # no later step could be run
            raise
        except Exception as error:
            logger.exception("step %d failed; its %d sequences end with an error", flight.step.id, flight.step.num_rows)
            return self._scheduler.fail(flight.step, f"{type(error).__name__}: {error}")
        self._observe(flight)
        return self._scheduler.commit(flight.step, result)

    def _observe(self, flight: InFlight) -> None:
        """Tell the token budget how long the device took: from the launch, or from the end of the step before it."""
        now = time.perf_counter()
        seconds = now - max(flight.launched_at, self._finished_at)
        self._finished_at = now
        step = flight.step
        self._scheduler.budget.observe(
            num_decode=step.num_decode, num_prefill=step.num_tokens - step.num_decode_tokens, seconds=seconds
        )

    def _with_aborted(self, outputs: EngineOutputs) -> EngineOutputs:
        if not self._aborted:
            return outputs
        aborted, self._aborted = self._aborted, []
        return EngineOutputs(outputs.ids, outputs.token_ids, [*outputs.others, *aborted])
