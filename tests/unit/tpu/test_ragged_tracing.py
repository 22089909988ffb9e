"""Attention with the kernel goes through torch.compile as one graph; the kernel itself is no part of the test."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torch_xla", reason="torch-xla is not installed: ci/xla makes an environment that has it")

import torch_xla
from torch._dynamo.backends.common import aot_autograd

from jackfield_platforms.attention import AttentionNeed, LayerKV
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Paged
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_tpu.ragged_attention import RaggedPagedAttention

BUCKETS = [
    Bucket("decode", num_rows=8, num_tokens=8, query_len=1, max_blocks=2),
    Bucket("decode", num_rows=4, num_tokens=12, query_len=3, max_blocks=2),
    Bucket("mixed", num_rows=4, num_tokens=32, max_blocks=2),
]


@pytest.mark.parametrize("bucket", BUCKETS, ids=lambda bucket: bucket.describe())
def test_writing_and_attending_are_one_graph(bucket):
    device, graphs = torch_xla.device(), []
    need = AttentionNeed(Paged(2, 64, 64, "bfloat16"), 4, 0.1, query_dtype="bfloat16")
    backend = RaggedPagedAttention(need, 16, device=device, ops=resolve(OpTable(), OpSpec("bfloat16")))
    layer, plan = LayerKV(backend.allocate(4)), backend.blank(bucket)
    q, k, v = (torch.zeros(bucket.num_tokens, heads, 64, dtype=torch.bfloat16, device=device) for heads in (4, 2, 2))

    def keep(graph, inputs):
        graphs.append(graph)
        (outputs,) = (node for node in graph.graph.nodes if node.op == "output")
        shapes = [node.meta["val"] for node in outputs.args[0]]
        return lambda *args: [torch.zeros(one.shape, dtype=one.dtype, device=device) for one in shapes]

    def program(q, k, v, plan):
        return backend.run(q, k, v, layer, plan)

    torch._dynamo.reset()
    compiled = torch.compile(program, fullgraph=True, dynamic=False, backend=aot_autograd(fw_compiler=keep))
    with torch.no_grad():
        assert compiled(q, k, v, plan).shape == (bucket.num_tokens, 4, 64)
    called = [str(node.target) for node in graphs[0].graph.nodes]
    assert len(graphs) == 1
    assert called.count("xla.ragged_paged_attention.default") == 1
