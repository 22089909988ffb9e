"""A model whose layers are shared by ranks computes what one rank computes, out of the slices that each rank reads."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from jackfield.config.json_fields import JsonFields
from jackfield.config.model_config import parse_model_config
from jackfield.layers.shards import Shard
from jackfield.loader.checkpoint import LoadError
from jackfield.loader.load import empty_model, load_model, packables
from jackfield.models.interface import Build, StepInputs
from jackfield.models.registry import ModelRegistry
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.dequant_linear import TorchDequantLinear, dequantise
from jackfield_platforms.linear import TorchLinear
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_platforms.refusal import Refused
from jackfield_quantization.gptq import Gptq
from jackfield_quantization.int4 import Int4
from jackfield_quantization.int8 import GroupedInt8, Int8
from jackfield_quantization.unquantized import Unquantized

PLAIN: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 51,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
BIASED = {"attention_bias": True, "mlp_bias": True}
CASES = {
    "untied": ({}, 2),
    "tied": ({"tie_word_embeddings": True}, 2),
    "biases": (BIASED, 2),
    "one key head for two ranks": ({"num_key_value_heads": 1}, 2),
    "two key heads for four ranks": (BIASED | {"tie_word_embeddings": True}, 4),
    "norms on heads": ({"architectures": ["Qwen3ForCausalLM"], "vocab_size": 50}, 2),
    "padding alone on the last rank": ({"vocab_size": 9}, 4),
}


def build_for(fields: dict[str, Any], comm=None, method=None) -> Build:
    config = parse_model_config(JsonFields({**PLAIN, **fields}, "config"), JsonFields({}, "g"), ModelRegistry())
    method = method or Unquantized()
    return Build(
        config=config,
        dtype=torch.float32,
        kv_dtype=torch.float32,
        device=torch.device("cpu"),
        capabilities=Capabilities(dtypes=("float32",), kv_dtypes=("float32",)),
        ops=resolve(OpTable(), OpSpec("float32")),
        linear_ops=(TorchLinear(), TorchDequantLinear()),
        comm=comm or SingleRank(),
        quant=lambda name: method if method.covers(name) else Unquantized(),
        layers=range(config.num_layers),
    )


def write(folder, fields, *, fused=False, seed=0):
    """A checkpoint of random weights under the names that the model gives its modules."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module in packables(empty_model((build := build_for(fields)).config, build)):
        for param, spec in module.params().items():
            whole = torch.randn(spec.shape, generator=generator) * (
                0.5 if len(spec.shape) == 1 else spec.shape[-1] ** -0.5
            )
            if fused or not module.parts:
                tensors[f"{module.name}.{param}"] = whole
                continue
            parent = module.name.rpartition(".")[0]
            for part, rows in zip(module.parts, whole.split(list(module.parts.values())), strict=True):
                tensors[f"{parent}.{part}.{param}"] = rows.clone()
    save_file(tensors, folder / "model.safetensors")
    return tensors


