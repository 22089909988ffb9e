"""Time of one layer's experts, the kernels' beside plain torch, and how many bytes of weights they read a second.

python benchmarks/experts_layer.py [--experts 32 --hidden 2048 --inner 768 --top 8]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from jackfield_cpu.kernels import kernels
from jackfield_cpu.native_experts import experts
from jackfield_cpu.native_linear import NativeLinear
from jackfield_platforms.experts import ExpertsSpec, ExpertWeights, plain_experts
from jackfield_platforms.fusion import FusedLinear, PackedLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearOp, LinearSpec, TorchLinear

TOKENS = (1, 32, 512)
ENCODING = Encoding("float", 16)


def main() -> None:
    """Print a line a number of tokens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("experts", 32), ("hidden", 2048), ("inner", 768), ("top", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = parser.parse_args()
    found = kernels()
    layers = (
        LinearSpec("gate_up", sizes.hidden, (sizes.inner, sizes.inner), "bfloat16"),
        LinearSpec("down", sizes.inner, (sizes.hidden,), "bfloat16"),
    )
    weights = [[_random(layer) for _ in range(sizes.experts)] for layer in layers]
    native, torch_op = NativeLinear(found), TorchLinear()
    answer = experts(found, _spec(sizes, layers, native))
    if isinstance(answer, str):
        raise SystemExit(answer)
    products = {
        "native": answer(_packed(weights, native)),
        "plain, native products": plain_experts(_spec(sizes, layers, native), _packed(weights, native)),
        "plain, torch products": plain_experts(_spec(sizes, layers, torch_op), _packed(weights, torch_op)),
    }
    expert_bytes = 3 * sizes.hidden * sizes.inner * 2
    for tokens in TOKENS:
        x = torch.randn(tokens, sizes.hidden, dtype=torch.bfloat16)
        logits = torch.randn(tokens, sizes.experts, dtype=torch.bfloat16)
        read = len(logits.float().topk(sizes.top).indices.unique()) * expert_bytes
        flops = 2 * tokens * sizes.top * expert_bytes / 2
        for name, product in products.items():
            seconds = _seconds(lambda product=product, x=x, logits=logits: product(x, logits))
            rates = f"{read / seconds / 1e9:6.1f} GB/s of weights, {flops / seconds / 1e9:7.1f} GFLOP/s"
            print(f"{tokens:4} tokens  {name:24} {seconds * 1e3:8.3f} ms  {rates}")


def _random(layer: LinearSpec) -> torch.Tensor:
    return (torch.randn(layer.out_size, layer.in_size) * layer.in_size**-0.5).to(torch.bfloat16)


def _spec(sizes: argparse.Namespace, layers: tuple[LinearSpec, LinearSpec], op: LinearOp) -> ExpertsSpec:
    gate_up, down = (FusedLinear(layer, ENCODING, op.name) for layer in layers)
    return ExpertsSpec(
        dtype="bfloat16",
        hidden_size=sizes.hidden,
        inner_size=sizes.inner,
        num_experts=sizes.experts,
        top=sizes.top,
        renormalize=True,
        gate_up=gate_up,
        down=down,
    )


def _packed(weights: list[list[torch.Tensor]], op: LinearOp) -> ExpertWeights:
    """The same weights, packed by one op."""
    gate_up, down = (
        tuple(PackedLinear(op, op.pack(Encoded(ENCODING, one.clone()))) for one in every) for every in weights
    )
    return ExpertWeights(gate_up, down)


def _seconds(run: Callable[[], object], at_least: float = 1.0) -> float:
    """The median of runs of a second in all, and of five at least."""
    run()
    times: list[float] = []
    while len(times) < 5 or sum(times) < at_least:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    with torch.inference_mode():
        main()
