"""A plan that is nothing but tensors on the device, in one dataclass, filled from host arrays in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

Arrays = Sequence[npt.NDArray[np.generic]]


@dataclass
class PlanTensors:
    """What the dataclasses of plans inherit."""

    def fill(self, arrays: Arrays) -> None:
        """Copy host arrays of the same shapes in."""
        for slot, array in zip(fields(self), arrays, strict=True):
            getattr(self, slot.name).copy_(torch.from_numpy(array))

    def replace(self, arrays: Arrays) -> None:
        """Take host arrays of any shape, where the bucket leaves the sizes open."""
        for slot, array in zip(fields(self), arrays, strict=True):
            setattr(self, slot.name, torch.from_numpy(array).to(getattr(self, slot.name).device))
