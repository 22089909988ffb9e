"""One step of the engine, as the scheduler states it and as the executor answers it: differences, not whole tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from jackfield.engine.messages import EngineStats, TokenLogprobs
from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams

if TYPE_CHECKING:
    from jackfield_platforms.kv_tokens import KVTokens  # imports torch, for which a launch must be prepared first

Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

SAMPLED_LAST = -1
"""In `Step.tokens`: the id that this row's slot sampled last, read on the device: the host may not know it yet."""


class Start(msgspec.Struct, frozen=True):
    """A sequence takes a slot, for the first time or again after a preemption: the runner resets what it keeps for the
    slot.
    """

    slot: int
    sampling: SamplingParams
    stop_token_ids: frozenset[int]  # masked out until min_tokens are there
    prompt_len: int
    tokens: bytes  # int32: every id that is known so far, prompt first, for penalties
    adapter_slot: int = -1  # where its LoRA adapter lies on the device, -1: it has none
    lora: LoRARequest | None = None  # the adapter, to be put there unless it is there
    # blocks that the prefix cache gave arrive in the step's `tables`, like any others


class TableUpdates(msgspec.Struct, frozen=True, eq=False):
    """Changes to the block table of one KV group, to apply before the step runs: `table[slots, positions] = blocks`.

    A block of 0 clears an entry that left its group's window. Entries past a sequence's end are stale until
    overwritten.
    """

    slots: Int32s  # [changes]
    positions: Int32s  # [changes], index of the block within its sequence
    blocks: Int32s  # [changes]


class Step(msgspec.Struct, frozen=True, eq=False):
    """What to run now, in columns; row r computes tokens `num_computed[r] : num_computed[r] + num_new[r]` of
    `slots[r]`.

    Rows `[:num_decode]` have one new token each, and their drafts behind it, and come first. On platforms that do not
    mix, a step is all decode rows or none (there a prompt's single last token stays a prefill row); elsewhere every
    one-token row is among the first. The arrays are read only: the scheduler shares them between steps.

    The last `num_drafts[r]` tokens of row r are guesses: the row samples behind each of them and behind the token
    before them, and those that agree with what was sampled are accepted.
    """

    id: int  # grows by one a step
    slots: Int32s  # [rows]; a slot is stable from a Start to the next Start of the same slot; at most one row a slot
    num_computed: Int32s  # [rows]
    num_new: Int32s  # [rows]
    samples: Bools  # [rows], whether the row's last token yields a next token
    tokens: Int32s  # [sum(num_new)] ids, row after row; SAMPLED_LAST: what the row's slot sampled last, on the device
    num_decode: int
    tables: tuple[TableUpdates, ...]  # one a KV group
    starts: tuple[Start, ...] = ()
    num_drafts: Int32s | None = None  # [rows]; None: no row has any

    @property
    def num_rows(self) -> int:
        return len(self.slots)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def num_decode_tokens(self) -> int:
        """Tokens of the decode rows, drafts included."""
        return self.num_decode if self.num_drafts is None else self.num_decode + int(self.num_drafts.sum())


class StepResult(msgspec.Struct, frozen=True, eq=False):
    """What the sampling rows of a step yielded, in the order of the rows: `token_ids[i]` belongs to the i-th sampling
    row. Where rows had drafts, row i yielded `counts[i]` of the ids, one more than were accepted.
    """

    token_ids: Int32s  # [sampling rows], or [sum(counts)]
    logprobs: dict[int, TokenLogprobs] = {}  # by index into token_ids, for rows that asked
    counts: Int32s | None = None  # [sampling rows], at least 1; None: one id a row


class ExecutorLost(RuntimeError):
    """No step can be run any more: another rank has died, or ranks are out of step. The text says why."""


class Pending(Protocol):
    """A step whose results are on their way."""

    def wait(self) -> StepResult:
        """Wait for the device (the only host wait of a step)."""


class Executor(Protocol):
    """Runs steps. `launch` and `sample` do not block on an asynchronous platform."""

    def launch(self, step: Step) -> Any:
        """Run the model over the step's rows; hidden states stay on the device."""

    def read_adapter(self, lora: LoRARequest) -> None:
        """Make sure that an adapter can be served, before a request with it is queued; ValueError says why not."""

    def count(self, stats: EngineStats) -> EngineStats:
        """The same reading with what the executor counts: launches by bucket, late captures."""

    def export_kv(self, slots: Sequence[npt.NDArray[np.int64]]) -> tuple[KVTokens, ...]:
        """The tokens at cache slots (block * block_size + offset) of each KV group, on the host."""

    def import_kv(self, slots: Sequence[npt.NDArray[np.int64]], tokens: Sequence[KVTokens]) -> None:
        """Write tokens to cache slots of each KV group; ValueError when they do not fit, and nothing is written."""

    def close(self) -> None:
        """End what runs beside this process; no step comes after it."""

    def sample(self, forward: Any, masks: Any | None = None) -> Pending:
        """Sample every row that asks for it, and verify drafts; `masks` int32 `[rows, ceil(vocab / 32)]` allow tokens
        bit by bit, one entry for each position that is sampled.
        """
