"""Peak memory of loading, measured in a process of its own: the packed model, its largest module, and a tenth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

HIDDEN, INNER, VOCAB, LAYERS = 1024, 3072, 40_000, 8
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from jackfield.config.model_config import load_model_config
from jackfield.loader.load import load_model, packables
from jackfield.models.interface import Build
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, TorchLinear
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_quantization.int8 import Int8
from jackfield_quantization.unquantized import Unquantized

class Copying(TorchLinear):
    def pack(self, encoded):
        return Encoded(encoded.encoding, encoded.data.clone(), encoded.bias)

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

folder = Path(sys.argv[1])
config = load_model_config(folder)
op = Copying() if sys.argv[2] == "copying" else TorchLinear()
rounded = Int8() if sys.argv[2] == "int8" else Unquantized()
build = Build(
    config=config, dtype=torch.bfloat16, kv_dtype=torch.bfloat16, device=torch.device("cpu"),
    capabilities=Capabilities(dtypes=("bfloat16",), kv_dtypes=("bfloat16",)),
    ops=resolve(OpTable(), OpSpec("bfloat16")),
    linear_ops=(op, TorchDequantLinear()), comm=SingleRank(),
    quant=lambda name: rounded if rounded.covers(name) else Unquantized(),
    layers=range(config.num_layers),
)
torch.ones(1000).to(torch.bfloat16).sum()  # what torch sets up at its first call is not ours
before = resident("VmRSS")
model = load_model(config, build, folder, progress=False)
peak = resident("VmHWM") - before
sizes = [(m.packed.data if hasattr(m, "packed") else m.weight).nbytes for m in packables(model)]
print(json.dumps({"peak": peak, "packed": sum(sizes), "largest": max(sizes)}))
"""


def write(folder: Path) -> None:
    """About 320 MB in four files, tensors in alphabetical order as transformers saves them."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        shapes |= {f"{name}.{norm}_layernorm.weight": (HIDDEN,) for norm in ("input", "post_attention")}
        shapes |= {f"{name}.self_attn.{part}_proj.weight": (HIDDEN, HIDDEN) for part in "qkvo"}
        shapes |= {f"{name}.mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes[f"{name}.mlp.down_proj.weight"] = (HIDDEN, INNER)
    names, where = sorted(shapes), {}
    for shard in range(4):
        part = names[shard * len(names) // 4 : (shard + 1) * len(names) // 4]
        tensors = {name: torch.full(shapes[name], 0.5, dtype=torch.bfloat16) for name in part}
        save_file(tensors, folder / f"part-{shard}.safetensors")
        where.update(dict.fromkeys(part, f"part-{shard}.safetensors"))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's account of resident memory")
def test_peak_is_the_packed_model_and_its_largest_module(tmp_path: Path) -> None:
    write(tmp_path)
    for op, smallest in (("in place", 300e6), ("copying", 300e6), ("int8", 180e6)):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), op], check=True, capture_output=True, text=True
        )
        found = json.loads(run.stdout)
        assert smallest < found["packed"] < 1.25 * smallest
        assert found["packed"] <= found["peak"], "the whole model must be resident when it is loaded"
        assert found["peak"] <= found["packed"] + found["largest"] + 0.1 * found["packed"], op
