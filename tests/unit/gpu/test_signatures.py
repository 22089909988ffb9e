"""The lists of what is compiled ahead of time: complete, unambiguous, and accepted by Triton's compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jackfield_gpu.compiled import Launch, signature
from jackfield_gpu.experts import signatures as of_experts
from jackfield_gpu.linear import signatures as of_linear
from jackfield_gpu.linear.tiles import TILES
from jackfield_gpu.ops import signatures as of_ops
from jackfield_gpu.ops.norm_kernels import rms_norm_kernel
from jackfield_gpu.sampling import signatures as of_sampling

FOLDER = Path(__file__).parent
KERNELS = 13 + 2  # of the four folders, and of native 8-bit floats


@pytest.mark.parametrize("module", [of_ops, of_linear, of_experts, of_sampling])
def test_each_signature_has_a_name_of_its_own(module):
    names = [one.name for one in module.signatures()]
    assert names
    assert len(set(names)) == len(names)


def test_native_8_bit_floats_are_listed_apart():
    listed = [one for one in of_linear.signatures() if "fp8e4" in str(one.signature.values())]
    assert listed == []
    names = [one.name for one in of_linear.float8_signatures("fp8e4nv")]
    assert len(set(names)) == len(names) == 3 * 2 * 3


def test_every_tile_of_the_table_is_listed():
    listed = {(one.constexprs["ROWS"], one.num_stages) for one in of_linear.signatures() if "ROWS" in one.constexprs}
    assert {(tile.rows, tile.num_stages) for table in TILES.values() for _, tile in table} == listed


def test_a_signature_must_fit_its_kernel():
    with pytest.raises(ValueError, match=r"norm: \['ROWS', .*\] are missing, and \['y'\] no parameters"):
        signature(rms_norm_kernel, "norm", {"y": "*fp32"}, {}, Launch(4))


@pytest.mark.parametrize("target", ["cuda:90", "hip:gfx942"])
def test_one_of_each_kernel_compiles_for_a_gpu_that_is_not_here(target, tmp_path):
    own = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    environ = {**os.environ, **own}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "compile_signatures.py"), target],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == KERNELS
