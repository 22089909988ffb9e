"""The plain-torch definition of every op: what is right. Everything fast is compared with these."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.communicator import Communicator

_NUM_HALVINGS = 40  # of an interval of logits: beyond what float32 tells apart


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, the mean in float32 (Zhang and Sennrich, 2019)."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def reduce_add_rms_norm(
    partial: Tensor, residual: Tensor, weight: Tensor, eps: float, comm: Communicator
) -> tuple[Tensor, Tensor]:
    """Sum `partial` over ranks, add the residual, norm. Returns (normed, new residual), shapes of the inputs."""
    residual = residual + comm.all_reduce(partial)
    return rms_norm(residual, weight, eps), residual


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(first half) * second half of the last dimension (SwiGLU, Shazeer, 2020)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def argmax(logits: Tensor) -> Tensor:
    """The place of the highest number in each row: `[rows, vocab]` to `[rows]` int64; of equals the first."""
    return logits.argmax(-1)


def penalize(logits: Tensor, seen: Tensor, places: Tensor, factors: Tensor) -> Tensor:
    """Logits `[rows, vocab]` float32 after repetition, frequency and presence penalties; a new tensor.

    seen `[places, vocab]` int32 holds for each id twice how often it was generated, and 1 more where the prompt has it;
    places `[rows]` int64 names each row's line of it. factors `[rows, 3]` float32; 1, 0, 0 change nothing. Repetition
    divides positive logits of what was seen and multiplies negative ones (Keskar et al., 2019); frequency and presence
    look at generated tokens alone, as OpenAI's do.
    """
    known = seen[places]
    repetition, frequency, presence = factors.unsqueeze(-1).unbind(1)
    repeated = torch.where(logits > 0, logits / repetition, logits * repetition)
    logits = torch.where(known > 0, repeated, logits)
    generated = known >> 1
    return logits - (frequency * generated + presence * (generated > 0))


def sampling_threshold(logits: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """The lowest logit `[rows, 1]` that top-k, then top-p over what it left, renormalised, keep. Ties with it stay.

    logits `[rows, vocab]` float32 after temperature, of which some may be -inf; top_k `[rows]` int64, the vocabulary's
    size when off; top_p `[rows]` float32, 1 when off. No sort, static shapes, no wait for the host: an interval around
    the threshold is halved.
    """
    by_count = _lowest_with(logits, torch.ones_like(logits), top_k.to(logits.dtype))
    kept = logits.masked_fill(logits < by_count, -torch.inf)
    # a float32 sum of probabilities may reach 1 before the last of them: 1 means all, so ask for what no sum reaches
    wanted = torch.where(top_p >= 1, torch.inf, top_p)
    return torch.maximum(by_count, _lowest_with(kept, kept.softmax(-1), wanted))


def lora_add(out: Tensor, x: Tensor, a: Tensor, b: Tensor, adapters: Tensor, out_sizes: Sequence[int]) -> Tensor:
    """`out` and, for each token of `x`, b(a(x)) of its own adapter (Hu et al., 2021).

    out `[tokens, out]`, x `[tokens, in]`, a `[slots, parts, rank, in]`, b `[slots, rank, out]`, adapters `[tokens]` the
    slot of each token, -1 none. Part p of `out`, `out_sizes[p]` wide, comes from `a[:, p]`. Shapes depend on no value:
    the narrow product is made for every slot, and those of other adapters are dropped. Returns a new tensor.
    """
    slots = a.shape[0]
    narrow = F.linear(x, a.flatten(0, 2)).unflatten(-1, a.shape[:3])  # [tokens, slots, parts, rank]
    own = adapters[:, None] == torch.arange(slots, device=x.device)
    narrow = torch.where(own[:, :, None, None], narrow, 0)
    wide = b.flatten(0, 1).split(tuple(out_sizes), dim=-1)  # each [slots * rank, part]
    return out + torch.cat([narrow[:, :, part].flatten(1) @ rows for part, rows in enumerate(wide)], dim=-1)


def rotary(q: Tensor, k: Tensor, table: Tensor, positions: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """Rotate the first `rotary_dim` elements of each head (Su et al., 2021).

    q `[tokens, heads, dim]`, k `[tokens, kv_heads, dim]`; table `[max_positions, rotary_dim]` float32, cosines then
    sines; positions `[tokens]`. Returns new tensors.
    """
    cos, sin = table[positions].to(q.dtype).unsqueeze(1).chunk(2, dim=-1)  # [tokens, 1, rotary_dim / 2]
    return _rotate(q, cos, sin, interleaved), _rotate(k, cos, sin, interleaved)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    half = cos.shape[-1]
    turned, rest = x[..., : 2 * half], x[..., 2 * half :]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        out = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    else:
        a, b = turned.chunk(2, dim=-1)
        out = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return torch.cat((out, rest), dim=-1) if rest.shape[-1] else out


def _lowest_with(logits: Tensor, weights: Tensor, wanted: Tensor) -> Tensor:
    """The highest logit t of each row such that the weights of all logits >= t reach `wanted`; the lowest if none
    does.
    """
    finite = logits.masked_fill(logits.isinf(), torch.inf)
    low = finite.amin(-1, keepdim=True)  # always enough, or all there is
    high = logits.amax(-1, keepdim=True)
    for _ in range(_NUM_HALVINGS):
        middle = low + (high - low) / 2
        reached = weights.masked_fill(logits < middle, 0).sum(-1, keepdim=True) >= wanted.unsqueeze(-1)
        low, high = torch.where(reached, middle, low), torch.where(reached, high, middle)
    top_enough = weights.masked_fill(logits < high, 0).sum(-1, keepdim=True) >= wanted.unsqueeze(-1)
    bound = torch.where(top_enough, high, low)
    return logits.masked_fill(logits < bound, torch.inf).amin(-1, keepdim=True)
