"""Multi-head latent attention in the absorbed form: what is cached is what is attended to.

Each head's keys and values are products of one latent a token. Instead of making them, the product with the keys'
matrix moves to the query, and that with the values' matrix behind the softmax; attention itself then runs over latents
that all heads share (DeepSeek-V2, 2024, section 2.1 and appendix C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jackfield.config.latent_config import LatentConfig
from jackfield.layers.linear import Linear
from jackfield.layers.norm import RMSNorm
from jackfield.layers.packable import Packable
from jackfield.layers.rope import score_factor
from jackfield.models.interface import Build, StepInputs
from jackfield_platforms.attention import AttentionNeed, Rope
from jackfield_platforms.dequant_linear import dequantise
from jackfield_platforms.kv import Latent
from jackfield_platforms.linear import LinearSpec, ParamSpec
from jackfield_platforms.refusal import Refused

_NORM_EPS = 1e-6  # of the norms of latents, whatever the config says of the others


class LatentExpansion(Packable):
    """`kv_b_proj`, cut into each head's matrix of keys and of values, which are multiplied apart from each other."""

    keys: Tensor  # [heads, nope_dim, rank]
    values: Tensor  # [heads, rank, v_dim]

    def __init__(self, build: Build, name: str) -> None:
        super().__init__(name)
        latent, heads = _latent(build), build.config.num_heads
        self.shape = (heads, latent.nope_dim, latent.v_dim)
        sizes = (heads * (latent.nope_dim + latent.v_dim),)
        self.spec, self.dtype = LinearSpec(name, latent.rank, sizes, build.dtype_name), build.dtype
        self.method = build.quant(name)
        reason = self.method.rejects(self.spec, build.capabilities)
        if reason is not None:
            raise Refused(f"Weight format {self.method.name!r} cannot serve {name}: {reason}")

    def params(self) -> Mapping[str, ParamSpec]:
        return self.method.params(self.spec)

    def pack(self, params: dict[str, Tensor]) -> None:
        encoded = self.method.encode(params, self.spec)
        weight = encoded.data
        if not encoded.encoding.is_plain:
            weight = dequantise(encoded, slice(0, self.spec.out_size))
            if encoded.order is not None:
                weight = torch.empty_like(weight).index_copy_(1, encoded.order, weight)
        heads, nope_dim, v_dim = self.shape
        keys, values = weight.to(self.dtype).view(heads, nope_dim + v_dim, -1).split((nope_dim, v_dim), dim=1)
        self.keys, self.values = keys.contiguous(), values.transpose(1, 2).contiguous()


class LatentAttention(nn.Module):
    """Projections into and out of the latents, around the step's `attend`."""

    def __init__(self, build: Build, layer: int) -> None:
        super().__init__()
        config, latent, name = build.config, _latent(build), f"model.layers.{layer}.self_attn"
        if build.comm.size > 1:
            raise Refused(f"Latent attention ({config.architecture}) is not split over ranks; serve it on one")
        hidden, dtype, bias = config.hidden_size, build.dtype_name, config.attention_bias
        self.slot, self.latent = layer - build.layers.start, latent
        queries = (config.num_heads * latent.head_dim,)

        def linear(part: str, in_size: int, out_sizes: tuple[int, ...], bias: bool = False) -> Linear:
            return Linear(build, LinearSpec(f"{name}.{part}", in_size, out_sizes, dtype, bias))

        self.q_a_proj: Linear | None = None  # queries may go through a latent of their own
        if latent.query_rank is None:
            self.q_proj = linear("q_proj", hidden, queries)
        else:
            self.q_a_proj = linear("q_a_proj", hidden, (latent.query_rank,), bias)
            self.q_a_norm = RMSNorm(build, f"{name}.q_a_layernorm", latent.query_rank, eps=_NORM_EPS)
            self.q_proj = linear("q_b_proj", latent.query_rank, queries)
        self.kv_a_proj = linear("kv_a_proj_with_mqa", hidden, (latent.rank + latent.rope_dim,), bias)
        self.kv_a_norm = RMSNorm(build, f"{name}.kv_a_layernorm", latent.rank, eps=_NORM_EPS)
        self.expansion = LatentExpansion(build, f"{name}.kv_b_proj")
        self.o_proj = linear("o_proj", config.num_heads * latent.v_dim, (hidden,), bias)
        self.rotary = build.ops.rotary

    def forward(self, x: Tensor, step: StepInputs, rope: Rope) -> Tensor:
        """`[tokens, hidden]` to `[tokens, hidden]`."""
        sizes = self.latent
        queries = x if self.q_a_proj is None else self.q_a_norm(self.q_a_proj(x, step))
        q = self.q_proj(queries, step).unflatten(-1, (-1, sizes.head_dim))  # [tokens, heads, nope_dim + rope_dim]
        q_nope, q_rope = q.split((sizes.nope_dim, sizes.rope_dim), dim=-1)
        latent, k_rope = self.kv_a_proj(x, step).split((sizes.rank, sizes.rope_dim), dim=-1)
        q_rope, k_rope = self.rotary(q_rope, k_rope[:, None], rope.table, rope.positions, sizes.interleaved)
        absorbed = torch.bmm(q_nope.transpose(0, 1), self.expansion.keys).transpose(0, 1)  # [tokens, heads, rank]
        q, k = torch.cat((absorbed, q_rope), dim=-1), torch.cat((self.kv_a_norm(latent)[:, None], k_rope), dim=-1)
        attended = step.attend(self.slot, q, k, k[..., : sizes.rank], None)  # [tokens, heads, rank]
        values = torch.bmm(attended.transpose(0, 1), self.expansion.values).transpose(0, 1)
        out: Tensor = self.o_proj(values.flatten(-2), step)
        return out


def _latent(build: Build) -> LatentConfig:
    latent = build.config.latent
    assert latent is not None, "the config of an architecture in LATENT_ARCHITECTURES has latent sizes"
    return latent


def latent_need(build: Build) -> AttentionNeed:
    """What a layer of latent attention asks of an attention backend."""
    latent, dtype = _latent(build), str(build.kv_dtype).removeprefix("torch.")
    scale = latent.head_dim**-0.5 * score_factor(build.config.rope)
    kv = Latent(latent.rank, latent.rope_dim, dtype)
    return AttentionNeed(kv, query_heads=build.config.num_heads, scale=scale, query_dtype=build.dtype_name)
