"""What must be in the environment before torch and the bridge are loaded. Imports no torch.

Names and meanings: Intel Gaudi documentation, "Runtime Environment Variables" (PT_HPU_LAZY_MODE), "Run Inference Using
HPU Graphs" (PT_HPU_ENABLE_LAZY_COLLECTIVES) and "Run Inference Using FP8" (RUNTIME_SCALE_PATCHING); the rest is what
vllm-project/vllm-gaudi sets (`vllm_gaudi/platform.py`) and the bridge reads (gaudi-pytorch-bridge, `distributed/hccl`).
"""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_hpu.lazy_mode import LAZY_MODE, is_lazy
from jackfield_platforms.probe import LaunchOptions

VISIBLE = "HABANA_VISIBLE_MODULES"
MODULE = "HLS_MODULE_ID"
CHOICES = {"RUNTIME_SCALE_PATCHING": ("0", "1"), "PT_HPU_H2D_TRIVIAL_SCALES_MODE": ("0", "1", "2")}
"""Of 8-bit floats, and the user's: whether scales are inputs of a program instead of constants that it is compiled for,
and what then becomes of scales of 1. The bridge reads them, and says nothing of a value that it does not know."""


class ModulesError(ValueError):
    """HABANA_VISIBLE_MODULES cannot be read, or names fewer modules than there are ranks."""


def variables(options: LaunchOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """For this rank, in a process with `environ`; what the user set stays. ValueError for a value that there is not."""
    for name, known in CHOICES.items():
        if environ.get(name, known[0]) not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {environ[name]!r}")
    wanted = {
        # releases differ in their default; the vendor's documentation calls lazy mode a legacy
        LAZY_MODE: "0",
        # weights are packed once and stay; sharing would keep what they were made of
        "PT_HPU_WEIGHT_SHARING": "0",
    }
    if is_lazy(environ):
        wanted["PT_HPU_ENABLE_LAZY_COLLECTIVES"] = "true"  # graphs of several ranks need it
    else:
        wanted |= {
            "RUNTIME_SCALE_PATCHING": "1",  # or each scale is another program to compile
            "FUSER_ENABLE_MULTI_THREADED_INVOCATIONS": "1",  # programs are compiled in parallel
        }
    if options.local_size > 1:
        wanted[MODULE] = _module(options, environ)
    return {name: value for name, value in wanted.items() if name not in environ}


def visible_modules(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """The modules that the user leaves to us, in order; None: all."""
    text = environ.get(VISIBLE, "").strip()
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts) or len(set(parts)) != len(parts):
        raise ModulesError(f"{VISIBLE}={text} is no list of modules; wanted something like 0,1,2,3")
    return tuple(map(int, parts))


def _module(options: LaunchOptions, environ: Mapping[str, str]) -> str:
    """The module of this rank: a process has one device."""
    modules = visible_modules(environ)
    if modules is None:
        return str(options.local_rank)
    if options.local_size > len(modules):
        raise ModulesError(f"{VISIBLE}={environ[VISIBLE]} names {len(modules)} modules for {options.local_size} ranks")
    return str(modules[options.local_rank])
