"""Functions that are faster on a gadget than the plain-torch definitions in `jackfield_platforms.reference`."""

import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.ops import Impl, OpSpec, OpTable


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """One fused operation instead of five."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def only_float32(spec: OpSpec) -> str | None:
    """A refusal says why; `jackfield explain` prints it."""
    return None if spec.dtype == "float32" else f"the fused norm rounds differently in {spec.dtype}"


OPS = OpTable(rms_norm=(Impl("gadget", rms_norm, only_float32),))
