"""Operations a second of matrix products: the best of torch, oneDNN, OpenVINO and our own kernels, by number format.

Sizes are those of one layer of a 0.6B Qwen3. A product of int8 weights counts as int8 where the arithmetic is integer,
or as what it is multiplied in: that is for the one who reads `by` to judge, so every way is in the table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PRODUCTS = {"qkv": (4096, 1024), "out": (1024, 2048), "gate_up": (6144, 1024), "down": (1024, 3072)}  # [out, in]
ROWS = (512, 2048)
FORMATS = ("float32", "bfloat16", "int8")
TRIES = 4
OPENVINO_SCRIPT = Path(__file__).with_name("openvino_peak.py")

Multiply = Callable[[], Any]


class Way(NamedTuple):
    """Who multiplies. `prepare` takes rows and [out, in], and packs; RuntimeError or ValueError says why not."""

    by: str
    format: str
    prepare: Callable[[int, tuple[int, int]], Multiply]


class Rate(NamedTuple):
    """What one way reached at one size, in operations (multiplications and additions) a second."""

    by: str
    format: str
    product: str
    rows: int
    rate: float


class Refusal(NamedTuple):
    """A way that cannot run here."""

    by: str
    format: str
    why: str


class Peaks(NamedTuple):
    """All that was measured."""

    rates: tuple[Rate, ...]
    refusals: tuple[Refusal, ...]

    def best(self, format: str) -> Rate | None:
        """The fastest in one format at any size."""
        return max((rate for rate in self.rates if rate.format == format), key=lambda rate: rate.rate, default=None)


def measure(
    *, openvino: str | None = None, threads: int | None = None, rows: tuple[int, ...] = ROWS, tries: int = TRIES
) -> Peaks:
    """Every way at every size, torch and ours in this process.

    `openvino` is a Python that has it (None: this one, if it has), asked in a child process.
    """
    torch.set_num_threads(threads or torch.get_num_threads())
    rates: list[Rate] = []
    refusals: list[Refusal] = []
    with torch.inference_mode():
        for way in _ways():
            try:
                rates.extend(_run(way, rows, tries))
            except (RuntimeError, ValueError, NotImplementedError, AttributeError) as error:
                refusals.append(Refusal(way.by, way.format, str(error).strip().splitlines()[0]))
    theirs = _openvino(openvino or sys.executable, threads or torch.get_num_threads(), rows, tries)
    return Peaks((*rates, *theirs.rates), (*refusals, *theirs.refusals))


def best_seconds(multiply: Multiply, tries: int) -> float:
    """The shortest of `tries` after a first one; fewer where one takes more than a second."""
    times = []
    for _ in range(tries + 1):
        start = time.perf_counter()
        multiply()
        times.append(time.perf_counter() - start)
        if times[-1] > 1:
            break
    return min(times)


def _run(way: Way, rows: tuple[int, ...], tries: int) -> Iterator[Rate]:
    for product, size in PRODUCTS.items():
        for count in rows:
            seconds = best_seconds(way.prepare(count, size), tries)
            yield Rate(way.by, way.format, product, count, 2 * count * size[0] * size[1] / seconds)


def _ways() -> Iterator[Way]:
    for format in ("float32", "bfloat16"):
        dtype = getattr(torch, format)
        yield Way("torch F.linear", format, lambda rows, size, dtype=dtype: _linear(rows, size, dtype))
        yield Way("oneDNN packed", format, lambda rows, size, dtype=dtype: _packed(rows, size, dtype))
    yield Way("torch._int_mm", "int8", _int_mm)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        yield Way(f"oneDNN qlinear to {name}", "int8", lambda rows, size, dtype=dtype: _qlinear(rows, size, dtype))
    yield from _ours()


def _linear(rows: int, size: tuple[int, int], dtype: torch.dtype) -> Multiply:
    x, weight = torch.randn(rows, size[1]).to(dtype), torch.randn(size).to(dtype)
    return lambda: F.linear(x, weight)


def _packed(rows: int, size: tuple[int, int], dtype: torch.dtype) -> Multiply:
    x, weight = torch.randn(rows, size[1]).to(dtype), torch.randn(size).to(dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def _int8(*size: int) -> Tensor:
    return torch.randint(-127, 128, size, dtype=torch.int8)


def _int_mm(rows: int, size: tuple[int, int]) -> Multiply:
    x, weight = _int8(rows, size[1]), _int8(*size).t()
    return lambda: torch._int_mm(x, weight)


def _qlinear(rows: int, size: tuple[int, int], to: torch.dtype) -> Multiply:
    """Activations of one scale and zero point, weights of a scale a row."""
    x = torch.randint(0, 256, (rows, size[1]), dtype=torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(_int8(*size), [rows, size[1]])
    scales, zeros = torch.full((size[0],), 0.01), torch.zeros(size[0], dtype=torch.int64)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        x, 0.02, 128, packed, scales, zeros, None, 1.0, 0, to, "none", [], ""
    )


def _ours() -> Iterator[Way]:
    try:
        from jackfield_cpu.kernels import kernels
        from jackfield_cpu.native_linear import NativeLinear
        from jackfield_platforms.linear import Encoded, Encoding, LinearSpec
    except ModuleNotFoundError as error:
        missing = str(error)

        def refuse(rows: int, size: tuple[int, int]) -> Multiply:
            raise RuntimeError(missing)

        yield from (Way("jackfield", format, refuse) for format in FORMATS)
        return
    found = kernels()
    by = f"jackfield {found if isinstance(found, str) else found.name}"
    op = NativeLinear(found)

    def prepare(rows: int, size: tuple[int, int], format: str, activations: str) -> Multiply:
        dtype = getattr(torch, activations)
        encoded = {
            "float32": lambda: Encoded(Encoding("float", 32), torch.randn(size)),
            "bfloat16": lambda: Encoded(Encoding("float", 16), torch.randn(size).bfloat16()),
            "int8": lambda: Encoded(
                Encoding("int", 8, scale="float32"),
                _int8(*size),
                scale=torch.full((size[0], 1), 0.01),
                dtype=activations,
            ),
        }[format]()
        spec = LinearSpec("gate_up", size[1], (size[0],), dtype=activations)
        why = op.rejects(encoded.encoding, spec)
        if why is not None:
            raise ValueError(why)
        x, packed = torch.randn(rows, size[1]).to(dtype), op.pack(encoded)
        return lambda: op.apply(x, packed)

    pairs = (("float32", "float32"), ("bfloat16", "bfloat16"), ("int8", "bfloat16"), ("int8", "float32"))
    for format, activations in pairs:
        name = by if format == activations else f"{by}, {activations} rows"
        yield Way(name, format, lambda rows, size, f=format, a=activations: prepare(rows, size, f, a))


def _openvino(python: str, threads: int, rows: tuple[int, ...], tries: int) -> Peaks:
    """What a child process measures: OpenVINO has threads of its own, and may live in another environment."""
    plan = {"products": PRODUCTS, "rows": rows, "threads": threads, "tries": tries}
    command = [python, str(OPENVINO_SCRIPT), json.dumps(plan)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Peaks((), (Refusal("OpenVINO", ", ".join(FORMATS), why),))
    rates, refusals = [], []
    for line in done.stdout.splitlines():
        record: Mapping[str, Any] = json.loads(line)
        if "why" in record:
            refusals.append(Refusal(**record))
        else:
            rates.append(Rate(**record))
    return Peaks(tuple(rates), tuple(refusals))
