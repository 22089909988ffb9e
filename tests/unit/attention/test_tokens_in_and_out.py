"""Tokens leave one backend's cache and enter another's, of another block size, layout and dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_attention.paged import PagedTorchAttention
from jackfield_platforms.attention import AttentionBackend, LayerKV
from jackfield_platforms.kv import Latent, Paged
from jackfield_platforms.refusal import Refused

BACKENDS = pytest.mark.parametrize("backend", [PagedTorchAttention, FlatBlockAttention])
KINDS = pytest.mark.parametrize("changes", [{}, {"v_dim": 8}, {"window": 9}, {"latent": (24, 8)}], ids=str)


def slots_of(made, row):
    """Where a row's tokens lie."""
    size, places = made.backend.block_size, np.arange(len(made.keys[row]))
    return made.layout.block_table[row, places // size].astype(np.int64) * size + places % size


@BACKENDS
@KINDS
def test_another_backend_with_other_blocks_goes_on_with_them(scene, need, backend, changes):
    other = FlatBlockAttention if backend is PagedTorchAttention else PagedTorchAttention
    rows = [(70, 1), (33, 1)]
    source = scene(backend, rows, need(**changes), block_size=8)
    target = scene(other, rows, need(**changes), block_size=24)
    for tensor in {id(t): t for t in (target.layer.cache.k, target.layer.cache.v)}.values():
        tensor.fill_(float("nan"))
    for row in range(2):
        past = slice(0, rows[row][0] - 1)  # what is not the step's own
        tokens = source.backend.export_tokens([source.layer], slots_of(source, row)[past])
        assert tokens.header.kv == source.need.kv
        target.backend.import_tokens([target.layer], slots_of(target, row)[past], tokens)
    target.check(target.run())


@BACKENDS
@KINDS
def test_the_canonical_form_does_not_depend_on_the_backend(scene, need, backend, changes):
    made = scene(backend, [(20, 20)], need(**changes))
    made.run()
    tokens = made.backend.export_tokens([made.layer], slots_of(made, 0))
    wanted = {"latent": made.keys} if "latent" in changes else {"k": made.keys, "v": made.values}
    assert tokens.tensors.keys() == wanted.keys() == made.need.kv.parts.keys()
    for name, rows in wanted.items():
        assert torch.equal(tokens.tensors[name], rows[0][None])


@BACKENDS
def test_a_cache_of_another_dtype_takes_the_numbers_rounded(scene, need, backend):
    source = scene(backend, [(20, 20)], need())
    source.run()
    tokens = source.backend.export_tokens([source.layer], slots_of(source, 0))
    target = scene(backend, [(20, 20)], need(dtype="bfloat16"), block_size=16)
    target.backend.import_tokens([target.layer], slots_of(target, 0), tokens)
    back = target.backend.export_tokens([target.layer], slots_of(target, 0))
    assert back.header.kv.dtype == "bfloat16"
    assert torch.equal(back.tensors["k"], tokens.tensors["k"].bfloat16())


@pytest.mark.parametrize(
    ("changes", "count", "reason"),
    [
        ({"k_dim": 8}, 5, "wanted Paged"),
        ({"latent": (24, 8)}, 5, "found Latent"),
        ({}, 4, "wanted 4 tokens of 1 layers, found 5 of 1"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_anything_is_written(scene, need, changes, count, reason):
    source = scene(FlatBlockAttention, [(5, 5)], need(**changes))
    source.run()
    tokens = source.backend.export_tokens([source.layer], slots_of(source, 0))
    target = scene(FlatBlockAttention, [(5, 5)], need())
    with pytest.raises(ValueError, match=reason):
        target.backend.import_tokens([target.layer], slots_of(target, 0)[:count], tokens)
    assert target.layer.cache.k.isnan().all()


@BACKENDS
def test_blocks_that_change_places_are_read_before_they_are_written(scene, need, backend):
    made = scene(backend, [(30, 1), (30, 1)], need())
    one, other = (int(block) for block in made.layout.block_table[:, 0])
    before = made.layer.cache.k.clone()
    made.backend.copy_blocks([made.layer], np.array([[one, other], [other, one]]))
    before[[one, other]] = before[[other, one]]
    assert torch.equal(made.layer.cache.k.nan_to_num(7.0), before.nan_to_num(7.0))


def test_a_backend_that_does_not_export_says_so(need):
    class Opaque(FlatBlockAttention):
        token_views = AttentionBackend.token_views

    made = Opaque(need(), 8, device=torch.device("cpu"), ops=None)
    with pytest.raises(Refused, match="attention backend 'flat-blocks' gives no tokens out"):
        made.export_tokens([LayerKV(made.allocate(3))], np.array([8]))


def test_specs_say_what_a_token_has():
    assert Paged(2, 16, 8, "float32").parts == {"k": (2, 16), "v": (2, 8)}
    assert Latent(512, 64, "bfloat16").parts == {"latent": (1, 576)}
    assert Latent(512, 64, "bfloat16").v_dim == 512
