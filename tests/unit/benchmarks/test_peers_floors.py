"""The least time that requests could take: operations and bytes over the machine's rates."""

from __future__ import annotations

import pytest
from make_checkpoint import SHAPES, shapes
from peers.floors import Machine, Piece, Shape, decode_seconds, ideal_seconds, step_seconds

TINY = Shape(layers=2, layer_weights=100, head_weights=50, query_width=8, kv_width=4)
WEIGHT_BYTES = 2 * TINY.weights
READS = Machine(bandwidth=1.0, operations=float("inf"))  # seconds are bytes
MULTIPLIES = Machine(bandwidth=float("inf"), operations=1.0)  # seconds are operations


@pytest.mark.parametrize("name", ["qwen3-0.6b", "llama-1b", "qwen3-small"])
def test_a_shape_counts_the_matrices_of_the_checkpoint(name: str) -> None:
    config = SHAPES[name]
    matrices = sum(a[0] * a[1] for _, a in shapes(config) if len(a) == 2)
    assert config["tie_word_embeddings"], "the embedding is the head: counted once"
    assert Shape.of(config).weights == matrices


def test_a_decoding_step_reads_weights_and_cache() -> None:
    pieces = [Piece(new=1, before=10, samples=True), Piece(new=1, before=5, samples=True)]
    assert TINY.kv_token_bytes == 2 * 2 * 4 * 2
    assert step_seconds(TINY, WEIGHT_BYTES, pieces, READS) == WEIGHT_BYTES + 15 * TINY.kv_token_bytes


def test_a_prompt_multiplies_layers_for_each_token_and_the_head_once() -> None:
    matrices = 2 * (3 * 200 + 50)
    attention = 4 * 2 * 8 * (1 + 2 + 3)
    assert step_seconds(TINY, WEIGHT_BYTES, [Piece(3, 0, True)], MULTIPLIES) == matrices + attention


def test_the_larger_of_the_two_binds() -> None:
    slow = Machine(bandwidth=1.0, operations=1.0)
    pieces = [Piece(1, 0, True)]
    both = [step_seconds(TINY, WEIGHT_BYTES, pieces, machine) for machine in (READS, MULTIPLIES)]
    assert step_seconds(TINY, WEIGHT_BYTES, pieces, slow) == max(both)


def test_streams_share_the_reading_of_the_weights() -> None:
    one = ideal_seconds(TINY, WEIGHT_BYTES, [(4, 3)], READS)
    assert one == 3 * WEIGHT_BYTES + (4 + 5) * TINY.kv_token_bytes, "the prompt's step, then two"
    two = ideal_seconds(TINY, WEIGHT_BYTES, [(4, 3), (4, 3)], READS)
    assert two == 3 * WEIGHT_BYTES + 2 * (4 + 5) * TINY.kv_token_bytes


def test_a_prompt_longer_than_a_step_takes_several() -> None:
    steps = ideal_seconds(TINY, WEIGHT_BYTES, [(5000, 1)], READS)
    assert steps == 3 * WEIGHT_BYTES + (2048 + 4096) * TINY.kv_token_bytes


def test_operations_do_not_depend_on_how_a_prompt_is_cut() -> None:
    whole = step_seconds(TINY, WEIGHT_BYTES, [Piece(5000, 0, True)], MULTIPLIES)
    assert ideal_seconds(TINY, WEIGHT_BYTES, [(5000, 1)], MULTIPLIES) == whole


def test_a_shared_prefix_is_computed_once() -> None:
    apart = ideal_seconds(TINY, WEIGHT_BYTES, [(100, 1)] * 3, MULTIPLIES)
    together = ideal_seconds(TINY, WEIGHT_BYTES, [(100, 1)] * 3, MULTIPLIES, cached=90)
    first, suffix = (step_seconds(TINY, 0, [piece], MULTIPLIES) for piece in (Piece(100, 0, True), Piece(10, 90, True)))
    assert apart == 3 * first
    assert together == first + 2 * suffix
    assert ideal_seconds(TINY, WEIGHT_BYTES, [(100, 1)] * 3, MULTIPLIES, cached=90, warm=True) == 3 * suffix


def test_a_shared_prefix_is_read_once_a_step() -> None:
    pieces = [Piece(1, 90, True), Piece(1, 95, True), Piece(3, 40, False)]
    read = step_seconds(TINY, WEIGHT_BYTES, pieces, READS, common=90)
    assert read == WEIGHT_BYTES + (90 + 5) * TINY.kv_token_bytes
    warm = ideal_seconds(TINY, WEIGHT_BYTES, [(100, 2)] * 3, READS, cached=90, warm=True)
    assert warm == 2 * WEIGHT_BYTES + (90 + 90 + 3 * 10) * TINY.kv_token_bytes


def test_decoding_alone_is_bound_by_the_weights() -> None:
    assert decode_seconds(1.2e9, 127, Machine(60e9, 1e12)) == pytest.approx(127 * 0.02)
