"""What surrounds a model's forward in a step: the tokens that go in, the rows that are sampled, and their ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import msgspec
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.runner.pending_step import PendingStep
from jackfield.runner.slot_sampling import SamplingRows
from jackfield.runner.step_buffers import Filled
from jackfield.runner.verify import Guesses
from jackfield_platforms.bucket import Bucket


class Forward(msgspec.Struct, frozen=True):
    """What a launch left on the device: hidden states of the rows to sample, and how to sample them."""

    hidden: Tensor  # of the positions to sample; rows past those of `rows` mean nothing
    rows: SamplingRows  # one entry a position
    guesses: Guesses | None = None  # None: no row has drafts, so that each has one position


class RowSampling(ABC):
    """Owns what slots sampled last. Steps come in order: all of one's launches, then its `sample` or `follow`."""

    @abstractmethod
    def start(self, start: Start) -> None:
        """A sequence takes a slot: forget what was there."""

    @abstractmethod
    def tokens(self, bucket: Bucket, filled: Filled) -> Tensor:
        """The ids `[bucket.num_tokens]` of a launch, what slots sampled last among them; int64."""

    @abstractmethod
    def take(self, bucket: Bucket, filled: Filled, hidden: Tensor) -> None:
        """Keep the rows to be sampled of a launch's hidden states `[bucket.num_tokens, hidden]`; what holds these may
        be overwritten afterwards.
        """

    @abstractmethod
    def taken(self) -> Tensor:
        """The rows that were taken since the last call, in order."""

    @abstractmethod
    def sample(self, forward: Forward, masks: Tensor | None) -> PendingStep:
        """Logits and ids of the rows; ids stay on the device for the next step, a copy goes to the host. Drafts are
        verified on the device.
        """

    @abstractmethod
    def follow(self, forward: Forward) -> None:
        """What the other ranks do while rank 0 samples: their part of the logits, and the ids as it chose them."""

    @abstractmethod
    def capture(self, bucket: Bucket, hidden: Tensor) -> None:
        """A bucket was captured, whose forward leaves its result in `hidden`."""

    @abstractmethod
    def warm_up(self, advance: Callable[[str], None]) -> None:
        """Capture what is of a planned number of rows, after all buckets; `advance` is told each one when it is done.

        It is called as often as `num_planned` says.
        """

    @property
    @abstractmethod
    def num_planned(self) -> int:
        """Numbers of rows that `warm_up` captures at."""

    @property
    def captured_bytes(self) -> int:
        """What captures of its own took."""
        return 0
