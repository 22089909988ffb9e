"""What a GPU does with the CUDA or ROCm plugin: right or wrong, then figures as shares of what the device can do.

    python benchmarks/gpu.py [--platform cuda] [--minutes 8] [--parts check attention prefill model mix] [--json FILE]
    TRITON_INTERPRET=1 python benchmarks/gpu.py --platform cuda-interpreted --tiny

Never run on a GPU yet: none was at hand when it was written. The second line is what a test runs: it shows that the
script works, and its figures mean nothing. Each part prints its lines as soon as it has them, and what does
not fit into the minutes is left out by name. Times are medians of device time (events around a few runs), after runs
that are not counted; those of steps are wall time. Caches of one case are larger together than the device's own, and
runs go round them.

    check      the conformance kit, one seed
    attention  decode: bytes of keys and values a second, over what copying reaches (both ways counted)
    prefill    operations a second, over what a bfloat16 matrix product reaches
    model      a decode step of random weights in real shapes, over the bytes that it must read
    mix        tokens a second of a mix of lengths
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from gpu_parts.attention import decode_attention, prefill_attention
from gpu_parts.engine import mix, model
from gpu_parts.sizes import FULL, TINY, Sizes
from gpu_parts.speed import Clock, Speed

from jackfield_gpu.platform import GpuPlatform
from jackfield_platforms.loading import load

KIT_SECONDS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", default="cuda")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--parts", nargs="+", default=["check", "attention", "prefill", "model", "mix"])
    parser.add_argument("--json", help="a file for all figures")
    parser.add_argument("--tiny", action="store_true", help="sizes that Triton's interpreter is done with in a minute")
    arguments = parser.parse_args()
    clock, found, sizes = Clock(arguments.minutes), {}, TINY if arguments.tiny else FULL
    parts = {"check": check, "attention": decode_attention, "prefill": prefill_attention, "model": model, "mix": mix}
    plugins = load(arguments.platform)
    platform = plugins.platform(arguments.platform)
    assert isinstance(platform, GpuPlatform)
    print(f"{platform.describe()}, torch {torch.__version__}")
    speed = Speed.measured(platform, sizes)
    print(f"copy {speed.bytes_s / 1e12:.2f} TB/s, bfloat16 product {speed.flop_s / 1e12:.0f} TFLOP/s")
    for name in arguments.parts:
        try:
            found[name] = parts[name](platform, speed, clock, sizes)
        except (RuntimeError, ValueError, AssertionError) as error:  # the other parts may still tell something
            print(f"{name} FAILED: {type(error).__name__}: {error}")
            found[name] = f"{type(error).__name__}: {error}"
        torch.cuda.empty_cache()
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"copy": speed.bytes_s, "product": speed.flop_s, **found}))


def check(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> str:
    """The kit in a process of its own, so that a fault of the device ends with it."""
    command = [sys.executable, "-m", "jackfield_platforms.testing.conformance", platform.name, *sizes.kit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=KIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"check: not done within {KIT_SECONDS} s")
        return "not done"
    lines = done.stdout.strip().splitlines()
    print("\n".join(["check:", *lines[-25:]]))
    return lines[-1] if lines else done.stderr[-500:]


if __name__ == "__main__":
    main()
