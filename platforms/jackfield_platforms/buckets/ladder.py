"""Ladders: the sizes of one dimension, ascending, from a few numbers and the largest size that can occur."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import count as count_from

import msgspec


class Ladder(msgspec.Struct, frozen=True, tag_field="ladder"):
    """A rule that makes sizes. ValueError when its numbers make no ladder."""

    @abstractmethod
    def sizes(self, limit: int) -> tuple[int, ...]:
        """Ascending sizes; the last is at least `limit`, and no other is."""


class Exponential(Ladder, frozen=True, tag="exponential"):
    """`count` sizes whose ratio is constant, rounded up to a multiple of `step`, duplicates dropped.

    Size i is ceil(low * (limit / low) ** (i / (count - 1)) / step) * step: Gaudi's default, since padding is then a
    constant share of the work.
    """

    low: int = 1
    step: int = 1
    count: int = 10

    def __post_init__(self) -> None:
        _positive(self, "low", "step", "count")

    def sizes(self, limit: int) -> tuple[int, ...]:
        if limit <= self.low or self.count == 1:
            return (_up(limit, self.step),)
        ratio = limit / self.low
        exact = (self.low * ratio ** (i / (self.count - 1)) for i in range(self.count))
        # the powers are floats: a hair above an integer is that integer
        return _ascending([_up(math.ceil(size - 1e-6), self.step) for size in exact], limit)


class Linear(Ladder, frozen=True, tag="linear"):
    """Doubles from `low` until it reaches `step`, then goes on in steps of `step`."""

    low: int = 1
    step: int = 16

    def __post_init__(self) -> None:
        _positive(self, "low", "step")

    def sizes(self, limit: int) -> tuple[int, ...]:
        ramp = [self.low << i for i in range(self.step.bit_length()) if self.low << i < self.step]
        return _ascending([*ramp, *range(self.step, limit + self.step, self.step)], limit)


class PowersOfTwo(Ladder, frozen=True, tag="pow2"):
    """Powers of two from `low`, itself rounded up to one."""

    low: int = 1

    def __post_init__(self) -> None:
        _positive(self, "low")

    def sizes(self, limit: int) -> tuple[int, ...]:
        first = (self.low - 1).bit_length()
        return _ascending([1 << i for i in range(first, max(first, (limit - 1).bit_length()) + 1)], limit)


class PaddingAware(Ladder, frozen=True, tag="pad"):
    """As few sizes as keep the padding of every request within `relative` of its bucket or `absolute`, whichever allows
    more.

    Sizes are multiples of `step`.
    """

    low: int = 1
    step: int = 1
    relative: float = 0.25
    absolute: int = 0

    def __post_init__(self) -> None:
        _positive(self, "low", "step")
        if not 0 <= self.relative < 1:
            raise ValueError(f"relative must be at least 0 and below 1; got {self.relative}")
        if self.absolute < 0:
            raise ValueError(f"absolute must not be negative; got {self.absolute}")

    def sizes(self, limit: int) -> tuple[int, ...]:
        sizes = [_up(min(self.low, limit), self.step)]
        while sizes[-1] < limit:
            # the smallest request of the next bucket is one more than this size; the bucket may be larger than that by
            # what the limits allow
            smallest = sizes[-1] + 1
            widest = max(math.floor(smallest / (1 - self.relative) + 1e-9), smallest + self.absolute)
            sizes.append(max(widest // self.step * self.step, sizes[-1] + self.step))
        sizes[-1] = min(sizes[-1], _up(limit, self.step))
        return _ascending(sizes, limit)


class CudaSizes(Ladder, frozen=True, tag="cuda"):
    """1, 2, 4, then multiples of 8 up to 256 and of 16 after that: what CUDA graphs are captured at."""

    def sizes(self, limit: int) -> tuple[int, ...]:
        beyond = range(272, limit + 16, 16)
        return _ascending([1, 2, 4, *range(8, 257, 8), *beyond], limit)


class Listed(Ladder, frozen=True, tag="list"):
    """These sizes and no others; the limit must be within them."""

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or min(self.values) < 1:
            raise ValueError(f"values must be positive sizes, at least one; got {self.values}")

    def sizes(self, limit: int) -> tuple[int, ...]:
        if max(self.values) < limit:
            raise ValueError(f"the largest of the listed sizes is {max(self.values)}; {limit} can occur")
        return _ascending(sorted(self.values), limit)


AnyLadder = Exponential | Linear | PowersOfTwo | PaddingAware | CudaSizes | Listed


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _ascending(sizes: list[int], limit: int) -> tuple[int, ...]:
    """Without duplicates, and cut after the first that reaches the limit."""
    unique = sorted(set(sizes))
    reached = next(index for index in count_from() if unique[index] >= limit)
    return tuple(unique[: reached + 1])


def _positive(ladder: Ladder, *names: str) -> None:
    for name in names:
        if getattr(ladder, name) < 1:
            raise ValueError(f"{name} must be at least 1; got {getattr(ladder, name)}")


USUAL: dict[str, AnyLadder] = {
    "exponential": Exponential(),
    "linear": Linear(),
    "pow2": PowersOfTwo(),
    "pad": PaddingAware(),
    "cuda": CudaSizes(),
}
"""Ladders that need no numbers, by the names that they have in JSON."""
