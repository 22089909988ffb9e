"""Plans of static sizes: padded rows, one plan for every layout of its bucket, and attention out of a capture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from jackfield_platforms.bucket import Bucket, Limits
from jackfield_platforms.buffers import leaves
from jackfield_platforms.graph import EagerRunner, ProgramKey
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase, plain_attention
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.scene import MAX_ROWS, MAX_TOKENS, Scene
from jackfield_platforms.testing.conformance.subject import Subject

_LENGTHS = (60, 41, 17, 9, 33)
_LAYOUTS, _REPLAYS = 50, 5


def row_padded(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """Where rows may be padded to one length: the platform plans such buckets, or runs any size."""
    planned = _buckets(subject)
    padded = any(bucket.query_len is not None and bucket.query_len > 1 for bucket in planned)
    return plain_attention(subject) if padded or not planned else iter(())


def bucketed(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """Where the platform plans buckets: one dtype is enough, since plans hold integers."""
    first = subject.platform.capabilities().dtypes[0]
    return ((name, case) for name, case in plain_attention(subject) if _buckets(subject) and _is_of(case, first))


def captured(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """Where the platform captures programs and the backend can be captured."""
    if isinstance(subject.platform.graph_runner(), EagerRunner):
        return iter(())
    return ((name, case) for name, case in bucketed(subject) if case.backend.graphs != "none")


def _buckets(subject: Subject) -> tuple[Bucket, ...]:
    return subject.buckets(Limits(MAX_ROWS, MAX_TOKENS, max(_LENGTHS))).buckets()


def _is_of(case: AttentionCase, dtype: str) -> bool:
    return case.need.query_dtype == case.need.kv.dtype == dtype


def check_rows_padded_to_one_length(row_padded: AttentionCase, seed: int) -> None:
    """`[rows, query_len]`: each row's tokens start at a multiple of query_len, and NaN fills the gaps."""
    rng = np.random.default_rng([seed, 4])
    new = [int(rng.integers(2, 13)) for _ in range(3)]
    scene = Scene(row_padded, [30, 20, 13], seed)
    chunked = row_padded.subject.platform.capabilities().scheduling.chunked
    scene.fill([17, 7, 0] if chunked else [0, 0, 0])
    rows = list(enumerate(new))
    bucket = _padded_bucket(scene, max(new))
    if bucket is not None:
        scene.step(rows, bucket)
    scene.step([(index, 1) for index in range(3)] if chunked else [])


def _padded_bucket(scene: Scene, longest: int) -> Bucket | None:
    """The smallest planned bucket of padded rows that holds 3 of `longest`, or one of our own where any size runs."""
    planned = scene.buckets.buckets()
    if not planned:
        return Bucket("prefill", 4, 4 * 16, query_len=16, max_blocks=-(-30 // scene.block_size) + 1)
    fits = (b for b in reversed(planned) if b.query_len is not None and b.query_len >= longest and b.num_rows >= 3)
    return next((b for b in fits if not b.max_blocks or b.max_blocks * scene.block_size >= 30), None)


@torch.inference_mode()
def check_one_plan_serves_fifty_layouts(bucketed: AttentionCase, seed: int) -> None:
    """The plan of a bucket is filled in place: shapes, addresses and plain values are those of the blank one."""
    scene = Scene(bucketed, _LENGTHS, seed)
    scene.fill(_LENGTHS)
    for phase in ("decode", "mixed"):
        bucket = _roomiest(scene, phase)
        if bucket is None:
            continue
        plan = scene.plan_of(bucket)
        blank = _description(plan)
        for number in range(_LAYOUTS):
            launch = scene.launch(_random_rows(scene, bucket), bucket)
            scene.check(launch, scene.run(launch))
            changed = {path for path, leaf in _description(plan).items() if blank.get(path) != leaf}
            expect(not changed, f"layout {number} in {bucket} changed {sorted(changed)} of the plan")


@torch.inference_mode()
def check_captured_attention_follows_its_plan(captured: AttentionCase, seed: int) -> None:
    """A program captured over one layout answers another one, planned into the same buffers."""
    scene, runner = Scene(captured, _LENGTHS, seed), captured.subject.platform.graph_runner()
    scene.fill(_LENGTHS)
    bucket = _roomiest(scene, "mixed") or _roomiest(scene, "decode")
    expect(bucket is not None, "the platform plans no bucket of several rows")
    assert bucket is not None
    first = scene.launch(_random_rows(scene, bucket), bucket)
    plan, inputs = scene.planned(first), tuple(x.clone() for x in first.inputs)
    key, buffers = ProgramKey("conformance", bucket, variant=uuid4().hex), (*inputs, scene.layer.cache, plan)

    def program(q: Tensor, k: Tensor, v: Tensor, cache: Any, plan: Any) -> Tensor:
        return scene.backend.run(q, k, v, scene.layer, plan)

    runner.capture(key, program, buffers)
    for _ in range(_REPLAYS):
        launch = scene.launch(_random_rows(scene, bucket), bucket)
        for buffer, fresh in zip(inputs, launch.inputs, strict=True):
            buffer.copy_(fresh)
        scene.planned(launch)
        out = runner.run(key, program, buffers)
        captured.subject.platform.synchronize(scene.device)
        scene.check(launch, out)


def _roomiest(scene: Scene, phase: str) -> Bucket | None:
    """The largest planned bucket of a phase that holds the longest sequence."""
    most = -(-max(_LENGTHS) // scene.block_size)
    fits = (bucket for bucket in scene.buckets.buckets() if bucket.phase == phase)
    return next((bucket for bucket in fits if bucket.max_blocks == 0 or bucket.max_blocks >= most), None)


def _random_rows(scene: Scene, bucket: Bucket) -> list[tuple[int, int]]:
    """Some sequences at random places; their tokens are written again, as they were."""
    count = int(scene.rng.integers(1, min(len(scene.sequences), bucket.num_rows) + 1))
    rows = []
    for index in scene.rng.permutation(len(scene.sequences))[:count].tolist():
        length = int(scene.rng.integers(1, len(scene.sequences[index]) + 1))
        longest = 1 if bucket.phase == "decode" else min(length, bucket.query_len or bucket.num_tokens // count)
        new = int(scene.rng.integers(1, longest + 1))
        scene.sequences[index].done = length - new
        rows.append((index, new))
    return sorted(rows, key=lambda row: row[1] != 1)


def _description(plan: Any) -> dict[str, Any]:
    return {
        path: (tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.data_ptr()) if isinstance(leaf, Tensor) else leaf
        for path, leaf in leaves(plan, "plan")
    }
