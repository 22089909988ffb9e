"""Jackfield with a context that nobody computed, for measuring the steps behind it. Runs in Jackfield's environment."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from peers.adapters import Jackfield
from peers.servers import Options
from peers.streams import Arrival, Stream

SEED_TOKENS = 256  # of a real prompt, whose first token's K/V stand for all


class JackfieldFilled(Jackfield):
    """Attention takes as long whatever the numbers in the cache are: a prompt's K/V are imported, not computed."""

    def __init__(self, model: str, options: Options) -> None:
        super().__init__(model, options)
        self.settings["context"] = "K/V imported: those of one token, again and again"
        self._numbers = itertools.count()

    def stream(self, arrivals: Sequence[Arrival]) -> list[Stream]:
        """One, behind a prompt that the prefix cache holds."""
        from jackfield.engine.messages import EngineRequest

        ((_, ids, count),) = arrivals
        self._fill(ids)
        engine = self._llm.engine
        sampling = self._sampling(temperature=0, max_tokens=count, ignore_eos=True, seed=0)
        start, events = time.perf_counter(), []
        engine.add(EngineRequest(f"filled-{next(self._numbers)}", ids, sampling))
        while engine.has_work:
            for output in engine.step().each():
                events += [time.perf_counter() - start] * len(output.token_ids)
        return [Stream(events, len(events))]

    def _fill(self, ids: list[int]) -> None:
        from jackfield.engine.cached_prefixes import ExportedPrefix

        seed = ids[:SEED_TOKENS]
        self.run([(seed, 1)])
        held = self._llm.engine.export_kv(seed)
        groups = tuple(repeated(group, len(ids)) for group in held.groups)
        taken = self._llm.engine.import_kv(ExportedPrefix(tuple(ids), "", held.firsts, groups))
        if taken < len(ids) - SEED_TOKENS:
            raise RuntimeError(f"wanted K/V of {len(ids)} tokens in the cache; it took {taken}")


def repeated(tokens: Any, count: int) -> Any:
    """K/V of `count` tokens, all of them the first one: views, which take no memory."""
    import msgspec

    header = msgspec.structs.replace(tokens.header, num_tokens=count)
    tensors = {name: tensor[:, :1].expand(-1, count, -1, -1) for name, tensor in tokens.tensors.items()}
    return type(tokens)(header, tensors)
