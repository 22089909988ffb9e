"""`python compile_signatures.py cuda:90 | hip:gfx942`: one signature of each kernel, compiled without its GPU.

A process of its own, since the tests' own interprets. Prints a line for each kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from jackfield_gpu.experts import signatures as of_experts
from jackfield_gpu.linear import signatures as of_linear
from jackfield_gpu.ops import signatures as of_ops
from jackfield_gpu.sampling import signatures as of_sampling

FLOAT8 = {"cuda:90": "fp8e4nv", "hip:gfx942": "fp8e4b8"}


def every(target: str) -> Iterator[Any]:
    for module in (of_ops, of_linear, of_experts, of_sampling):
        yield from module.signatures()
    yield from of_linear.float8_signatures(FLOAT8[target])


def main() -> None:
    backend, _, arch = sys.argv[1].partition(":")
    target = GPUTarget("cuda", int(arch), 32) if backend == "cuda" else GPUTarget("hip", arch, 64)
    first = {}
    for one in every(sys.argv[1]):
        first.setdefault(one.kernel.fn.__name__, one)
    for name, one in first.items():
        types = {argument: one.signature.get(argument, "constexpr") for argument in one.kernel.arg_names}
        source = ASTSource(one.kernel, types, dict(one.constexprs))
        made = triton.compile(source, target=target, options={"num_warps": one.num_warps, "num_stages": one.num_stages})
        print(f"{name} shared {made.metadata.shared}")


if __name__ == "__main__":
    main()
