"""Copies to the host that wait only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jackfield_xla.graphs import launch


def start_copy(tensor: Tensor) -> Callable[[], Tensor]:
    """Launch what `tensor` depends on, and keep its numbers; the answer waits for those alone.

    A run of a program, and a copy from the host, give a tensor another buffer. `copy_` shares the one that is there;
    `clone` would be a program of its own, to be compiled for each size. So what is launched later does not matter. But
    an operation outside of programs that writes into `tensor` (`add_`) takes its buffer: reading is then an error.
    """
    kept = torch.empty_like(tensor).copy_(tensor)
    launch()
    return kept.cpu
