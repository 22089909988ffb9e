"""What the CPU says about itself before torch is imported."""

from __future__ import annotations

import os

from jackfield_cpu.processor import this_processor
from jackfield_platforms.probe import Launch, LaunchOptions, Probe

API_VERSION = (0, 1)
SCORE = 10  # of the device that is always there


def probe() -> Probe:
    """A CPU can always be used."""
    return Probe(state="usable", why=this_processor().describe(), devices=1, score=SCORE)


def environment(options: LaunchOptions) -> Launch:
    """One OpenMP thread for each physical core of this rank's share; what the user set in the environment stays."""
    cpus = _share(options)
    cores = this_processor(cpus).cores if cpus else max(1, this_processor().cores // options.local_size)
    env = {
        "OMP_NUM_THREADS": str(options.num_threads or cores),
        # Threads that wait between two parallel regions spin, and keep the cores from the server's process and from
        # everyone else: beside two busy processes a small model ran 6 times faster with a short spin than with the
        # default
        "GOMP_SPINCOUNT": "1000",  # turns, a few microseconds (GNU's OpenMP, torch's own)
        "KMP_BLOCKTIME": "1",  # milliseconds (Intel's)
    }
    kept = os.environ.keys() - ({"OMP_NUM_THREADS"} if options.num_threads is not None else set())
    return Launch(env={name: value for name, value in env.items() if name not in kept}, cpus=cpus)


def _share(options: LaunchOptions) -> tuple[int, ...]:
    """The consecutive part of `options.cpus` that belongs to this rank."""
    size = len(options.cpus) // options.local_size
    return options.cpus[options.local_rank * size : (options.local_rank + 1) * size] if size else options.cpus
