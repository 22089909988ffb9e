"""What each measure asks: token ids and how many tokens to answer with. Everyone gets the same, nobody twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jackfield.bench.lengths import length_mix

MIN_TOKEN_ID, MAX_TOKEN_ID = 300, 2_000  # learnt tokens, in every vocabulary
Request = tuple[list[int], int]  # prompt's token ids, tokens to generate


class Turn(NamedTuple):
    """What one engine does in one repetition: groups of requests one after another, each group all at once.

    The last group is the one that counts. `cached` is how many of a prompt's tokens an earlier one has as well, and
    `is_warm` whether the first counted one has such an earlier one, too.
    """

    groups: tuple[tuple[Request, ...], ...]
    cached: int = 0
    is_warm: bool = False

    @property
    def counted(self) -> tuple[Request, ...]:
        """The requests of the last group."""
        return self.groups[-1]


class Measure(NamedTuple):
    """One question. `unit` is that of `rate`, which takes the turn and the seconds of its groups."""

    name: str
    title: str
    unit: str
    make: Callable[[int], Turn]  # from a seed
    rate: Callable[[Turn, Sequence[float]], float]
    weights_only: bool = False  # whether the floor is that of reading the weights, without K/V


def prompt(count: int, rng: np.random.Generator) -> list[int]:
    """Random learnt tokens."""
    return [int(token) for token in rng.integers(MIN_TOKEN_ID, MAX_TOKEN_ID, count)]


def single(prompt_len: int, output_len: int) -> Callable[[int], Turn]:
    """One stream. Before it another prompt of that length for one token, which tells what a prompt takes."""

    def make(seed: int) -> Turn:
        rng = np.random.default_rng(seed)
        before = (((prompt(prompt_len, rng), 1),),) if output_len > 1 else ()
        return Turn((*before, ((prompt(prompt_len, rng), output_len),)))

    return make


def equal(count: int, prompt_len: int, output_len: int) -> Callable[[int], Turn]:
    """A batch of equal requests that have nothing in common."""

    def make(seed: int) -> Turn:
        rng = np.random.default_rng(seed)
        return Turn((tuple((prompt(prompt_len, rng), output_len) for _ in range(count)),))

    return make


def mix(count: int, prompt_len: int, output_len: int, longest: int) -> Callable[[int], Turn]:
    """Lognormal lengths, the same in every repetition, of new tokens."""

    def make(seed: int) -> Turn:
        lengths = length_mix(count, prompt_len, output_len, longest=longest, seed=1).lengths
        rng = np.random.default_rng(seed)
        return Turn((tuple((prompt(first, rng), second) for first, second in lengths),))

    return make


def shared(
    count: int, prefix_len: int, suffix_len: int, output_len: int, *, warm: bool = False
) -> Callable[[int], Turn]:
    """Prompts that begin alike; nobody has seen the beginning before, unless `warm`: then one was asked alone."""

    def make(seed: int) -> Turn:
        rng = np.random.default_rng(seed)
        prefix = prompt(prefix_len, rng)
        requests = tuple((prefix + prompt(suffix_len, rng), output_len) for _ in range(count))
        before = (((prefix + prompt(suffix_len, rng), 1),),) if warm else ()
        return Turn((*before, requests), cached=prefix_len, is_warm=warm)

    return make


def output_rate(turn: Turn, seconds: Sequence[float]) -> float:
    """Tokens generated a second, prompts included in the time."""
    return sum(count for _, count in turn.counted) / seconds[-1]


def prompt_rate(turn: Turn, seconds: Sequence[float]) -> float:
    """Prompt tokens a second."""
    return sum(len(ids) for ids, _ in turn.counted) / seconds[-1]


def decode_rate(turn: Turn, seconds: Sequence[float]) -> float:
    """Tokens a second after the first one; infinite where noise made the whole no longer than its prompt."""
    prompt_seconds, whole = seconds
    after_first = sum(count for _, count in turn.counted) - len(turn.counted)
    return after_first / (whole - prompt_seconds) if whole > prompt_seconds else float("inf")


START = "start"  # a process of its own each time; see `compare.py`
MEASURES = {
    measure.name: measure
    for measure in (
        Measure("decode", "decode, 1 stream, 128 + 128", "tok/s", single(128, 128), decode_rate, weights_only=True),
        Measure("prefill", "prefill of 2,048", "tok/s", single(2048, 1), prompt_rate),
        Measure("batch", "32 x (128 in, 64 out)", "out tok/s", equal(32, 128, 64), output_rate),
        Measure("mix", "64 requests, lengths mixed", "out tok/s", mix(64, 220, 190, 1024), output_rate),
        Measure("prefix", "32 with a shared 1,024", "out tok/s", shared(32, 1024, 64, 32), output_rate),
        Measure(
            "prefix-warm", "the same, one asked before", "out tok/s", shared(32, 1024, 64, 32, warm=True), output_rate
        ),
        Measure("unshared", "the same, nothing shared", "out tok/s", equal(32, 1088, 32), output_rate),
    )
}
USUAL = ("decode", "prefill", "batch", "mix", "prefix", "prefix-warm", "unshared", "online", "long", START)


def part(turn: Turn, count: int) -> Turn:
    """Only the first requests of the group that counts, for an engine that would take hours."""
    return turn._replace(groups=(*turn.groups[:-1], turn.counted[:count]))
