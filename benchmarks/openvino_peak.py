"""Matrix products by OpenVINO, for `matrix_peak.py`: a JSON line a size and format. Needs openvino and numpy only.

int8 is a float activation that OpenVINO quantises itself beside weights that are compressed to int8, as its language
models run, and a product of numbers that are quantised before it (FakeQuantize), as its converted vision models do.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def weights(size: list[int]) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(0).standard_normal(size, dtype=np.float32)


def plain(size: list[int], rows: int) -> ov.Model:
    """A float32 product; the precision that it runs in is an option of the compilation."""
    x = ops.parameter([rows, size[1]], np.float32)
    return ov.Model([ops.matmul(x, ops.constant(weights(size)), False, True)], [x])


def compressed(size: list[int], rows: int) -> ov.Model:
    """int8 weights with a scale a row, widened in the graph: OpenVINO fuses that into the product."""
    x = ops.parameter([rows, size[1]], np.float32)
    data = np.random.default_rng(0).integers(-127, 128, size).astype(np.int8)
    wide = ops.convert(ops.constant(data), np.float32)
    scaled = ops.multiply(wide, ops.constant(np.full((size[0], 1), 0.01, np.float32)))
    return ov.Model([ops.matmul(x, scaled, False, True)], [x])


def quantised(size: list[int], rows: int) -> ov.Model:
    """Both sides in 8 bits before the product."""
    x = ops.parameter([rows, size[1]], np.float32)
    low, high = (ops.constant(np.float32(v)) for v in (-4.0, 4.0 * 127 / 128))
    activations = ops.fake_quantize(x, low, high, low, high, 256)
    floor, top = (ops.constant(np.float32(v)) for v in (-4.0, 4.0))
    weight = ops.fake_quantize(ops.constant(weights(size)), floor, top, floor, top, 255)
    return ov.Model([ops.matmul(activations, weight, False, True)], [x])


WAYS: tuple[tuple[str, str, Callable[[list[int], int], ov.Model], dict[str, Any]], ...] = (
    ("OpenVINO", "float32", plain, {"INFERENCE_PRECISION_HINT": "f32"}),
    ("OpenVINO", "bfloat16", plain, {"INFERENCE_PRECISION_HINT": "bf16"}),
    ("OpenVINO dynamic", "int8", compressed, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "18446744073709551615"}),
    ("OpenVINO quantised", "int8", quantised, {}),
)


def best_seconds(request: ov.InferRequest, tries: int) -> float:
    """The shortest of `tries` after a first one; fewer where one takes more than a second."""
    times = []
    for _ in range(tries + 1):
        start = time.perf_counter()
        request.infer()
        times.append(time.perf_counter() - start)
        if times[-1] > 1:
            break
    return min(times)


def main() -> None:
    plan = json.loads(sys.argv[1])
    core = ov.Core()
    for by, format, build, options in WAYS:
        settings = {"INFERENCE_NUM_THREADS": plan["threads"], "PERFORMANCE_HINT": "LATENCY", **options}
        try:
            for product, size in plan["products"].items():
                for rows in plan["rows"]:
                    request = core.compile_model(build(size, rows), "CPU", settings).create_infer_request()
                    x = np.random.default_rng(1).standard_normal((rows, size[1]), dtype=np.float32)
                    request.set_input_tensor(ov.Tensor(x))
                    rate = 2 * rows * size[0] * size[1] / best_seconds(request, plan["tries"])
                    print(json.dumps({"by": by, "format": format, "product": product, "rows": rows, "rate": rate}))
        except RuntimeError as error:
            print(json.dumps({"by": by, "format": format, "why": str(error).strip().splitlines()[-1]}))


if __name__ == "__main__":
    main()
