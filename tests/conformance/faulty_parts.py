"""Graph runners, plans, ops, linears, communicators and fetches, each wrong in one way."""

from __future__ import annotations

from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch.utils import _pytree as pytree

from jackfield_platforms import reference
from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.ladder import PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets, StaticSizes
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.experts import plain_experts
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.linear import TorchLinear
from jackfield_platforms.testing.plain_fusion import fuse_plain, plain_layer
from jackfield_platforms.testing.strict import StrictPlatform
from jackfield_platforms.torch_communicator import TorchCommunicator

replace = msgspec.structs.replace


class StaleInputs(GraphRunner):
    """Replays what it computed when it was captured."""

    def __init__(self) -> None:
        self.outputs: dict[Any, Any] = {}

    def capture(self, key, program, buffers):
        self.outputs[key] = pytree.tree_map_only(torch.Tensor, torch.clone, program(*buffers))
        return 0

    def run(self, key, program, buffers):
        return self.outputs[key]


class OneOutputForAll(GraphRunner):
    """Outputs of every size lie in one memory."""

    def __init__(self) -> None:
        self.memory: dict[str, torch.Tensor] = {}

    def capture(self, key, program, buffers):
        program(*buffers)
        return 0

    def run(self, key, program, buffers):
        results = program(*buffers)
        return {name: self._keep(name, result) for name, result in results.items()}

    def _keep(self, name, result):
        memory = self.memory.setdefault(name, torch.empty(4096))
        return memory[: result.numel()].copy_(result.flatten()).view(result.shape)


class MovesItsOutputs(GraphRunner):
    """Every replay has outputs of its own."""

    def __init__(self) -> None:
        self.given: list[Any] = []  # kept, so that no address is used again

    def capture(self, key, program, buffers):
        return 0

    def run(self, key, program, buffers):
        self.given.append(program(*buffers))
        return self.given[-1]


class TooSmall(StaticBuckets):
    def place(self, need):
        return tuple(replace(one, bucket=_half(one.bucket)) for one in super().place(need))


