"""What the kernels' shapes depend on of a GPU, read once when a backend is made."""

from __future__ import annotations

import os

import msgspec
import torch

from jackfield_attention.triton.tiles import INTERPRETER

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run on the host, one program after another. Triton reads the variable when it is imported."""


class Gpu(msgspec.Struct, frozen=True):
    """The kind of a GPU, and how many programs run on it side by side at least."""

    arch: str  # "sm_90", "gfx942", "interpreter"
    multiprocessors: int

    @classmethod
    def of(cls, device: torch.device) -> Gpu:
        """The GPU behind a torch device; RuntimeError when it is none and nothing interprets the kernels."""
        if device.type != "cuda":
            if INTERPRETED:
                return cls(INTERPRETER, 8)
            raise RuntimeError(f"Wanted a GPU for Triton's kernels, got {device}; choose another attention backend")
        facts = torch.cuda.get_device_properties(device)
        name = getattr(facts, "gcnArchName", "").partition(":")[0] if torch.version.hip else ""
        return cls(name or f"sm_{facts.major}{facts.minor}", facts.multi_processor_count)

    @property
    def converts_e4m3fn(self) -> bool:
        """Whether it has instructions for 8-bit floats of OCP's kind; others take them apart bit by bit."""
        return self.arch == "sm_89" or (self.arch.startswith("sm_") and int(self.arch[3:]) >= 90)
