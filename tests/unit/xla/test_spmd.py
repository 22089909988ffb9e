"""Annotated weights over four devices of the host: each holds a part, and the compiler adds the collectives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch_xla", reason="torch-xla is not installed: ci/xla makes an environment that has it")

CHILD = """
import torch, torch_xla
from jackfield_xla.spmd import SpmdCommunicator

comm = SpmdCommunicator()
assert (comm.rank, comm.size, comm.num_devices) == (0, 1, 4), comm.num_devices
generator = torch.Generator().manual_seed(3)
x, up, down = (torch.randn(shape, generator=generator) for shape in ((8, 64), (256, 64), (64, 256)))
expected = torch.relu(x @ up.T) @ down.T
device = torch_xla.device()
x, up, down = x.to(device), comm.shard(up.to(device), 0), comm.shard(down.to(device), 1)
comm.replicate(x)
out = torch.relu(x @ up.T) @ down.T
text = torch_xla._XLAC._get_xla_tensors_hlo([out])
assert text.count("devices=[4,1]") == 1 and text.count("devices=[1,4]") == 1, text
torch_xla.sync()
torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-4)
assert comm.all_reduce(out) is out
try:
    comm.shard(torch.zeros(6, 4).to(device), 0)
except ValueError as error:
    assert "6, 4" in str(error) and "4 equal parts" in str(error), error
else:
    raise AssertionError("six rows were cut into four parts")
"""


ENGINE = """
import os, sys
import torch
from pathlib import Path
from jackfield.config.options import EngineOptions
from jackfield.conformance import random_llama
from jackfield.engine.build import build_engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams

random_llama.write_checkpoint(Path(sys.argv[1]), random_llama.random_weights(5))
sizes = {"max_num_seqs": 2, "max_num_batched_tokens": 16, "max_model_len": 64, "kv_cache_memory": 2 << 20}
options = EngineOptions(model=sys.argv[1], platform="tpu-cpu", dtype="float32", **sizes)
engine = build_engine(options, progress=False)
for place, length in enumerate((3, 11, 20)):
    prompt = torch.randint(1, 199, (length,), generator=torch.Generator().manual_seed(place)).tolist()
    engine.add(EngineRequest(str(place), prompt, SamplingParams(temperature=0, max_tokens=12, seed=0)))
answers = {}
while engine.has_work:
    for output in engine.step().each():
        assert output.error is None, output.error
        answers.setdefault(output.id, []).extend(output.token_ids)
print(sorted(answers.items()))
"""


def run(code, *words, **environ):
    environ = {**os.environ, "PJRT_DEVICE": "CPU", **environ}
    words = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_product_of_cut_weights_is_that_of_whole_ones():
    run(CHILD, CPU_NUM_DEVICES="4")


@pytest.mark.long
def test_a_model_over_two_devices_gives_the_tokens_of_one(tmp_path):
    alone, cut = (
        run(ENGINE, tmp_path, CPU_NUM_DEVICES=devices, JACKFIELD_XLA_SPMD=wanted) for devices, wanted in ("10", "21")
    )
    assert cut == alone
    assert cut.count("(") == 3
