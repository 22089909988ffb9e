"""What torch is built for, read from its files, and which GPUs variables leave to a process."""

from __future__ import annotations

import pytest
import torch

from jackfield_gpu.software import Software
from jackfield_gpu.torch_build import TorchBuild, installed_torch, read_build
from jackfield_gpu.visible import visible

CUDA_BUILD = """
from typing import Optional
__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'xpu']
__version__ = '2.11.0+cu130'
debug = False
cuda: Optional[str] = '13.0'
git_version = 'abc'
hip: Optional[str] = None
"""


def test_the_installed_torch_is_read_without_importing_it():
    assert installed_torch() == TorchBuild(torch.__version__, torch.version.cuda, torch.version.hip)


def test_a_build_for_cuda(tmp_path):
    path = tmp_path / "version.py"
    path.write_text(CUDA_BUILD)
    build = read_build(path)
    assert build == TorchBuild("2.11.0+cu130", cuda="13.0")
    assert build.describe() == "torch 2.11.0+cu130, built for CUDA 13.0"
    assert read_build(tmp_path / "nothing.py") is None


@pytest.mark.parametrize(
    ("software", "api", "why"),
    [
        (Software(None, True), "CUDA", "torch is not installed"),
        (Software(TorchBuild("2.13.0+cpu"), True), "CUDA", "2.13.0+cpu, built for the CPU alone; install one"),
        (Software(TorchBuild("2.11.0", cuda="13.0"), True), "ROCm", "built for CUDA 13.0; install one"),
        (Software(TorchBuild("2.11.0", hip="7.1"), False), "ROCm", "triton is not installed"),
        (Software(TorchBuild("2.11.0", hip="7.1"), True), "ROCm", None),
    ],
)
def test_what_is_lacking_is_told(software, api, why):
    found = software.lacks(api)
    assert found is why if why is None else why in found


@pytest.mark.parametrize(
    ("environ", "left"),
    [
        ({}, "abcd"),
        ({"OUTER": "2,1"}, "cb"),
        ({"OUTER": "0,2,-1,1"}, "ac"),
        ({"OUTER": ""}, ""),
        ({"OUTER": "3,9,0"}, "d"),
        ({"INNER": "1"}, "b"),
        ({"OUTER": "3,2", "INNER": "1"}, "c"),
        ({"OUTER": "GPU-8932f937"}, "abcd"),
    ],
)
def test_variables_hide_gpus(environ, left):
    assert "".join(visible("abcd", ("OUTER", "INNER"), environ)) == left
