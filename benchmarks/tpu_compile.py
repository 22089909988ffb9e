"""Compiles what a TPU would be given, for TPUs that are not here: attention's kernel by itself, and whole programs.

    python benchmarks/tpu_compile.py [--chips v4 v5e v5p v6e] [--parts kernel programs] [--match NAME] [--json FILE]

Needs torch 2.9 and torch_xla 2.9 with JAX and libtpu of the releases that it pins (pip install "jackfield-tpu[xla]"),
and no TPU: libtpu compiles for a topology by name. Each program is traced through torch-xla as it is on a chip, its HLO
is handed to libtpu, and what came of it is printed: seconds, kernels in it, bytes of code, and of temporary memory.

Programs are those that the engine captures when it starts, of a small Qwen3 and of a Llama with heads of 64.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.update(PJRT_DEVICE="CPU", JAX_PLATFORMS="cpu")
os.environ.update(  # what libtpu would ask a TPU's machine for
    TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost", TPU_WORKER_ID="0"
)
os.environ.update(TPU_STDERR_LOG_LEVEL="3", TPU_MIN_LOG_LEVEL="3")

import jax
import msgspec
import numpy as np
import torch
import torch_xla
from jax._src.interpreters.mlir import LoweringParameters
from jax._src.lib import _jax, xla_client
from jax.experimental import topologies
from torch import Tensor
from torch.utils import _pytree as pytree
from torch_xla.experimental import custom_kernel

from jackfield.config.options import EngineOptions
from jackfield.engine.assembly import draw_blueprint, make_runner
from jackfield.engine.build import prepare
from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.attention import AttentionNeed, LayerKV
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.buffers import tensors
from jackfield_platforms.graph import GraphRunner, ProgramKey
from jackfield_platforms.kv import Paged, Windowed
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_tpu.platform import TpuOnHost
from jackfield_tpu.ragged_attention import RaggedPagedAttention, unserved

TOPOLOGIES = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
KERNEL = "tpu_custom_call"
TILES = 8, 32  # pages and queries at once; on a chip the kernel looks them up by the chip's name
SMALL = {"vocab_size": 4096, "max_position_embeddings": 4096, "tie_word_embeddings": True, "hidden_act": "silu"}
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {
        **SMALL,
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
    },
    "llama": {
        **SMALL,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e5,
    },
}


class OnChip(RaggedPagedAttention):
    """The kernel as if there were a chip."""

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        return unserved(need)

    def tiles(self, num_tokens: int, max_blocks: int) -> tuple[int, int]:
        pages, queries = TILES
        return min(pages, max_blocks), min(queries, num_tokens)


def trace_for_tpu(kernel: Any, *args: Any, static_argnums: Any = None, static_argnames: Any = None, **how: Any) -> Any:
    """In place of `custom_kernel.trace_pallas`, which asks JAX to lower for the device that is here.

    On a chip JAX writes the kernel as the libtpu that it finds can read it; for export it writes what older ones can.
    """
    how.pop("use_cache", None)
    shapes = [custom_kernel.to_jax_shape_dtype_struct(arg) if torch.is_tensor(arg) else arg for arg in args]
    traced = jax.jit(kernel, static_argnums=static_argnums, static_argnames=static_argnames).trace(*shapes, **how)
    for_any = LoweringParameters(for_export=True)
    module = traced.lower(lowering_platforms=("tpu",), _private_parameters=for_any).compiler_ir()
    return custom_kernel._extract_backend_config(module), [arg for arg in args if torch.is_tensor(arg)]


def hlo(results: list[Tensor]) -> str:
    """The program that computes `results`."""
    text: str = torch_xla._XLAC._get_xla_tensors_hlo(results)
    return text


def pending(held: list[Tensor]) -> list[Tensor]:
    """Those of the tensors that a program writes into, after it was traced."""
    waiting = torch_xla._XLAC._check_tensor_need_materialization(held)
    return [tensor for tensor, is_waiting in zip(held, waiting, strict=True) if is_waiting]


class Shape(msgspec.Struct, frozen=True):
    """What a tensor was."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Shape:
        """That of a tensor."""
        return cls(tuple(tensor.shape), tensor.dtype, tensor.device)

    def zeros(self) -> Tensor:
        """A tensor like it."""
        return torch.zeros(self.sizes, dtype=self.dtype, device=self.device)


