"""The core knows no device: it asks for capabilities, and host memory is the only thing there that is called cpu."""

from __future__ import annotations

import ast
import re

import pytest

DEVICES = [
    "cuda",
    "rocm",
    "hip",
    "hpu",
    "gaudi",
    "habana",
    "synapse",
    "tpu",
    "xla",
    "pallas",
    "neuron",
    "trainium",
    "inferentia",
    "mps",
    "npu",
    "ascend",
    "xpu",
    "musa",
]
NAME = re.compile(rf"(?<![a-z])(?:is_)?({'|'.join(DEVICES)})(?![a-z])", re.IGNORECASE)
HOST_CALLS = ("device", "to")  # torch.device("cpu"), tensor.to("cpu")


def device_names(text: str) -> list[str]:
    """Device names in a source text, comments and strings included."""
    return [match[0] for match in NAME.finditer(text)]


def stray_cpus(tree: ast.AST) -> list[int]:
    """Lines where "cpu" is a string of its own that does not say where a tensor lives."""
    hosts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            hosts |= {id(word.value) for word in node.keywords if word.arg == "device"}
            hosts |= {id(argument) for argument in node.args if called in HOST_CALLS}
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value == "cpu"]
    return [node.lineno for node in strings if id(node) not in hosts]


def test_the_core_contains_no_device_name(core):
    found = {str(module): device_names(module.text) for module in core}
    assert {path: names for path, names in found.items() if names} == {}


def test_cpu_in_the_core_says_where_a_tensor_lives(core):
    found = {str(module): stray_cpus(module.tree) for module in core}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text", ["torch.cuda.synchronize()", "x.is_cuda", '"HPU"', "# on ROCm", "torch_xla", "neuron_core"]
)
def test_a_device_name_would_be_found(text):
    assert device_names(text)


@pytest.mark.parametrize("text", ["a relationship", "inputs", "neurons of a layer", "the mapping"])
def test_other_words_are_let_through(text):
    assert not device_names(text)


@pytest.mark.parametrize(("text", "lines"), [("torch.device('cpu')", []), ("f(device='cpu')", []), ("a == 'cpu'", [1])])
def test_a_stray_cpu_would_be_found(text, lines):
    assert stray_cpus(ast.parse(text)) == lines
