"""Captures of any size, each wrong in one way, and ops and attention that may be inside."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.utils import _pytree as pytree

from jackfield_attention.paged import PagedTorchAttention
from jackfield_platforms import reference
from jackfield_platforms.graph import EagerRunner, Elastic
from jackfield_platforms.ops import Impl, OpTable

NAMES = ("rms_norm", "reduce_add_rms_norm", "silu_mul")
OPS = OpTable(**{name: (Impl("own", getattr(reference, name)),) for name in NAMES})


class Inside(PagedTorchAttention):
    """Reads in its plan how many tokens there are."""

    elastic = True

    def run(self, q, k, v, layer, plan, rope=None):
        count = len(plan.written) // self.need.kv.kv_heads
        out = q.new_zeros(*q.shape[:2], v.shape[2])
        if count:
            first = None if rope is None else dataclasses.replace(rope, positions=rope.positions[:count])
            out[:count] = super().run(q[:count], k[:count], v[:count], layer, plan, first)
        return out


class Runner(EagerRunner):
    """Gives the captures that it is made with."""

    def __init__(self, elastic: Elastic) -> None:
        self._elastic = elastic

    def elastic(self):
        return self._elastic


class Reruns(Elastic):
    """Sound: runs the program anew, over all that its buffers hold, into the outputs of the capture."""

    def __init__(self) -> None:
        self.captured: dict[Any, Any] = {}

    def capture(self, key, program, buffers, num_tokens):
        self.captured[key] = program, buffers, self.outputs(program(*buffers))
        return 0

    def run(self, key, num_tokens):
        program, buffers, outputs = self.captured[key]
        fresh, kept = pytree.tree_leaves(program(*buffers)), pytree.tree_leaves(outputs)
        for into, result in zip(kept, fresh, strict=True):
            into.copy_(result)
        return outputs

    def outputs(self, made):
        return pytree.tree_map_only(torch.Tensor, torch.clone, made)


class Stale(Reruns):
    """Answers what it computed when it was captured."""

    def run(self, key, num_tokens):
        return self.captured[key][2]


class OneMemory(Reruns):
    """Outputs of every capture lie in one memory."""

    memory: Any = None

    def outputs(self, made):
        self.memory = super().outputs(made) if self.memory is None else self.memory
        return self.memory
