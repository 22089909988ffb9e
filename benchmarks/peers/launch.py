"""Starting an engine for a measure: its files, options and environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from peers.catalog import SEQUENCES, Engine, pool_tokens, slots
from peers.installs import Installs
from peers.models import Models
from peers.process import WORKER, EngineProcess
from peers.workloads import START

CONTEXT = 4096  # longest sequence of most measures
TCMALLOC = ("/usr/lib/*-linux-gnu/libtcmalloc_minimal.so.4", "/usr/lib64/libtcmalloc_minimal.so.4")
READ_BYTES = 1 << 24


class Launcher:
    """Starts engines of one model. `contexts` are those of the measures of long ones; `timeout` in seconds."""

    def __init__(self, installs: Installs, models: Models, contexts: tuple[int, ...], timeout: float) -> None:
        self._installs, self._models, self._contexts, self._timeout = installs, models, contexts, timeout
        self._threads = len(os.sched_getaffinity(0))

    def process(self, measure: str, engine: Engine) -> EngineProcess:
        """Running, and past its first token. EngineFailed or OSError."""
        tokens = pool_tokens(measure, self._contexts)
        longest = max(self._contexts) + 256 if measure in ("long", "imported") else CONTEXT
        options = {
            "own": engine.options_for(measure),
            "threads": self._threads,
            "context": min(longest, self._models.context()),
            "sequences": SEQUENCES,
            "slots": slots(measure, self._contexts),
            "kv_bytes": tokens * self._models.shape().kv_token_bytes,
            "programs": str(self._installs.llama_programs),
        }
        python, files = self._installs.python(engine.peer), str(self._models.prepare(engine.files))
        command = [python, str(WORKER), engine.adapter_for(measure), files, json.dumps(options)]
        log = self._installs.logs / f"run-{engine.name.replace(' ', '-')}.log"
        environment = self._environment(engine, measure, options["kv_bytes"])
        return EngineProcess(command, environment, log, seconds=self._timeout)

    def warm(self, engine: Engine) -> None:
        """Read the engine's files once, so that all of them lie in the page cache."""
        place = self._models.prepare(engine.files)
        for file in [place] if place.is_file() else sorted(each for each in place.rglob("*") if each.is_file()):
            with file.open("rb", buffering=0) as reader:
                while reader.read(READ_BYTES):
                    pass

    def _environment(self, engine: Engine, measure: str, kv_bytes: int) -> dict[str, str]:
        """What each project recommends for a CPU; nobody asks the network for anything."""
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        if engine.peer == "jackfield" and measure != START:
            env.setdefault("JACKFIELD_CPU_KV_CACHE", "resident")  # as vLLM's always is
        if engine.peer == "hf":
            env["OMP_NUM_THREADS"] = str(self._threads)
        if engine.peer == "vllm":
            cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
            local = dict.fromkeys(("VLLM_HOST_IP", "VLLM_LOOPBACK_IP"), "127.0.0.1")
            gib = str(-(-kv_bytes // 2**30))
            env |= {**local, "GLOO_SOCKET_IFNAME": "lo", "VLLM_NO_USAGE_STATS": "1"}
            env["VLLM_USE_AOT_COMPILE"] = "0"  # in this version, what it saves cannot be loaded: each start compiles
            env |= {"VLLM_CPU_OMP_THREADS_BIND": cpus, "VLLM_CPU_KVCACHE_SPACE": gib}
            env["LD_PRELOAD"] = ":".join(self._preloads())
        return env

    def _preloads(self) -> Iterator[str]:
        """tcmalloc if the system has it, and the OpenMP that vLLM's wheel ships."""
        for pattern in TCMALLOC:
            yield from map(str, Path("/").glob(pattern[1:]))
        openmp = self._installs.root / "vllm" / "lib" / "libiomp5.so"
        if openmp.exists():
            yield str(openmp)
