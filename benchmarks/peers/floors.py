"""The least time that requests could take on a machine, from a model's shape: operations and bytes over their rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

STEP_TOKENS = 2048  # of an ideal scheduler: larger steps would not lower the floor of a prompt, which arithmetic binds
KV_BYTES = 2  # of a number in the cache


class Shape(NamedTuple):
    """What the floor of a dense decoder depends on."""

    layers: int
    layer_weights: int  # numbers in the matrices of a layer
    head_weights: int
    query_width: int  # heads x dimension
    kv_width: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From a checkpoint's config.json."""
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        dim = config.get("head_dim") or hidden // config["num_attention_heads"]
        query, kv = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
        layer = hidden * (2 * query + 2 * kv) + 3 * hidden * inner
        return cls(config["num_hidden_layers"], layer, hidden * config["vocab_size"], query, kv)

    @property
    def weights(self) -> int:
        """All numbers that a step reads."""
        return self.layers * self.layer_weights + self.head_weights

    @property
    def kv_token_bytes(self) -> int:
        """Of one token in the cache."""
        return 2 * self.layers * self.kv_width * KV_BYTES


class Machine(NamedTuple):
    """Both a second: bytes read, and operations of a matrix product in the precision of the weights."""

    bandwidth: float
    operations: float


class Piece(NamedTuple):
    """A sequence in one step."""

    new: int  # tokens computed
    before: int  # tokens in the cache already
    samples: bool


def step_seconds(
    shape: Shape, weight_bytes: float, pieces: Sequence[Piece], machine: Machine, common: int = 0
) -> float:
    """The larger of operations and of bytes, over their rates.

    `weight_bytes` is what a step reads of the weights; of the cache it reads each token once, and the first `common`
    tokens of all sequences are the same ones.
    """
    new = sum(piece.new for piece in pieces)
    sampled = sum(piece.samples for piece in pieces)
    # a token attends to those before it and to itself; a product and a sum for scores, and for values
    attended = sum(piece.new * piece.before + piece.new * (piece.new + 1) // 2 for piece in pieces)
    operations = 2 * (new * shape.layers * shape.layer_weights + sampled * shape.head_weights)
    operations += 4 * shape.layers * shape.query_width * attended
    tokens = sum(max(piece.before - common, 0) for piece in pieces)
    tokens += max((min(piece.before, common) for piece in pieces), default=0)
    read = weight_bytes + shape.kv_token_bytes * tokens
    return max(operations / machine.operations, read / machine.bandwidth)


def ideal_seconds(
    shape: Shape,
    weight_bytes: float,
    lengths: Sequence[tuple[int, int]],
    machine: Machine,
    cached: int = 0,
    *,
    warm: bool = False,
) -> float:
    """Steps of an ideal scheduler that has (prompt tokens, tokens to generate) of all requests from the start.

    Streams advance by one token a step, and prompts fill the step up to STEP_TOKENS. Of every prompt but the first,
    `cached` tokens cost nothing, and all read them together; if `warm`, those of the first cost nothing either.
    """
    known = [cached if index or warm else 0 for index in range(len(lengths))]
    waiting = [[size - before, before, count] for (size, count), before in zip(lengths, known, strict=True)]
    running: list[list[int]] = []  # [tokens in the cache, tokens still to generate]
    seconds = 0.0
    while waiting or running:
        pieces = [Piece(1, before, True) for before, _ in running]
        running = [[before + 1, left - 1] for before, left in running if left > 1]
        room = STEP_TOKENS - len(pieces)
        while waiting and room > 0:
            left, before, count = waiting[0]
            taken = min(left, room)
            pieces.append(Piece(taken, before, taken == left))
            room -= taken
            waiting[0] = [left - taken, before + taken, count]
            if taken < left:
                break
            waiting.pop(0)
            if count > 1:
                running.append([before + taken, count - 1])
        seconds += step_seconds(shape, weight_bytes, pieces, machine, cached)
    return seconds


def decode_seconds(weight_bytes: float, count: int, machine: Machine) -> float:
    """Of `count` tokens of one stream, by the weights alone."""
    return count * weight_bytes / machine.bandwidth
