"""A feed-forward block of experts, of which each token is sent to a few (Shazeer et al., 2017).

A platform may have all of a layer's experts in one call; it is asked once, when their weights are packed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from torch import Tensor, nn

from jackfield.layers.linear import Linear
from jackfield.layers.shards import Shard, part
from jackfield.models.interface import Build, Model, StepInputs
from jackfield_platforms.experts import ExpertsFn, ExpertsSpec, ExpertWeights, plain_experts
from jackfield_platforms.fusion import FusedLinear, PackedLinear
from jackfield_platforms.graph import EagerRunner
from jackfield_platforms.linear import LinearSpec
from jackfield_platforms.platform import Platform
from jackfield_platforms.refusal import Refused


class ExpertNames(msgspec.Struct, frozen=True):
    """What a family's checkpoints call the parts: the block within its layer, the projections of an expert."""

    block: str = "mlp"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


class Experts(nn.Module):
    """`sum of share * down(silu(gate(x)) * up(x))` over a token's experts; a partial sum where the model is sharded.

    Every rank holds a part of each expert. `jackfield.engine.weight_formats` keeps the router plain.
    """

    product: ExpertsFn  # set by `choose`

    def __init__(self, build: Build, layer: int, names: ExpertNames) -> None:
        super().__init__()
        assert build.config.experts is not None, "only layers with experts are built"
        self.build, self.config = build, build.config.experts
        if build.lora is not None:
            raise Refused("LoRA adapters are not served on mixtures of experts; merge them, or leave out enable_lora")
        name, hidden, count = f"model.layers.{layer}.{names.block}", build.config.hidden_size, self.config.num_experts
        router = LinearSpec(f"{name}.gate", hidden, (count,), build.dtype_name)
        self.gate = Linear(build, router, shards=(Shard(0, count, count),))
        shard = part(self.config.inner_size, build.comm)
        every = [f"{name}.experts.{number}" for number in range(count)]
        self.gate_up = nn.ModuleList(_gate_up(build, expert, names, shard) for expert in every)
        self.down = nn.ModuleList(_down(build, f"{expert}.{names.down}", shard) for expert in every)

    def spec(self) -> ExpertsSpec:
        """The experts as data; Refused where nobody serves one of their products."""
        gate_up, down = _linears(self.gate_up), _linears(self.down)
        return ExpertsSpec(
            dtype=self.build.dtype_name,
            hidden_size=self.build.config.hidden_size,
            inner_size=gate_up[0].spec.out_sizes[0],
            num_experts=self.config.num_experts,
            top=self.config.top,
            renormalize=self.config.renormalize,
            gate_up=_described(gate_up),
            down=_described(down),
        )

    def choose(self, platform: Platform) -> None:
        """Take the platform's own product, else the plain one. All weights are packed."""
        spec, weights = self.spec(), ExpertWeights(_packed(_linears(self.gate_up)), _packed(_linears(self.down)))
        answer = platform.experts(spec)
        if not isinstance(answer, str):
            self.product = answer(weights)
        elif (reason := plain_refusal(platform)) is not None:
            raise Refused(f"{self.gate.name}: platform {platform.name!r} says: {answer}. Plain torch cannot: {reason}")
        else:
            self.product = plain_experts(spec, weights)

    def forward(self, x: Tensor, step: StepInputs) -> Tensor:
        return self.product(x, self.gate(x, step))


def expert_layers(model: Model) -> list[Experts]:
    """The blocks of experts, in order."""
    return [module for module in model.modules() if isinstance(module, Experts)]


def plain_refusal(platform: Platform) -> str | None:
    """Why plain torch cannot multiply by experts there, or None."""
    if platform.capabilities().static_shapes or not isinstance(platform.graph_runner(), EagerRunner):
        return "its sizes depend on what the tokens hold, and programs there have fixed ones; serve a dense model"
    return None


def _gate_up(build: Build, expert: str, names: ExpertNames, shard: Shard) -> Linear:
    sizes = (shard.size, shard.size)
    spec = LinearSpec(f"{expert}.gate_up_proj", build.config.hidden_size, sizes, build.dtype_name, shard="column")
    return Linear(build, spec, parts=(names.gate, names.up), shards=(shard, shard))


def _down(build: Build, name: str, shard: Shard) -> Linear:
    spec = LinearSpec(name, shard.size, (build.config.hidden_size,), build.dtype_name, shard="row")
    return Linear(build, spec, shards=(shard,))


def _linears(modules: nn.ModuleList) -> list[Linear]:
    return [module for module in modules if isinstance(module, Linear)]


def _described(linears: Sequence[Linear]) -> FusedLinear:
    """Of the first; Refused where another is written or multiplied otherwise."""
    first, *others = (
        FusedLinear(one.spec, one.method.encoding(one.spec), one.expected_choice().taken.name) for one in linears
    )
    for other in others:
        if (other.encoding, other.op) != (first.encoding, first.op):
            raise Refused(
                f"The experts of a layer share one weight format: {first.layer.name} has {first.encoding.describe()} "
                f"weights multiplied by {first.op!r}, {other.layer.name} {other.encoding.describe()} by {other.op!r}"
            )
    return first


def _packed(linears: Sequence[Linear]) -> tuple[PackedLinear, ...]:
    choices = [(one.choice, one.packed) for one in linears]
    assert all(choice is not None for choice, _ in choices), "weights are packed before a product is chosen"
    return tuple(PackedLinear(choice.taken, packed) for choice, packed in choices if choice is not None)
