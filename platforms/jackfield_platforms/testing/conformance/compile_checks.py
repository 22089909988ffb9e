"""Attention that is said to be capturable goes through torch.compile as one graph, once for all layouts of a bucket."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase, plain_attention
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.scene import Scene
from jackfield_platforms.testing.conformance.subject import Subject

_LENGTHS = (30, 17, 9)
_LAYOUTS = 4


def traceable(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """Backends that state `graphs` other than "none": one dtype and the smallest block size are enough."""
    first = subject.platform.capabilities().dtypes[0]
    seen: set[tuple[str, bool]] = set()
    for name, case in plain_attention(subject):
        kind = case.backend.name, "everything" in name
        if case.backend.graphs != "none" and case.need.query_dtype == case.need.kv.dtype == first and kind not in seen:
            seen.add(kind)
            yield name, case


class Compiler:
    """A backend of torch.compile that runs the graph as it is, and counts graphs."""

    def __init__(self) -> None:
        self.num_graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.num_graphs += 1
        return graph.forward


@torch.inference_mode()  # all of it: devices that record operations make no view of a tensor from outside of the mode
def check_attention_is_one_graph_for_all_layouts(traceable: AttentionCase, seed: int) -> None:
    """`torch.compile(fullgraph=True, dynamic=False)` over `run`: no break, no second compilation, the same answers."""
    scene = Scene(traceable, _LENGTHS, seed)
    scene.fill(_LENGTHS)
    bucket = _bucket(scene)
    if bucket is None:
        return
    compiler = Compiler()
    torch._dynamo.reset()

    def program(q: Tensor, k: Tensor, v: Tensor, plan: Any) -> Tensor:
        return scene.backend.run(q, k, v, scene.layer, plan)

    compiled = torch.compile(program, fullgraph=True, dynamic=False, backend=compiler)
    for number in range(_LAYOUTS):
        launch = scene.launch(_rows(scene, bucket, np.random.default_rng([seed, number])), bucket)
        plan = scene.planned(launch)
        try:
            out = compiled(*launch.inputs, plan)
        except torch._dynamo.exc.TorchDynamoException as error:
            expect(False, f"{traceable.backend.name}.run does not compile as one graph: {_broken(error)}")
        scene.check(launch, out)
        expect(
            compiler.num_graphs == 1, f"layout {number} of {bucket} was compiled anew ({compiler.num_graphs} graphs)"
        )


def _broken(error: Exception) -> str:
    """torch's reason, the innermost line that it names, and what to do: its own hints are about its limits."""
    lines = re.findall(r'File "(.+)", line (\d+), in (\S+)(?:\n +(.+))?', str(error))
    file, number, function, text = lines[-1] if lines else ("?", "?", "?", "")
    return (
        f"{str(error).strip().partition(chr(10))[0]}\nat {file}:{number}, in {function}: {text.strip()}\n"
        "What is read on the host (`.item()`, `.tolist()`, `int()`, `if` on a tensor) and shapes that depend on "
        "contents cannot be compiled: compute them in `plan`, or keep them in tensors (torch.where, masks)"
    )


def _bucket(scene: Scene) -> Bucket | None:
    """A small bucket of decode rows: the platform's smallest one with room, or one of our own where any size runs."""
    blocks = -(-max(_LENGTHS) // scene.block_size)
    if not scene.buckets.buckets():
        return Bucket("decode", 4, 4, query_len=1, max_blocks=blocks + 1)
    fits = (bucket for bucket in reversed(scene.buckets.buckets()) if bucket.phase in ("decode", "mixed"))
    fits = (one for one in fits if one.num_rows > 1 and (not one.max_blocks or one.max_blocks >= blocks))
    most = len(_LENGTHS) * blocks  # of all rows
    return next((one for one in fits if not one.num_blocks or one.num_blocks >= min(most, one.num_rows * blocks)), None)


def _rows(scene: Scene, bucket: Bucket, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Some sequences at random places; one token of each is written again, as it was."""
    count = int(rng.integers(1, min(len(_LENGTHS), bucket.num_rows) + 1))
    rows = []
    for index in rng.permutation(len(_LENGTHS))[:count].tolist():
        scene.sequences[index].done = int(rng.integers(0, _LENGTHS[index]))
        rows.append((index, 1))
    return rows