def _half(bucket):
    return replace(bucket, num_rows=max(1, bucket.num_rows // 2))


class LosesARow(StaticBuckets):
    def place(self, need):
        first, *others = super().place(need)
        start, stop = first.rows
        return (replace(first, rows=(start, max(stop - 1, start + 1))), *others)


class SmallestFirst(StaticBuckets):
    def buckets(self):
        return super().buckets()[::-1]


class SamplesAtNoCapturedSize(StaticBuckets):
    def sampling_rows(self, num_rows):
        return num_rows


class ForgetsBlocksInJson(StaticBuckets):
    def to_json(self):
        bare = tuple(replace(bucket, max_blocks=0) for bucket in self.sizes.buckets)
        return StaticBuckets(replace(self.sizes, buckets=bare)).to_json()


def planned_by(kind: type[StaticBuckets], share: int = 1) -> Any:
    """`buckets(limits)` of that kind, for limits divided by `share`."""

    def buckets(limits: Limits) -> StaticBuckets:
        less = replace(
            limits,
            max_rows=-(-limits.max_rows // share),
            max_tokens=-(-limits.max_tokens // share),
            max_model_len=-(-limits.max_model_len // share),
        )
        blocks = PowersOfTwo()
        rules = (
            PhaseRule(phase="decode", rows=PowersOfTwo(), blocks=blocks),
            PhaseRule(phase="mixed", tokens=PowersOfTwo(low=16), blocks=blocks),
        )
        sizes: StaticSizes = StaticBuckets.of_rules(rules, less, on_miss="round_up").sizes
        return kind(sizes)

    return buckets


def padded_rows(limits: Limits) -> StaticBuckets:
    """A sound plan of decode rows and of prompts padded to one length."""
    blocks = PowersOfTwo(low=8)
    rules = (
        PhaseRule(phase="decode", rows=PowersOfTwo(), blocks=blocks),
        PhaseRule(phase="mixed", rows=PowersOfTwo(), query=PowersOfTwo(low=16), blocks=blocks),
    )
    return StaticBuckets.of_rules(rules, limits)


def rms_norm_without_eps(x, weight, eps):
    return reference.rms_norm(x, weight, 0.0)


def norm_of_the_sum_alone(partial, residual, weight, eps, comm):
    normed, _ = reference.reduce_add_rms_norm(partial, residual, weight, eps, comm)
    return normed, residual


def norm_of_this_rank_alone(partial, residual, weight, eps, comm):
    return reference.reduce_add_rms_norm(partial, residual, weight, eps, SingleRank())


def rms_norm_in_place(x, weight, eps):
    return x.copy_(reference.rms_norm(x, weight, eps))


def argmax_of_the_last(logits):
    return logits.shape[-1] - 1 - logits.flip(-1).argmax(-1)


def penalties_for_the_prompt(logits, seen, places, factors):
    """Presence and frequency count what the prompt holds, too."""
    return reference.penalize(logits, (seen + 1) // 2 * 2, places, factors)


def penalties_of_the_next(logits, seen, places, factors):
    return reference.penalize(logits, seen, places.roll(1), factors)


def one_more_than_top_k(logits, top_k, top_p):
    return reference.sampling_threshold(logits, (top_k + 1).clamp(max=logits.shape[-1]), top_p)


def a_smaller_top_p(logits, top_k, top_p):
    return reference.sampling_threshold(logits, top_k, top_p * 0.9)


def silu_in_place(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return gate.copy_(F.silu(gate) * up)


def silu_of_the_wrong_half(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return gate * F.silu(up)


def rotary_in_halves_alone(q, k, table, positions, interleaved):
    return reference.rotary(q, k, table, positions, False)


def rotary_in_place(q, k, table, positions, interleaved):
    turned = reference.rotary(q, k, table, positions, interleaved)
    return tuple(x.copy_(new) for x, new in zip((q, k), turned, strict=True))


def lora_of_the_last_slot_for_none(out, x, a, b, adapters, out_sizes):
    return reference.lora_add(out, x, a, b, adapters % len(a), out_sizes)


def fused_with_the_old_residual(spec):
    def fuse(weights):
        layer = plain_layer(spec, weights)
        return lambda partial, residual, *rest: (layer(partial, residual, *rest)[0], residual)

    return fuse


def fused_without_norms_of_heads(spec):
    return lambda weights: fuse_plain(spec)(replace(weights, q_norm=None, k_norm=None))


def experts_of_equal_shares(spec):
    return lambda weights: (
        lambda x, logits: plain_experts(spec, weights)(
            x, logits.masked_fill(logits >= logits.sort(-1).values[:, -spec.top, None], 50.0)
        )
    )


def experts_whose_shares_add_up_to_one(spec):
    return lambda weights: plain_experts(replace(spec, renormalize=True), weights)


class DropsBias(TorchLinear):
    name = "drops-bias"

    def apply(self, x, packed):
        return F.linear(x, packed.data)


class ReadsRowsInOrder(TorchLinear):
    name = "rows-in-order"

    def rows(self, packed, ids):
        return F.embedding(ids.sort().values, packed.data)


class KeepsTheLastWeight(TorchLinear):
    name = "last-weight"

    def pack(self, encoded):
        self.packed = encoded
        return encoded

    def apply(self, x, packed):
        return F.linear(x, self.packed.data, self.packed.bias)


class KeepsEveryWeight(TorchLinear):
    name = "every-weight"
    kept: list[Any] = []  # noqa: RUF012

    def pack(self, encoded):
        self.kept.append(encoded)
        return encoded


class Doubles(SingleRank):
    def all_reduce(self, x):
        return x + x


class Stacks(SingleRank):
    def all_gather(self, x, dim=-1):
        return torch.stack((x,), dim)


def fetch_before_the_copy(tensor):
    return lambda: tensor


def fetch_without_a_wait(tensor):
    host = torch.full_like(tensor, -7)
    return lambda: host


class _SharedByRanks(StrictPlatform):
    """Splits a model among ranks, each talking through `communicates`."""

    communicates = TorchCommunicator

    def capabilities(self):
        return msgspec.structs.replace(super().capabilities(), max_ranks=None)

    def communicator(self, rank=0, size=1, meeting=""):
        made = super().communicator(rank, size, meeting)
        return made if size == 1 else self.communicates(made._group)


class _Backwards(TorchCommunicator):
    def all_gather(self, x, dim=-1):
        return torch.cat(super().all_gather(x, dim).chunk(self.size, dim)[::-1], dim)


class _Own(TorchCommunicator):
    def broadcast(self, x, source=0):
        super().broadcast(x.clone(), source)
        return x


class GathersBackwards(_SharedByRanks):
    communicates = _Backwards


class SendsItsOwn(_SharedByRanks):
    communicates = _Own


class IgnoresOrder(TorchDequantLinear):
    """Columns are taken as they lie, in products."""

    name = "ignores-order"

    def apply(self, x, packed):
        return super().apply(x, replace(packed, order=None))


class TakesScaledFloatsForPlain(TorchLinear):
    name = "scaled-for-plain"

    def rejects(self, encoding, layer):
        return None if encoding.kind == "float" else "no float"

    def apply(self, x, packed):
        return F.linear(x, packed.data.to(x.dtype), packed.bias)


class RowsAsTheyLie(TorchDequantLinear):
    name = "rows-as-they-lie"

    def rows(self, packed, ids):
        return super().rows(replace(packed, order=None), ids)
