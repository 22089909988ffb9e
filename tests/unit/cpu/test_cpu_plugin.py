"""What the CPU plugin and the weight formats hand over at the door."""

from __future__ import annotations

import jackfield_cpu.plugin
import jackfield_quantization.plugin
from jackfield_cpu.platform import CpuPlatform
from jackfield_platforms.hooks import plugin_manager
from jackfield_quantization.unquantized import Unquantized


def test_hooks_answer_through_the_plugin_manager() -> None:
    manager = plugin_manager()
    manager.register(jackfield_cpu.plugin, "cpu")
    manager.register(jackfield_quantization.plugin, "quantization")
    manager.check_pending()
    assert manager.hook.platforms() == [{"cpu": CpuPlatform}]
    (formats,) = manager.hook.quant_methods()
    assert formats["unquantized"] is Unquantized
    assert {name: method.name for name, method in formats.items()} == {name: name for name in formats}
    on_line = {"unquantized", "int8", "int8-all", "int8-g128", "int4", "int4-all"}
    assert set(formats) == {*on_line, "gptq", "awq", "fp8", "compressed-tensors"}
