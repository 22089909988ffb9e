"""The definition that torch-xla gives of its ragged kernel: right numbers over the kernel's cache and plan, slowly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed
from jackfield_tpu.ragged_attention import MODULE, RaggedPagedAttention, unserved
from jackfield_tpu.ragged_pages import RaggedPlan
from jackfield_xla.software import is_installed


class RaggedPagedReference(RaggedPagedAttention):
    """`torch.ops.xla.ragged_paged_attention` with `use_kernel=False`, which goes row by row and reads lengths on the
    host. For tests of what the kernel is given; it serves no one who has another choice.
    """

    name = "ragged-paged-reference"
    graphs = "none"

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        return unserved(need) if is_installed("torch_xla") else f"torch-xla, which brings {MODULE}, is not installed"

    def attend(self, queries: Tensor, pages: Tensor, plan: RaggedPlan) -> Tensor:
        out: Tensor = torch.ops.xla.ragged_paged_attention(
            queries,
            pages,
            plan.kv_len,
            plan.block_table,
            plan.query_start,
            plan.num_rows,
            sm_scale=self.need.scale,
            sliding_window=window_of(self.need.kv),
            soft_cap=self.need.soft_cap,
            use_kernel=False,
        )
        return F.pad(out, (0, 0, 0, 0, 0, queries.shape[0] - out.shape[0]))
