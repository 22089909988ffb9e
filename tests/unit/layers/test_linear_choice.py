"""A linear layer takes the first op that does not refuse, once, when its weight arrives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from jackfield.config.json_fields import JsonFields
from jackfield.config.model_config import parse_model_config
from jackfield.layers.linear import Linear
from jackfield.models.interface import Build
from jackfield.models.registry import ModelRegistry
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.linear import Encoding, LinearOp, LinearSpec, TorchLinear
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_platforms.refusal import Refused
from jackfield_quantization.unquantized import Unquantized

SPEC = LinearSpec("block.qkv_proj", 8, (6, 4, 4), "float32", bias=True)


class Picky(TorchLinear):
    """Refuses everything."""

    name = "picky"

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        return f"does not like {layer.name}"


def build(ops: Sequence[LinearOp], dtype: str = "float32") -> Build:
    fields = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 8,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "max_position_embeddings": 8,
    }
    return Build(
        config=parse_model_config(JsonFields(fields, "config"), JsonFields({}, "generation"), ModelRegistry()),
        dtype=torch.float32,
        kv_dtype=torch.float32,
        device=torch.device("cpu"),
        capabilities=Capabilities(dtypes=(dtype,), kv_dtypes=(dtype,)),
        ops=resolve(OpTable(), OpSpec(dtype)),
        linear_ops=tuple(ops),
        comm=SingleRank(),
        quant=lambda name: Unquantized(),
        layers=range(1),
    )


def weights() -> dict[str, Tensor]:
    return {"weight": torch.randn(14, 8), "bias": torch.randn(14)}


def test_the_choice_says_who_serves_and_who_refused() -> None:
    layer = Linear(build([Picky(), TorchLinear()]), SPEC, parts=("q_proj", "k_proj", "v_proj"))
    assert layer.choice is None
    assert layer.parts == {"q_proj": 6, "k_proj": 4, "v_proj": 4}
    given = weights()
    kept = dict(given)
    layer.pack(given)
    assert not given, "the tensors are consumed"
    assert layer.choice is not None
    assert (layer.choice.taken.name, layer.choice.refusals) == ("torch", (("picky", "does not like block.qkv_proj"),))
    x = torch.randn(3, 8)
    assert torch.allclose(layer(x), x @ kept["weight"].t() + kept["bias"], atol=1e-5)
    assert torch.equal(layer.rows(torch.tensor([2, 0])), kept["weight"][[2, 0]])


def test_when_all_refuse_the_error_holds_every_reason() -> None:
    layer = Linear(build([Picky()]), SPEC)
    with pytest.raises(Refused, match=r"block\.qkv_proj \(32-bit float weights(.|\n)*picky +does not like"):
        layer.pack(weights())


def test_a_format_that_cannot_serve_refuses_before_loading() -> None:
    with pytest.raises(Refused, match=r"'unquantized' cannot serve block\.qkv_proj: the platform computes in bfloat16"):
        Linear(build([TorchLinear()], dtype="bfloat16"), SPEC)
