"""What must be installed beside a GPU's driver, and is told without importing it."""

from __future__ import annotations

import importlib.util
from typing import Literal

import msgspec

from jackfield_gpu.torch_build import TorchBuild, installed_torch

Api = Literal["CUDA", "ROCm"]


class Software(msgspec.Struct, frozen=True):
    """The torch that would be imported, None: there is none; and whether Triton is there."""

    torch: TorchBuild | None
    triton: bool

    def lacks(self, api: Api) -> str | None:
        """Why this cannot drive a GPU through `api`, or None."""
        if self.torch is None:
            return f"torch is not installed; install one that is built for {api}"
        if not (self.torch.cuda if api == "CUDA" else self.torch.hip):
            return f"{self.torch.describe()}; install one that is built for {api}"
        if not self.triton:
            return "triton is not installed, which compiles the kernels"
        return None


def installed_software() -> Software:
    """What `import` would find in this process."""
    return Software(installed_torch(), importlib.util.find_spec("triton") is not None)
