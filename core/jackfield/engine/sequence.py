"""What the engine runs: one prompt on its way to one answer. The scheduler alone changes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from jackfield.engine.messages import EngineRequest
from jackfield.engine.prefix_index import root_hash
from jackfield.engine.step import Int32s


class Phase(Enum):
    """Where a sequence is. It has a slot and blocks in the three middle ones."""

    WAITING = auto()  # for its first admission, or for the next one after a preemption
    PREFILLING = auto()  # some known tokens are not yet scheduled
    DECODING = auto()  # one new token a step
    DRAINING = auto()  # its last allowed token is in flight: nothing more to schedule
    FINISHED = auto()


@dataclass(eq=False)
class Sequence:
    """One request and where it stands. What changes every step lives in `SlotColumns` while it has a slot."""

    request: EngineRequest
    arrival: int
    tokens: Int32s  # every known id; not kept up to date while the sequence has a slot
    limit: int  # the length, prompt included, at which it ends
    root: bytes  # where its chain of hashes starts
    phase: Phase = Phase.WAITING
    slot: int = -1
    adapter_slot: int = -1  # of its LoRA adapter, while it has a slot
    hashes: list[bytes] = field(default_factory=list)  # one a full hash unit of known tokens
    num_in_flight: int = 0  # while WAITING: tokens sampled before the preemption, results yet to come
    num_cached: int = 0  # prompt tokens that the first admission found in the prefix cache
    num_admissions: int = 0

    @classmethod
    def of(cls, request: EngineRequest, arrival: int, *, max_model_len: int) -> Sequence:
        """A new sequence. Raises ValueError for a prompt that is empty or leaves no room for a token."""
        prompt_len = len(request.prompt_token_ids)
        if not 0 < prompt_len < max_model_len:
            raise ValueError(
                f"the prompt must have 1 to {max_model_len - 1} tokens (max_model_len - 1); got {prompt_len}"
            )
        room = max_model_len - prompt_len
        max_tokens = room if request.sampling.max_tokens is None else min(room, request.sampling.max_tokens)
        tokens = np.array(request.prompt_token_ids, dtype=np.int32)
        return cls(request, arrival, tokens, limit=prompt_len + max_tokens, root=_root(request))

    @property
    def order(self) -> tuple[int, int]:
        """Smaller is served earlier and preempted later."""
        return (self.request.priority, self.arrival)

    @property
    def prompt_len(self) -> int:
        return len(self.request.prompt_token_ids)


def _root(request: EngineRequest) -> bytes:
    """Keys and values depend on the adapter: sequences share them only under the same one."""
    adapter = () if request.lora is None else (str(request.lora.lora_int_id),)
    return root_hash(request.cache_salt, *adapter)
