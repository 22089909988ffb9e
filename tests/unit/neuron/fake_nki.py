"""A stand-in for the vendor's attention kernel: the arguments that its page documents, sums in plain torch.

| function | page of the AWS Neuron documentation |
|---|---|
| `nkilib.core.attention.attention_cte.attention_cte` | "Attention CTE Kernel API Reference" |
| `kernel[cores]` | "Using Logical NeuronCores (LNC) with NKI" |

What is not in this table cannot be asked for.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor


class AttentionCte:
    """The kernel, and how often it ran on how many cores."""

    def __init__(self) -> None:
        self.cores: int | None = None
        self.launches = 0

    def __getitem__(self, cores: int) -> AttentionCte:
        assert cores in (1, 2), f"a logical core has 1 or 2 physical ones, not {cores}"
        self.cores = cores
        return self

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float = 1.0, causal_mask: bool = True,
        k_prior: Tensor | None = None, v_prior: Tensor | None = None, prior_used_len: Tensor | None = None,
        sink: Tensor | None = None, tp_q: bool = True, tp_k: bool = False, tp_out: bool = False,
    ) -> Tensor:  # fmt: skip
        """Of the documented arguments those that Jackfield gives; shapes and rules as its page has them."""
        self.launches += 1
        assert k_prior is not None
        assert v_prior is not None
        assert prior_used_len is not None
        assert (tp_q, tp_k, tp_out, causal_mask) == (True, True, False, True), "only these layouts are stood in for"
        assert scale == 1.0, "scale must be 1.0 with prefix caching"
        assert len({x.dtype for x in (q, k, v, k_prior, v_prior)}) == 1, "one dtype"
        batch, queries, dim = q.shape
        assert dim <= 128
        assert (k.shape, v.shape) == ((k.shape[0], queries, dim),) * 2
        assert (k_prior.shape, v_prior.shape) == ((k.shape[0], k_prior.shape[1], dim),) * 2
        assert batch % k.shape[0] == 0
        assert (prior_used_len.shape, prior_used_len.dtype) == ((1,), torch.int32)
        assert sink is None or sink.shape == (batch, 1)
        used, prior = int(prior_used_len), k_prior.shape[1]
        keys, values = (torch.cat(parts, 1).double() for parts in ((k_prior, k), (v_prior, v)))
        keys, values = (x.repeat_interleave(batch // len(x), 0) for x in (keys, values))
        key = torch.cat((torch.arange(prior) - used, torch.arange(queries)))  # before the first query: below 0
        hidden = (key > torch.arange(queries)[:, None]) | ((key >= 0) & (torch.arange(prior + queries) < prior))
        scores = (q.double() @ keys.transpose(1, 2)).masked_fill(hidden, -torch.inf)
        if sink is not None:
            scores = torch.cat((scores, sink.double()[:, :, None].expand(-1, queries, 1)), 2)
        # a hidden key's weight is 0, and 0 times a NaN is one: as on the device, nothing is left out of the product
        return (scores.softmax(2)[..., : prior + queries] @ values).to(q.dtype)


def stand_in() -> ModuleType:
    """The module of the kernel, with a kernel of its own."""
    module = ModuleType("nkilib.core.attention.attention_cte")
    module.attention_cte = AttentionCte()  # type: ignore[attr-defined]
    return module