class Recorder(GraphRunner):
    """Traces what it should capture, keeps the program's text, and computes nothing: outputs are zeros."""

    def __init__(self, programs: dict[str, str]) -> None:
        self._programs, self._outputs = programs, {}

    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        torch_xla.sync(wait=True)
        held = list(tensors((buffers, getattr(program, "__self__", None))).values())
        kept = [tensor.clone() for tensor in held]
        outputs = program(*buffers)
        made = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
        written = pending(held)
        self._programs[f"{key.program} at {key.bucket.describe()} {key.variant}".strip()] = hlo([*made, *written])
        shapes = pytree.tree_map_only(Tensor, Shape.of, outputs)
        for tensor, before in zip(held, kept, strict=True):
            if any(tensor is one for one in written):
                tensor.copy_(before)
        del made, written, outputs
        torch_xla._XLAC._clear_pending_irs(str(torch_xla.device()))
        self._outputs[key] = pytree.tree_map_only(Shape, Shape.zeros, shapes)
        torch_xla.sync(wait=True)
        return 0

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        return self._outputs[key]


class Traced(TpuOnHost):
    """The TPU platform, whose programs are written down."""

    def __init__(self, programs: dict[str, str]) -> None:
        super().__init__()
        self._programs = programs

    def attention_backends(self) -> Any:
        return (OnChip, FlatBlockAttention)

    def graph_runner(self) -> GraphRunner:
        return Recorder(self._programs)


def kernels() -> Iterator[tuple[str, str]]:
    """Attention of one layer, with its writes, by what is special about it: (name, HLO)."""
    decode = Bucket("decode", num_rows=64, num_tokens=64, query_len=1, max_blocks=32)
    mixed = Bucket("mixed", num_rows=64, num_tokens=512, max_blocks=32)
    plain = AttentionNeed(Paged(8, 128, 128, "bfloat16"), 32, 0.09, query_dtype="bfloat16")
    changes: dict[str, AttentionNeed] = {
        "32 / 8 heads": plain,
        "16 / 8 heads": msgspec.structs.replace(plain, query_heads=16),
        "8 / 1 heads": msgspec.structs.replace(plain, kv=Paged(1, 128, 128, "bfloat16"), query_heads=8),
        "32 / 8 heads of 64": msgspec.structs.replace(plain, kv=Paged(8, 64, 64, "bfloat16")),
        "28 / 4 heads of 80": msgspec.structs.replace(plain, kv=Paged(4, 80, 80, "bfloat16"), query_heads=28),
        "12 / 2 heads": msgspec.structs.replace(plain, kv=Paged(2, 128, 128, "bfloat16"), query_heads=12),
        "16 / 16 heads": msgspec.structs.replace(plain, kv=Paged(16, 128, 128, "bfloat16"), query_heads=16),
        "window of 1024": msgspec.structs.replace(plain, kv=Windowed(8, 128, 128, "bfloat16", window=1024)),
        "soft cap": msgspec.structs.replace(plain, soft_cap=30.0),
        "float32": msgspec.structs.replace(plain, kv=Paged(8, 128, 128, "float32"), query_dtype="float32"),
    }
    for name, need in changes.items():
        for bucket in (decode, mixed):
            yield f"{name}, {bucket.phase} of {bucket.num_tokens} tokens", _attention(need, bucket)
    few = Bucket("decode", num_rows=1, num_tokens=1, query_len=1, max_blocks=32)
    yield "32 / 8 heads, decode of 1 token", _attention(plain, few)
    for size in OnChip.block_sizes:
        yield f"32 / 8 heads, blocks of {size}", _attention(plain, decode, size)


