"""A linear layer: a weight format on one side, a device's way of multiplying on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from torch import Tensor

from jackfield.layers.packable import Packable
from jackfield.layers.shards import Shard
from jackfield.models.interface import Build, StepInputs
from jackfield_platforms.linear import Encoding, LinearOp, LinearSpec, Packed, ParamSpec, QuantMethod
from jackfield_platforms.refusal import Choice, Refused, choose

if TYPE_CHECKING:
    from jackfield.layers.lora_slots import LoraSlots


class Linear(Packable):
    """`x @ weight.T + bias`, `[tokens, in]` to `[tokens, out]`; a row-sharded layer returns its rank's partial sum.

    `parts` names the projections that are fused here and that a checkpoint may hold one by one, in the order of
    `spec.out_sizes`. `choice` says which op serves and why better ones refused; it is None until the weight is there.
    `shards` says which part of the layer `spec` is: of each output where it is cut by columns, of the inputs where by
    rows; the bias of the latter is added by rank 0 alone.
    """

    choice: Choice[LinearOp] | None
    packed: Packed
    multiply: Callable[[Tensor, Packed], Tensor]
    gather: Callable[[Packed, Tensor], Tensor]
    lora: LoraSlots | None = None  # set where the engine serves adapters

    def __init__(
        self,
        build: Build,
        spec: LinearSpec,
        *,
        parts: tuple[str, ...] = (),
        alias: str | None = None,
        shards: Sequence[Shard] = (),
    ) -> None:
        shares = dict(zip(parts, spec.out_sizes, strict=True)) if parts else None
        super().__init__(spec.name, parts=shares, alias=alias)
        if spec.shard == "row" and build.comm.rank > 0 and spec.bias:
            spec, self.elsewhere = msgspec.structs.replace(spec, bias=False), ("bias",)
        self.spec, self.method, self.candidates = spec, _method(build, spec.name, parts), build.linear_ops
        reason = self.method.rejects(spec, build.capabilities)
        if reason is not None:
            raise Refused(f"Weight format {self.method.name!r} cannot serve {spec.name}: {reason}")
        self.choice = None
        if build.comm.size > 1:
            self._share(shards)

    def params(self) -> Mapping[str, ParamSpec]:
        return self.method.params(self.spec)

    def pack(self, params: dict[str, Tensor]) -> None:
        encoded = self.method.encode(params, self.spec)
        self.choice = self._choose(encoded.encoding)
        self.multiply, self.gather = self.choice.taken.apply, self.choice.taken.rows
        self.packed = self.choice.taken.pack(encoded)

    def expected_choice(self) -> Choice[LinearOp]:
        """Which op serves, told before the weight is there; Refused when none can."""
        return self._choose(self.method.encoding(self.spec))

    def forward(self, x: Tensor, step: StepInputs | None = None) -> Tensor:
        out = self.multiply(x, self.packed)
        if self.lora is None or step is None or step.adapters is None:
            return out
        return self.lora.add(out, x, step.adapters)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the weight, `[len(ids), in]`: a tied embedding."""
        return self.gather(self.packed, ids)

    def _share(self, shards: Sequence[Shard]) -> None:
        assert shards, f"{self.name} is not said to be shared among ranks"
        if not self.method.shards:
            raise Refused(
                f"Weight format {self.method.name!r} cannot be split among ranks, and {self.name} would be; use "
                "tensor_parallel_size=1, or a checkpoint of plain weights"
            )
        if self.spec.shard == "row":
            (self.in_shard,) = shards
        else:
            self.out_shards = shards

    def _choose(self, encoding: Encoding) -> Choice[LinearOp]:
        return choose(
            f"linear layer {self.name} ({encoding.describe()} weights, {self.spec.dtype} activations)",
            self.candidates,
            lambda op: op.rejects(encoding, self.spec),
            lambda op: op.name,
        )


def _method(build: Build, name: str, parts: tuple[str, ...]) -> QuantMethod:
    """The weight format of a layer; parts are multiplied as one and must share it."""
    names = [f"{name.rpartition('.')[0]}.{part}" for part in parts] or [name]
    methods = {name: build.quant(name) for name in names}
    if any(method != methods[names[0]] for method in methods.values()):
        found = ", ".join(f"{name} in {method.name!r}" for name, method in methods.items())
        raise Refused(f"{name} is one product of parts in one weight format; the checkpoint holds {found}")
    return methods[names[0]]
