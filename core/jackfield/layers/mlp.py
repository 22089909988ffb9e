"""The gated feed-forward block (SwiGLU; Shazeer, 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from jackfield.layers.linear import Linear
from jackfield.layers.shards import part
from jackfield.models.interface import Build, StepInputs
from jackfield_platforms.linear import LinearSpec


class MLP(nn.Module):
    """`down(silu(gate(x)) * up(x))`, gate and up as one product; a partial sum where the model is sharded."""

    def __init__(self, build: Build, layer: int) -> None:
        super().__init__()
        config, name = build.config, f"model.layers.{layer}.mlp"
        dtype, bias = build.dtype_name, config.mlp_bias
        hidden, shard = config.hidden_size, part(config.intermediate_size, build.comm)
        inner = shard.size
        gate_up = LinearSpec(f"{name}.gate_up_proj", hidden, (inner, inner), dtype, bias, shard="column")
        down = LinearSpec(f"{name}.down_proj", inner, (hidden,), dtype, bias, shard="row")
        self.gate_up_proj = Linear(build, gate_up, parts=("gate_proj", "up_proj"), shards=(shard, shard))
        self.down_proj = Linear(build, down, shards=(shard,))
        self.silu_mul = build.ops.silu_mul

    def forward(self, x: Tensor, step: StepInputs) -> Tensor:
        out: Tensor = self.down_proj(self.silu_mul(self.gate_up_proj(x, step)), step)
        return out
