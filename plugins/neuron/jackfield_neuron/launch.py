"""What must be in the environment before torch and the runtime are loaded. Imports no torch.

Names and meanings: AWS Neuron documentation, "PyTorch NeuronX Environment Variables", "Neuron Persistent Cache" and
"Neuron Runtime configuration"; those of several processes are torch-xla's (`torch_xla/_internal/neuron.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jackfield_neuron.cores import VISIBLE, CoresError, visible_cores
from jackfield_platforms.probe import LaunchOptions

CACHE = "NEURON_COMPILE_CACHE_URL"
FLAGS = "NEURON_CC_FLAGS"
COMPILER_FLAGS = "--model-type=transformer"
"""Nothing is cast that the model does not cast: the compiler's own default is `--auto-cast=none`."""
_PORT = 62182  # torch-xla's own choice, and one more for each core before the first that is used


def variables(options: LaunchOptions, environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """For this rank, in a process with `environ` of a user whose home is `home`; what the user set stays.

    CoresError when NEURON_RT_VISIBLE_CORES cannot be read or names fewer cores than there are ranks.
    """
    cores = visible_cores(environ) or tuple(range(options.local_size))
    if len(cores) < options.local_size:
        left = f"{len(cores)} core" + ("s" if len(cores) > 1 else "")
        raise CoresError(f"{VISIBLE}={environ[VISIBLE]} leaves {left} to {options.local_size} ranks")
    wanted = {
        "PJRT_DEVICE": "NEURON",
        # ids, positions and slots are int64 in torch; the device computes in 32 bits
        "XLA_USE_32BIT_LONG": "1",
        FLAGS: COMPILER_FLAGS,
    }
    if "--cache_dir" not in environ.get(FLAGS, ""):  # which the compiler puts before the variable
        wanted[CACHE] = str(cache_folder(environ, home))
    if options.local_size > 1:
        wanted |= {
            "NEURON_PJRT_PROCESSES_NUM_DEVICES": ",".join(["1"] * options.local_size),
            "NEURON_PJRT_PROCESS_INDEX": str(options.local_rank),
            "PJRT_LOCAL_PROCESS_COUNT": str(options.local_size),
            "PJRT_LOCAL_PROCESS_RANK": str(options.local_rank),
            # two engines on one machine share no core, so that they meet at different ports
            "NEURON_RT_ROOT_COMM_ID": f"localhost:{_PORT + cores[0]}",
        }
    kept = {name: value for name, value in wanted.items() if name not in environ}
    # a process takes all visible cores unless it is told which one is its own
    return kept | {VISIBLE: str(cores[options.local_rank])}


def cache_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where compiled programs are kept, so that the next start finds them."""
    caches = environ.get("XDG_CACHE_HOME") or str(home / ".cache")
    return Path(caches) / "jackfield" / "neuron"
