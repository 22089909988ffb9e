"""Every way in which a checkpoint may hold a model arrives at the same weights, and nothing else is accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jackfield.loader.checkpoint import Checkpoint, LoadError
from jackfield.models.interface import Model

Tensors = dict[str, Tensor]
Write = Callable[..., Path]
Load = Callable[..., Model]


def filled(model: Model) -> Tensors:
    """Every weight of the model by our names."""
    found: Tensors = {}
    for module in model.modules():
        if hasattr(module, "packed"):
            found[f"{module.name}.weight"] = module.packed.data
            if module.packed.bias is not None:
                found[f"{module.name}.bias"] = module.packed.bias
        elif hasattr(module, "weight"):
            found[f"{module.name}.weight"] = module.weight
    return found


def fused(tensors: Tensors) -> Tensors:
    """The same tensors with q, k, v and gate, up side by side."""
    split = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    out = {name: tensor for name, tensor in tensors.items() if not any(part in name for part in split)}
    for layer in range(2):
        attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
        for param in ("weight", "bias"):
            parts = [tensors[f"{attention}.{part}_proj.{param}"] for part in "qkv"]
            out[f"{attention}.qkv_proj.{param}"] = torch.cat(parts)
        out[f"{mlp}.gate_up_proj.weight"] = torch.cat([tensors[f"{mlp}.{part}_proj.weight"] for part in ("gate", "up")])
    return out


def assert_same(found: Tensors, wanted: Tensors) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("is_fused", [False, True])
def test_all_weights_arrive(tensors: Tensors, write: Write, load: Load, shards: int, is_fused: bool) -> None:
    assert_same(filled(load(write(fused(tensors) if is_fused else tensors, shards))), fused(tensors))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_converted_to_the_served_dtype(tensors: Tensors, write: Write, load: Load, dtype: str) -> None:
    wanted = {name: tensor.to(getattr(torch, dtype)) for name, tensor in fused(tensors).items()}
    assert_same(filled(load(write(tensors), dtype)), wanted)


@pytest.mark.parametrize("held", ["embedding", "head", "both"])
def test_tied_weights_are_held_once(tensors: Tensors, write: Write, load: Load, held: str) -> None:
    wanted = fused(tensors)
    del wanted["lm_head.weight"]
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    if held != "both":
        del tensors["lm_head.weight" if held == "embedding" else "model.embed_tokens.weight"]
    model = load(write(tensors, tie_word_embeddings=True))
    assert_same(filled(model), wanted)


def test_a_head_that_differs_from_its_tied_embedding_is_an_error(tensors: Tensors, write: Write, load: Load) -> None:
    with pytest.raises(LoadError, match=r"lm_head\.weight must equal model\.embed_tokens\.weight"):
        load(write(tensors, tie_word_embeddings=True))


def test_chunks_cover_a_tensor_row_by_row(tensors: Tensors, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jackfield.loader.checkpoint._CHUNK_BYTES", 16 * 4 * 7)  # seven rows of the embedding
    chunks = [(row, chunk.clone()) for row, chunk in Checkpoint(write(tensors)).chunks("model.embed_tokens.weight")]
    assert [row for row, _ in chunks] == list(range(0, 50, 7))
    assert torch.equal(torch.cat([chunk for _, chunk in chunks]), tensors["model.embed_tokens.weight"])


def test_weights_read_in_chunks_are_whole(
    tensors: Tensors, write: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jackfield.loader.checkpoint._CHUNK_BYTES", 16 * 4 * 5)
    assert_same(filled(load(write(tensors, 2))), fused(tensors))


def test_stored_rotary_frequencies_are_ignored(tensors: Tensors, write: Write, load: Load) -> None:
    wanted = fused(tensors)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    assert_same(filled(load(write(tensors))), wanted)


def test_all_misfits_are_named_at_once(tensors: Tensors, write: Write, load: Load) -> None:
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    tensors["model.layers.7.mlp.up_proj.weight"] = torch.ones(24, 16)
    tensors["model.norm.weight"] = torch.ones(15)
    tensors["model.layers.0.mlp.down_proj.weight"] = torch.ones(16, 24, dtype=torch.int8)
    with pytest.raises(LoadError) as caught:
        load(write(tensors))
    message = str(caught.value)
    assert "missing: model.layers.1.self_attn.k_proj.weight" in message
    assert "not part of the model: model.layers.7.mlp.up_proj.weight" in message
    assert "model.norm.weight: wanted shape [16], found [15] in model.safetensors" in message
    assert "model.layers.0.mlp.down_proj.weight: wanted plain floats, found I8" in message


def test_a_shard_that_is_not_there_is_named(tensors: Tensors, write: Write, load: Load) -> None:
    folder = write(tensors, 3)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(LoadError, match=r"files that are not there: part-1\.safetensors"):
        load(folder)


def test_a_file_that_was_cut_short_is_named(tensors: Tensors, write: Write, load: Load) -> None:
    file = write(tensors) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(LoadError, match=r"model\.safetensors is not a complete safetensors file"):
        load(file.parent)


def test_a_pickle_is_refused_by_name(tensors: Tensors, write: Write, load: Load) -> None:
    folder = write(tensors)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(LoadError, match=r"found pytorch_model\.bin\. Only safetensors"):
        load(folder)
