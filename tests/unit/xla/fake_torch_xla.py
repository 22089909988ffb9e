"""A stand-in for torch-xla in tests of what only a device can answer. Everything else is tested with the real one.

It offers the functions of `PAGES` that a test gives it, and checks their arguments against the documented signature;
any other name of torch-xla is an AssertionError.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

GUIDE = "https://docs.pytorch.org/xla/release/r2.8/learn/api-guide.html"
PAGES = {  # the documented signature of each, and where it is documented
    "torch_xla.device": ("(index=None)", f"{GUIDE}#torch_xla.device"),
    "torch_xla.sync": ("(wait=False, reset_scope=True)", f"{GUIDE}#torch_xla.sync"),
    "torch_xla.runtime.device_type": ("()", f"{GUIDE}#torch_xla.runtime.device_type"),
    "torch_xla.runtime.initialize_cache": (
        "(path, readonly=False)",
        f"{GUIDE}#torch_xla.runtime.initialize_cache",
    ),
    "torch_xla.runtime.global_runtime_device_count": (
        "()",
        f"{GUIDE}#torch_xla.runtime.global_runtime_device_count",
    ),
    "torch_xla.core.xla_model.get_memory_info": (
        "(device=None)",
        f"{GUIDE}#torch_xla.core.xla_model.get_memory_info",
    ),
    "torch_xla.core.xla_model.wait_device_ops": (
        "(devices=[])",
        f"{GUIDE}#torch_xla.core.xla_model.wait_device_ops",
    ),
}
_MODULES = ("torch_xla", "torch_xla.runtime", "torch_xla.core", "torch_xla.core.xla_model")


class _Module(ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(f"{self.__name__}.{name} is not among the functions that the stand-in offers")


def install(monkeypatch, **functions):
    """Put the stand-in where torch-xla would be imported from; `functions` by their last names.

    Returns the calls that were made, as (name, arguments by name).
    """
    calls = []
    modules = {name: _Module(name) for name in _MODULES}
    for name, module in modules.items():
        module.__path__ = []
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(modules[parent], last, module)
        monkeypatch.setitem(sys.modules, name, module)
    known = {path.rpartition(".")[2]: path for path in PAGES}
    for last, function in functions.items():
        path = known[last]
        setattr(modules[path.rpartition(".")[0]], last, _checked(path, function, calls))
    return calls


def _checked(path, function, calls):
    signature = _signature(PAGES[path][0])

    def call(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)  # TypeError for what the documentation does not know
        calls.append((path.rpartition(".")[2], dict(bound.arguments)))
        return function(*args, **kwargs)

    return call


def _signature(text):
    namespace = {}
    exec(f"def documented{text}: ...", namespace)
    return inspect.signature(namespace["documented"])
