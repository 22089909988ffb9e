"""Attention against the oracle, over a cache in which whatever nobody wrote is NaN. See `scene`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase
from jackfield_platforms.testing.conformance.mismatch import near
from jackfield_platforms.testing.conformance.scene import MAX_ROWS, MAX_TOKENS, Scene
from jackfield_platforms.testing.conformance.tolerances import tolerance

_PAST = 20  # tokens before a decode row of a full step: a small window looks back over the end of a block


def lengths_for(case: AttentionCase, seed: int) -> list[int]:
    """One token, a full block, one more than that, and two lengths that the seed draws."""
    size, rng = case.block_size, np.random.default_rng([seed, 1])
    return [1, size, size + 1, *rng.integers(2, 61, 2).tolist()]


def check_prefill(attention: AttentionCase, seed: int) -> None:
    """Prompts of different lengths, whole, in one step."""
    lengths = lengths_for(attention, seed)
    Scene(attention, lengths, seed).fill(lengths)


def check_decode(attention: AttentionCase, seed: int) -> None:
    """Sequences continue by one token a step, over the ends of their blocks."""
    lengths = lengths_for(attention, seed)
    scene = Scene(attention, [length + 3 for length in lengths], seed)
    scene.fill(lengths)
    for _ in range(3):
        scene.step([(index, 1) for index in range(len(lengths))])


def check_mixed(attention: AttentionCase, seed: int) -> None:
    """Rows that decode beside a prompt's later chunk and a fresh prompt."""
    size = attention.block_size
    scene = Scene(attention, [9, 40, size + 20, 23], seed)
    chunked = attention.subject.platform.capabilities().scheduling.chunked
    scene.fill([8, 39, size if chunked else 0, 0])
    scene.step([(0, 1), (1, 1), (2, 20 if chunked else size + 20), (3, 23)])


def check_chunked_prompt_equals_the_whole(chunked_attention: AttentionCase, seed: int) -> None:
    """A prompt in chunks of random sizes gives the answers of the prompt at once."""
    length, rng = 75, np.random.default_rng([seed, 2])
    multiple = chunked_attention.subject.platform.capabilities().scheduling.chunk_multiple
    cuts = sorted({0, length, *(rng.integers(1, length, 4) // multiple * multiple).tolist()})
    whole = Scene(chunked_attention, [length, 5], seed).step([(0, length)])[0]
    parts = Scene(chunked_attention, [length, 5], seed)
    answers = torch.cat([parts.step([(0, stop - start)])[0] for start, stop in pairwise(cuts)])
    need = chunked_attention.need
    near(answers, whole.double(), 2 * tolerance(need.query_dtype, need.kv.dtype), f"chunks cut at {cuts}")


def check_padding_reaches_nobody(attention: AttentionCase, seed: int) -> None:
    """Rows and tokens that pad a launch hold NaN, in a decode step and in a prompt; every sequence is read after it."""
    lengths = lengths_for(attention, seed)
    scene = Scene(attention, [length + 2 for length in lengths], seed)
    scene.step([(4, lengths[4])], scene.roomy([(4, lengths[4])]))
    scene.fill([*lengths[:4], 0])
    some = [(0, 1), (3, 1)]
    scene.step(some, scene.roomy(some))
    scene.step([(index, 1) for index in range(len(lengths))])


def check_a_step_writes_its_own_tokens_alone(attention: AttentionCase, seed: int) -> None:
    """After prompts and decode steps of some sequences, the others still hold what they held."""
    lengths = lengths_for(attention, seed)
    scene = Scene(attention, [length + 2 for length in lengths], seed)
    scene.fill([*lengths[:3], 0, 0])
    scene.step([(1, 1), (3, lengths[3])])
    scene.step([(3, 1), (4, lengths[4])])
    scene.step([(index, 1) for index in range(len(lengths))])


def check_large_scores_do_not_overflow(plain_attention: AttentionCase, seed: int) -> None:
    """Scores of some hundreds, whose exponentials are infinite unless the highest score is taken off first."""
    lengths = lengths_for(plain_attention, seed)
    scene = Scene(plain_attention, [length + 1 for length in lengths], seed)
    scene.bounded = True
    for sequence in scene.sequences:
        sequence.q = sequence.q * 200
    scene.fill(lengths)
    scene.step([(index, 1) for index in range(len(lengths))])


def check_a_full_step(plain_attention: AttentionCase, seed: int) -> None:
    """As many rows and tokens as a step may hold: one prompt, and decode rows beside it."""
    rules = plain_attention.subject.platform.capabilities().scheduling
    longest = MAX_TOKENS - MAX_ROWS + 1
    scene = Scene(plain_attention, [longest, *[_PAST + 1] * (MAX_ROWS - 1)], seed)
    scene.fill([0, *[_PAST] * (MAX_ROWS - 1)])
    rows = [*((index, 1) for index in range(1, MAX_ROWS)), (0, longest)]
    planned = scene.buckets.buckets()
    full = next((one for one in planned if one.phase == "mixed" and _is_full(scene, one, longest)), None)
    scene.step(rows, full if rules.mixed else None)


def _is_full(scene: Scene, bucket: Bucket, longest: int) -> bool:
    blocks = -(-longest // scene.block_size)
    exact = (bucket.num_rows, bucket.num_tokens, bucket.query_len) == (MAX_ROWS, MAX_TOKENS, None)
    return exact and (not bucket.max_blocks or bucket.max_blocks >= blocks)


def check_rope_in_halves(rotated_attention: AttentionCase, seed: int) -> None:
    """The whole head is rotated, element i with i + dim / 2, queries and written keys alike."""
    _rotated(rotated_attention, seed, share=1.0, interleaved=False)


def check_rope_of_a_part_of_the_head(rotated_attention: AttentionCase, seed: int) -> None:
    """Half of each head is rotated, the rest passes."""
    _rotated(rotated_attention, seed, share=0.5, interleaved=False)


def check_rope_interleaved(rotated_attention: AttentionCase, seed: int) -> None:
    """Neighbours are rotated together."""
    _rotated(rotated_attention, seed, share=1.0, interleaved=True)


def _rotated(case: AttentionCase, seed: int, *, share: float, interleaved: bool) -> None:
    lengths = lengths_for(case, seed)
    scene = Scene(case, [length + 2 for length in lengths], seed)
    scene.rotation = rope_table(int(case.need.kv.k_dim * share), max(lengths) + 2), interleaved
    scene.fill([*lengths[:4], 0])
    scene.step([(0, 1), (3, 1), (4, lengths[4])])
    scene.step([(index, 1) for index in range(len(lengths))])


def rope_table(rotary_dim: int, max_positions: int) -> torch.Tensor:
    """Cosines then sines, `[max_positions, rotary_dim]`, of angles from a radian a token down."""
    angle = torch.arange(max_positions)[:, None] / 50.0 ** torch.linspace(0, 1, rotary_dim // 2)
    return torch.cat((angle.cos(), angle.sin()), dim=1)
