"""Copies to the host on a stream of their own, so that the step that was launched next does not wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class HostCopies:
    """Copies into page-locked memory, each with an event that tells when it is done.

    `cuda` is `torch.cuda`, or what behaves like it. Page-locked buffers come from torch's own cache of them, which
    takes one back when the tensor is gone and its last copy is done ("Use pinned memory buffers" in torch's notes on
    CUDA semantics).
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda, *, pinned: bool = True) -> None:
        self._device, self._cuda, self._pinned = device, cuda, pinned
        self._stream = cuda.Stream(device)

    def start(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Begin a copy of what `tensor` holds behind all that was launched; the answer waits for it and gives it.

        The tensor may be overwritten at once: its numbers are set aside on the device first, in launch order.
        """
        kept = tensor.clone()
        host = torch.empty(kept.shape, dtype=kept.dtype, pin_memory=self._pinned)
        self._stream.wait_stream(self._cuda.current_stream(self._device))
        with self._cuda.stream(self._stream):
            host.copy_(kept, non_blocking=True)
            done = self._cuda.Event()
            done.record(self._stream)
        kept.record_stream(self._stream)  # or its memory could be given away before the copy has read it

        def wait() -> Tensor:
            done.synchronize()
            return host

        return wait
