"""The list of kernels to be compiled ahead of time: complete, and in the kernels' own words."""

from __future__ import annotations

import inspect

import pytest

from jackfield_attention.triton.signatures import signatures
from jackfield_attention.triton.tiles import INTERPRETER

ARCHS = pytest.mark.parametrize("arch", ["sm_80", "sm_90", "gfx90a", "gfx942"])


@ARCHS
def test_names_are_unique_and_every_kernel_is_there(arch):
    listed = list(signatures(arch))
    assert len({one.name for one in listed}) == len(listed)
    kernels = {one.kernel.fn.__name__ for one in listed}
    assert kernels == {"attention_kernel", "latent_kernel", "join_splits_kernel", "write_kernel"}


@ARCHS
def test_arguments_are_those_of_the_kernel_in_its_order(arch):
    for one in signatures(arch):
        wanted = list(inspect.signature(one.kernel.fn).parameters)
        assert list(one.signature) == [name for name in wanted if name in one.signature], one.name
        assert set(wanted) == set(one.signature) | set(one.constexprs), one.name
        assert set(one.aligned) <= set(one.signature)


def test_the_interpreters_tiles_are_no_gpus():
    rows = {one.constexprs.get("KEYS") for one in signatures(INTERPRETER)}
    assert rows <= {32, None}
