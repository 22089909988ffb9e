"""Which linear ops QUANT_CONFIG asks for."""

from __future__ import annotations

import atexit

from jackfield_hpu.float8.config import QuantConfig
from jackfield_hpu.float8.linear import Float8Linear, Float8Settings
from jackfield_hpu.float8.measurements import read
from jackfield_hpu.float8.measuring import MeasuringLinear
from jackfield_hpu.float8.products import TorchProducts, VendorProducts
from jackfield_hpu.float8.scales import METHODS
from jackfield_hpu.generation import generation
from jackfield_platforms.linear import LinearOp


def linear_ops(config: QuantConfig) -> tuple[LinearOp, ...]:
    """Best first. Measurements are written when the process ends; ValueError where they are wanted and not there."""
    if config.mode == "MEASURE":
        measuring = MeasuringLinear(config)
        atexit.register(measuring.save)
        return (measuring,)
    method = METHODS.get(config.scale_method)
    reads = method is not None and not method.dynamic and method.activation != "one"
    settings = Float8Settings(config, generation(), read(config.measurements) if reads else {})
    return tuple(Float8Linear(settings, products) for products in (VendorProducts(), TorchProducts()))
