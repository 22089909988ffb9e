"""Fused decoder layers against the same layer put together from plain definitions in float64."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.attention import AttentionNeed, Rope
from jackfield_platforms.fusion import DecoderSpec, DecoderWeights, Fuse, FusedLinear, PackedLinear
from jackfield_platforms.kv import Paged
from jackfield_platforms.linear import Encoded, Encoding, LinearOp, LinearSpec, TorchLinear, torch_dtype
from jackfield_platforms.testing.conformance import oracle
from jackfield_platforms.testing.conformance.attention_checks import rope_table
from jackfield_platforms.testing.conformance.mismatch import expect, near
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.conformance.tolerances import tolerance

_HIDDEN, _INNER, _HEADS, _KV_HEADS, _DIM, _EPS = 64, 96, 4, 2, 32, 1e-6
_TOKENS = (1, 7, 33)
_ROUNDINGS = 4  # times the tolerance of a product: four products one after another, and norms between them
_PLACE = 3  # what `attend` must be told
_SHAPES = {"llama": (False, False), "qwen3": (True, False), "biased": (False, True)}  # norms of heads, biases


class FusedCase(msgspec.Struct, frozen=True, eq=False):
    """A shape of layer that the platform fuses."""

    subject: Subject
    spec: DecoderSpec
    fuse: Fuse
    ops: dict[str, LinearOp]  # by the name of the product

    def put(self, tensor: Tensor) -> Tensor:
        """On the device, in the layer's dtype, owned by nobody else."""
        return tensor.to(self.subject.platform.device(), torch_dtype(self.spec.dtype), copy=True)


