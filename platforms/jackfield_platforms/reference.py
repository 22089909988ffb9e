"""The plain-torch definition of every op: what is right. Everything fast is compared with these."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.communicator import Communicator


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