def _attention(need: AttentionNeed, bucket: Bucket, block_size: int = 128) -> str:
    device, kv = torch_xla.device(), need.kv
    backend = OnChip(need, block_size, device=device, ops=resolve(OpTable(), OpSpec(need.query_dtype)))
    layer, plan, dtype = LayerKV(backend.allocate(64)), backend.blank(bucket), getattr(torch, need.query_dtype)
    heads = (need.query_heads, kv.k_dim), (kv.kv_heads, kv.k_dim), (kv.kv_heads, kv.v_dim)
    new = [torch.zeros(bucket.num_tokens, *size, dtype=dtype, device=device) for size in heads]
    torch_xla.sync(wait=True)
    out = backend.run(*new, layer, plan)
    text = hlo([out, layer.cache.pages])
    torch_xla._XLAC._clear_pending_irs(str(device))
    return text


def programs(model: str, layers: int) -> Iterator[tuple[str, str]]:
    """Everything that the engine captures when it starts, of a model with random weights: (name, HLO)."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        Path(folder, "config.json").write_text(json.dumps({**MODELS[model], "num_hidden_layers": layers}))
        sizes = {"max_num_seqs": 16, "max_num_batched_tokens": 64, "max_model_len": 2048, "kv_cache_memory": 64 << 20}
        options = EngineOptions(model=folder, platform="tpu-cpu", dtype="bfloat16", load_format="dummy", **sizes)
        blueprint = draw_blueprint(prepare("tpu-cpu"), options)
        make_runner(msgspec.structs.replace(blueprint, platform=Traced(found)), progress=False)
    for name, text in found.items():
        yield f"{model}: {name}", text


def compiled(text: str, device: Any) -> Any:
    """What libtpu makes of a program."""
    module = _jax.hlo_module_from_text(text)
    computation = xla_client.XlaComputation(module.as_serialized_hlo_module_proto())
    stable = _jax.mlir.xla_computation_to_mlir_module(computation)
    options = xla_client.CompileOptions()
    options.device_assignment = xla_client.DeviceAssignment.create(np.array([[device.id]], np.int32))
    code = stable if isinstance(stable, bytes) else stable.encode()
    return device.client.compile(code, executable_devices=_jax.DeviceList((device,)), compile_options=options)


def attempt(name: str, text: str, chip: str, device: Any) -> dict[str, Any]:
    """A line about one program for one chip."""
    line: dict[str, Any] = {"chip": chip, "program": name, "kernels": text.count(f'custom_call_target="{KERNEL}"')}
    start = perf_counter()
    try:
        memory = compiled(text, device).get_compiled_memory_stats()
    except Exception as error:  # whatever the compiler says is the answer
        return {**line, "seconds": round(perf_counter() - start, 1), "failed": str(error)[:300]}
    sizes = {"code": memory.generated_code_size_in_bytes, "temporary": memory.temp_size_in_bytes}
    return {**line, "seconds": round(perf_counter() - start, 1), **sizes}


def main() -> int:
    """Compile, print, and fail if anything did not compile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", choices=TOPOLOGIES, default=list(TOPOLOGIES))
    parser.add_argument("--parts", nargs="+", choices=("kernel", "programs"), default=["kernel", "programs"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--match", default="", help="only programs whose names hold this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    custom_kernel.trace_pallas = trace_for_tpu
    texts = list(kernels()) if "kernel" in options.parts else []
    if "programs" in options.parts:
        texts += [one for model in options.models for one in programs(model, options.layers)]
    texts = [(name, text) for name, text in texts if options.match in name]
    lines = []
    for chip in options.chips:
        (device, *_) = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[chip]).devices
        for name, text in texts:
            lines.append(attempt(name, text, chip, device))
            print(", ".join(f"{field} {value}" for field, value in lines[-1].items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))
    failed = sum("failed" in line for line in lines)
    print(f"{len(lines) - failed} compiled, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