class Wide(msgspec.Struct, frozen=True, eq=False):
    """A layer's weights in float64, exact in its dtype: products by name with their biases, norms by name."""

    products: dict[str, tuple[Tensor, Tensor | None]]
    norms: dict[str, Tensor]

    @classmethod
    def draw(cls, spec: DecoderSpec, seed: int) -> Wide:
        """Random ones, of a size that keeps activations near 1."""
        generator, dtype = torch.Generator().manual_seed(seed), torch_dtype(spec.dtype)

        def normal(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
            return (torch.randn(shape, generator=generator) * scale + mean).to(dtype).double()

        products = {}
        for name, layer in _layers(spec).items():
            weight = normal(layer.out_size, layer.in_size, scale=layer.in_size**-0.5)
            products[name] = weight, normal(layer.out_size) if layer.bias else None
        sizes = {"input": spec.hidden_size, "post_attention": spec.hidden_size, "q": spec.head_dim, "k": spec.head_dim}
        return cls(products, {name: normal(size, scale=0.3, mean=1.0) for name, size in sizes.items()})

    def multiply(self, name: str, x: Tensor) -> Tensor:
        """The product of that name."""
        weight, bias = self.products[name]
        return x @ weight.t() if bias is None else x @ weight.t() + bias


def fused(subject: Subject) -> Iterator[tuple[str, FusedCase]]:
    """Every shape and dtype that the platform fuses, with the linear ops that a launch would choose."""
    for dtype in subject.platform.capabilities().dtypes:
        for name, (qk_norm, bias) in _SHAPES.items():
            spec, ops = _spec(subject, dtype, qk_norm=qk_norm, bias=bias)
            answer = subject.platform.fuse(spec)
            if isinstance(answer, str):
                expect(answer.strip(), f"fuse of {name} in {dtype} refuses without a reason")
            else:
                yield f"{name}-{dtype}", FusedCase(subject, spec, answer, ops)


@torch.inference_mode()
def check_fused_layer(fused: FusedCase, seed: int) -> None:
    """The first layer of a model and a later one; each result, and what `attend` is given."""
    case, wide = fused, Wide.draw(fused.spec, seed)
    layer = case.fuse(_weights(case, wide))
    dtype = torch_dtype(case.spec.dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    for tokens in _TOKENS:
        partial, residual = (torch.randn(tokens, _HIDDEN, generator=generator).to(dtype) for _ in range(2))
        positions = torch.randperm(300, generator=generator)[:tokens].sort().values
        rope = Rope(rope_table(_DIM, 300), positions)
        for first in (True, False):
            attend = _Attend(case, rope)
            given = None if first else case.put(partial)
            got = layer(given, case.put(residual), attend, attend.rope)
            before = torch.zeros(()).double() if first else partial.double()
            wanted = _definition(case.spec, wide, before + residual.double(), rope)
            expect(attend.calls == 1, f"the layer attends {attend.calls} times; wanted once")
            what = f"of {tokens} tokens, {'without' if first else 'with'} a partial sum before it"
            for name, one, right in zip(("partial sum", "residual"), got, wanted, strict=True):
                expect(one.dtype == dtype, f"the {name} {what}: wanted {dtype}; found {one.dtype}")
                near(one, right, _ROUNDINGS * tolerance(case.spec.dtype), f"the {name} {what}")


class _Attend:
    """The step's attention over one sequence, in float64."""

    def __init__(self, case: FusedCase, rope: Rope) -> None:
        device = case.subject.platform.device()
        self.rope = Rope(rope.table.to(device), rope.positions.to(device))
        self._rope, self.calls = rope, 0

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None) -> Tensor:
        self.calls += 1
        expect(layer == _PLACE, f"attend is told layer {layer}; wanted {_PLACE}")
        expect(rope is self.rope, "attend is given another rope than the layer was")
        out = _attention(q.cpu().double(), k.cpu().double(), v.cpu().double(), self._rope)
        return out.to(q.device, q.dtype)


def _attention(q: Tensor, k: Tensor, v: Tensor, rope: Rope) -> Tensor:
    need = AttentionNeed(Paged(_KV_HEADS, _DIM, _DIM, "float32"), _HEADS, _DIM**-0.5)
    q, k = (oracle.rotate(x, rope.table, rope.positions, rope.interleaved) for x in (q, k))
    return oracle.attention(q, k, v, need)


def _definition(spec: DecoderSpec, wide: Wide, residual: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
    x = oracle.rms_norm(residual, wide.norms["input"], _EPS)
    q, k, v = (part.unflatten(-1, (-1, _DIM)) for part in wide.multiply("qkv", x).split(_sizes(), dim=-1))
    if spec.qk_norm:
        q, k = oracle.rms_norm(q, wide.norms["q"], _EPS), oracle.rms_norm(k, wide.norms["k"], _EPS)
    residual = residual + wide.multiply("out", _attention(q, k, v, rope).flatten(-2))
    x = oracle.rms_norm(residual, wide.norms["post_attention"], _EPS)
    return wide.multiply("down", oracle.silu_mul(wide.multiply("gate_up", x))), residual


def _sizes() -> tuple[int, int, int]:
    return _HEADS * _DIM, _KV_HEADS * _DIM, _KV_HEADS * _DIM


def _spec(subject: Subject, dtype: str, *, qk_norm: bool, bias: bool) -> tuple[DecoderSpec, dict[str, LinearOp]]:
    encoding = Encoding("float", 8 * torch_dtype(dtype).itemsize)
    layers = {
        "qkv": LinearSpec("layer.qkv", _HIDDEN, _sizes(), dtype, bias, shard="column"),
        "out": LinearSpec("layer.out", _HEADS * _DIM, (_HIDDEN,), dtype, bias, shard="row"),
        "gate_up": LinearSpec("layer.gate_up", _HIDDEN, (_INNER, _INNER), dtype, bias, shard="column"),
        "down": LinearSpec("layer.down", _INNER, (_HIDDEN,), dtype, bias, shard="row"),
    }
    candidates = (*subject.platform.linear_ops(), TorchLinear())
    ops = {name: next(op for op in candidates if op.rejects(encoding, layer) is None) for name, layer in layers.items()}
    spec = DecoderSpec(
        layer=_PLACE,
        dtype=dtype,
        hidden_size=_HIDDEN,
        inner_size=_INNER,
        query_heads=_HEADS,
        kv_heads=_KV_HEADS,
        head_dim=_DIM,
        eps=_EPS,
        activation="silu",
        qk_norm=qk_norm,
        attention_bias=bias,
        mlp_bias=bias,
        **{name: FusedLinear(layer, encoding, ops[name].name) for name, layer in layers.items()},
    )
    return spec, ops


def _layers(spec: DecoderSpec) -> dict[str, LinearSpec]:
    named = {"qkv": spec.qkv, "out": spec.out, "gate_up": spec.gate_up, "down": spec.down}
    return {name: linear.layer for name, linear in named.items()}


def _weights(case: FusedCase, wide: Wide) -> DecoderWeights:
    spec = case.spec

    def packed(name: str) -> PackedLinear:
        weight, bias = wide.products[name]
        encoding = {"qkv": spec.qkv, "out": spec.out, "gate_up": spec.gate_up, "down": spec.down}[name].encoding
        encoded = Encoded(encoding, case.put(weight), None if bias is None else case.put(bias), dtype=spec.dtype)
        return PackedLinear(case.ops[name], case.ops[name].pack(encoded))

    return DecoderWeights(
        input_norm=case.put(wide.norms["input"]),
        post_attention_norm=case.put(wide.norms["post_attention"]),
        q_norm=case.put(wide.norms["q"]) if spec.qk_norm else None,
        k_norm=case.put(wide.norms["k"]) if spec.qk_norm else None,
        qkv=packed("qkv"),
        out=packed("out"),
        gate_up=packed("gate_up"),
        down=packed("down"),
        comm=case.subject.platform.communicator(),
    )