def run(model, tokens=23):
    """Logits `[tokens, vocab]`, under plain attention over one sequence."""
    build, needs = model.build, model.attention_needs()

    def attend(layer, q, k, v, rope):
        need = needs[layer]
        assert (q.shape[1], k.shape[1]) == (need.query_heads, need.kv.kv_heads)
        q, k = build.ops.rotary(q, k, rope.table, rope.positions, rope.interleaved)
        k, v = (x.repeat_interleave(need.query_heads // need.kv.kv_heads, dim=1) for x in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) * need.scale
        hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)

    ids = torch.randint(build.config.vocab_size, (tokens,), generator=torch.Generator().manual_seed(1))
    step = StepInputs(tokens=ids, positions=torch.arange(tokens), attend=attend)
    with torch.inference_mode():
        return model.logits(model.forward(model.embed(step), step)["hidden"])


def loaded(folder, fields, comm=None, method=None):
    build = build_for(fields, comm, method)
    return load_model(build.config, build, folder, progress=False)


@pytest.mark.parametrize("fused", [False, True], ids=["split", "fused"])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_one_rank(on_ranks, tmp_path, case, fused):
    fields, size = CASES[case]
    write(tmp_path, fields, fused=fused)
    wanted = run(loaded(tmp_path, fields))
    assert wanted.std() > 0.1
    for got in on_ranks(lambda comm: run(loaded(tmp_path, fields, comm)), size):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() < 2e-5


def count_reads(monkeypatch) -> Counter[str]:
    """Numbers that slices of a file yield, by tensor."""
    numbers: Counter[str] = Counter()

    class Counted:
        def __init__(self, *args, **kwargs):
            self.opened = safe_open(*args, **kwargs)

        def __enter__(self):
            self.file = self.opened.__enter__()
            return self

        def __exit__(self, *error):
            return self.opened.__exit__(*error)

        def offset_keys(self):
            return self.file.offset_keys()

        def get_slice(self, name):
            part = self.file.get_slice(name)

            class Slice:
                get_shape, get_dtype = part.get_shape, part.get_dtype

                def __getitem__(self, index):
                    got = part[index]
                    numbers[name] += got.numel()
                    return got

            return Slice()

    monkeypatch.setattr("jackfield.loader.checkpoint.safe_open", Counted)
    return numbers


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fused", [False, True], ids=["split", "fused"])
def test_a_rank_reads_its_half_of_what_is_shared_and_all_of_what_is_not(tmp_path, monkeypatch, rank, fused):
    fields = BIASED | {"vocab_size": 52}
    tensors = write(tmp_path, fields, fused=fused)
    numbers = count_reads(monkeypatch)
    loaded(tmp_path, fields, _Alone(rank, 2))
    for name, tensor in tensors.items():
        share = 1 if "norm" in name else 0.5
        if name.endswith(("o_proj.bias", "down_proj.bias")):
            share = 1 if rank == 0 else 0
        assert numbers[name] == tensor.numel() * share, name
    assert 0.5 < sum(numbers.values()) / sum(tensor.numel() for tensor in tensors.values()) < 0.52


def test_a_copy_of_tied_weights_is_compared_in_the_rank_s_own_part(tmp_path, monkeypatch):
    fields = {"vocab_size": 52, "tie_word_embeddings": True}
    tensors = write(tmp_path, fields)
    head = tensors["model.embed_tokens.weight"].clone()
    head[30] += 1  # the second rank's
    save_file({**tensors, "lm_head.weight": head}, tmp_path / "model.safetensors")
    numbers = count_reads(monkeypatch)
    loaded(tmp_path, fields, _Alone(0, 2))
    assert numbers["lm_head.weight"] == head.numel() / 2
    with pytest.raises(LoadError, match=r"lm_head\.weight must equal model\.embed_tokens\.weight"):
        loaded(tmp_path, fields, _Alone(1, 2))


def test_what_does_not_fit_is_told_in_the_whole_s_shape(tmp_path):
    tensors = write(tmp_path, BIASED)
    tensors["model.layers.0.mlp.down_proj.weight"] = torch.ones(32, 47)
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    tensors["model.layers.1.self_attn.r_proj.bias"] = torch.ones(32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(LoadError) as caught:
        loaded(tmp_path, BIASED, _Alone(1, 2))
    assert "missing: model.layers.1.self_attn.k_proj.weight\n" in str(caught.value)
    assert "not part of the model: model.layers.1.self_attn.r_proj.bias\n" in str(caught.value)
    assert "down_proj.weight: wanted shape [32, 48], found [32, 47]" in str(caught.value)


def test_int4_is_what_it_would_be_on_one_rank(on_ranks, tmp_path):
    """Groups of inputs lie within a rank's part."""
    fields = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64}
    write(tmp_path, fields)
    ranks = on_ranks(lambda comm: loaded(tmp_path, fields, comm, Int4()))
    one = loaded(tmp_path, fields, None, Int4())
    down = [model.layers[0].mlp.down_proj.packed for model in ranks]
    assert torch.equal(torch.cat([packed.data for packed in down], 1), one.layers[0].mlp.down_proj.packed.data)
    assert torch.equal(torch.cat([packed.scale for packed in down], 1), one.layers[0].mlp.down_proj.packed.scale)
    gate = torch.cat([model.layers[0].mlp.gate_up_proj.packed.data[:128] for model in ranks])
    assert torch.equal(gate, one.layers[0].mlp.gate_up_proj.packed.data[:256])


@pytest.mark.parametrize("method", [Int8(), GroupedInt8()], ids=["rows", "groups of 128"])
def test_int8_rounds_each_rank_s_part_with_its_own_scales(on_ranks, tmp_path, method):
    """A row that is cut gets a scale a part; groups of inputs stay what they are."""
    fields = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64}
    tensors = write(tmp_path, fields)
    ranks = on_ranks(lambda comm: loaded(tmp_path, fields, comm, method))
    one = loaded(tmp_path, fields, None, method)
    down = [model.layers[0].mlp.down_proj.packed for model in ranks]
    whole = one.layers[0].mlp.down_proj.packed
    parts = [dequantise(packed, slice(0, 256)) for packed in down]
    plain = tensors["model.layers.0.mlp.down_proj.weight"]
    for part, numbers in zip(parts, plain.split(128, dim=1), strict=True):
        steps = numbers.abs().amax(1, keepdim=True) / 127
        assert ((part - numbers).abs() <= steps * 0.5001).all()
    if isinstance(method, GroupedInt8):
        assert torch.equal(torch.cat(parts, 1), dequantise(whole, slice(0, 256)))
    gate = torch.cat([model.layers[0].mlp.gate_up_proj.packed.data[:128] for model in ranks])
    assert torch.equal(gate, one.layers[0].mlp.gate_up_proj.packed.data[:256])
    wanted = run(loaded(tmp_path, fields))
    first, second = on_ranks(lambda comm: run(loaded(tmp_path, fields, comm, method)))
    assert torch.equal(first, second)
    assert (first - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_a_format_that_cannot_be_split_is_refused_by_name():
    gptq = Gptq(bits=4, group=8, has_order=False)
    build = build_for({}, _Alone(0, 2), gptq)
    with pytest.raises(Refused, match=r"'gptq' cannot be split among ranks.*tensor_parallel_size=1"):
        empty_model(build.config, build)
    assert empty_model(build.config, msgspec.structs.replace(build, comm=SingleRank())) is not None


def test_a_part_knows_what_of_it_is_stored():
    assert Shard(40, 20, 51).stored == (40, 51)
    assert Shard(60, 20, 51).stored == (51, 51)
    assert [Shard(first, 20, 51).is_padded for first in (0, 20, 40)] == [False, False, True]
    assert Shard(1, 2, 4).times(8) == Shard(8, 16, 32)


class _Alone(SingleRank):
    """A rank that loads and never talks."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
