"""Self-attention: one fused projection in, the step's `attend`, one projection out."""

from __future__ import annotations

from torch import Tensor, nn

from jackfield.layers.linear import Linear
from jackfield.layers.norm import RMSNorm
from jackfield.layers.shards import kv_heads, query_heads
from jackfield.models.interface import Build, StepInputs
from jackfield_platforms.attention import AttentionNeed, Rope
from jackfield_platforms.kv import KVSpec, Paged, Windowed
from jackfield_platforms.linear import LinearSpec


class Attention(nn.Module):
    """Grouped-query attention with rotary positions; with `qk_norm` each head of q and k is normed before that."""

    def __init__(self, build: Build, layer: int, qk_norm: bool = False) -> None:
        super().__init__()
        config, name = build.config, f"model.layers.{layer}.self_attn"
        dtype = build.dtype_name
        self.slot = layer - build.layers.start
        self.head_dim = config.head_dim
        queries = query_heads(config, build.comm).times(self.head_dim)
        keys = kv_heads(config, build.comm).times(self.head_dim)
        self.sizes = (queries.size, keys.size, keys.size)
        bias = config.attention_bias
        qkv = LinearSpec(f"{name}.qkv_proj", config.hidden_size, self.sizes, dtype, bias, shard="column")
        out = LinearSpec(f"{name}.o_proj", self.sizes[0], (config.hidden_size,), dtype, bias, shard="row")
        self.qkv_proj = Linear(build, qkv, parts=("q_proj", "k_proj", "v_proj"), shards=(queries, keys, keys))
        self.o_proj = Linear(build, out, shards=(queries,))
        self.q_norm = RMSNorm(build, f"{name}.q_norm", self.head_dim) if qk_norm else None
        self.k_norm = RMSNorm(build, f"{name}.k_norm", self.head_dim) if qk_norm else None

    def forward(self, x: Tensor, step: StepInputs, rope: Rope) -> Tensor:
        """`[tokens, hidden]` to `[tokens, hidden]`; a partial sum where the model is sharded."""
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in self.qkv_proj(x, step).split(self.sizes, dim=-1))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        attended = step.attend(self.slot, q, k, v, rope)  # [tokens, heads, head_dim]
        out: Tensor = self.o_proj(attended.flatten(-2), step)
        return out


def attention_need(build: Build, layer: int) -> AttentionNeed:
    """What decoder layer `layer` asks of an attention backend: this rank's heads."""
    config, comm, window = build.config, build.comm, build.config.windows[layer]
    heads, dim, dtype = kv_heads(config, comm).size, config.head_dim, str(build.kv_dtype).removeprefix("torch.")
    kv: KVSpec = Paged(heads, dim, dim, dtype) if window is None else Windowed(heads, dim, dim, dtype, window)
    queries = query_heads(config, comm).size
    return AttentionNeed(kv, query_heads=queries, scale=dim**-0.5, query_dtype=build.dtype_name)
