"""What an explanation says of a launch, on a platform whose parts refuse for reasons of their own."""

from __future__ import annotations

import json

import msgspec
import pytest
import torch

from jackfield.cli import explain as explain_module
from jackfield.config.json_fields import JsonFields
from jackfield.config.model_config import parse_model_config
from jackfield.config.options import EngineOptions
from jackfield.engine import assembly
from jackfield.engine.assembly import Blueprint
from jackfield.engine.explanation import (
    IN_PARTS,
    ONE_CALL,
    Refusal,
    attention_answers,
    described,
    explain,
    spans,
)
from jackfield.layers.linear import Linear
from jackfield.models.registry import ModelRegistry
from jackfield.runner.attention_groups import choose_backend
from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms import reference
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.discovery import Found
from jackfield_platforms.hooks import hookimpl, plugin_manager
from jackfield_platforms.kv import Latent, Paged, Windowed
from jackfield_platforms.linear import TorchLinear
from jackfield_platforms.loading import Plugins
from jackfield_platforms.ops import Impl, OpTable
from jackfield_platforms.platform import Platform
from jackfield_platforms.refusal import Refused
from jackfield_quantization.unquantized import Unquantized


class FullOnly(FlatBlockAttention):
    """Looks at everything or at nothing."""

    name = "full-only"

    @classmethod
    def rejects(cls, need):
        return "knows no window" if isinstance(need.kv, Windowed) else None


class NoMLP(TorchLinear):
    """Refuses by name, and has never seen a weight."""

    name = "no-mlp"

    def rejects(self, encoding, layer):
        assert (encoding.kind, encoding.bits) == ("float", 32)
        return "does not like MLPs" if ".mlp." in layer.name else None

    def pack(self, encoded):
        raise AssertionError("no weight is packed for an explanation")


def impl(name: str, op: str, why: str | None = None) -> Impl:
    return Impl(name, getattr(reference, op), lambda spec: why)


class Gadget(Platform):
    """Three implementations of one op, of which one is read."""

    name, device_type = "gadget", "cpu"
    backends = (FullOnly, FlatBlockAttention)

    def capabilities(self):
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",))

    def attention_backends(self):
        return self.backends

    def device(self, rank=0):
        return torch.device("cpu")

    def linear_ops(self, weight_bytes=0):
        return (NoMLP(),)

    def ops(self):
        names = (("picky", "wants bfloat16"), ("fused", None), ("older", None))
        return OpTable(silu_mul=tuple(impl(name, "silu_mul", why) for name, why in names))


class Hooks:
    """The plugin of this platform and of one weight format."""

    @hookimpl
    def platforms(self):
        return {"gadget": Gadget}

    @hookimpl
    def quant_methods(self):
        return {"unquantized": Unquantized}


FIELDS = {
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "use_sliding_window": True,
    "sliding_window": 16,
    "max_window_layers": 2,
}


@pytest.fixture
def blueprint(monkeypatch, tmp_path) -> Blueprint:
    """A launch on the platform, of a model whose folder holds a config and nothing else."""
    manager = plugin_manager()
    manager.register(Hooks())
    monkeypatch.setattr(assembly, "load", lambda name: Plugins(manager))
    (tmp_path / "config.json").write_text(json.dumps(FIELDS))
    found = Found("gadget", "vendor-gadget", "1.2", "gadget.probe", "usable", "")
    return assembly.draw_blueprint(found, EngineOptions(model=str(tmp_path)))


def test_numbers_are_told_as_spans():
    assert [spans(numbers) for numbers in ([], [4], [0, 1, 2, 5, 7, 8])] == ["", "4", "0-2, 5, 7-8"]


def test_each_op_keeps_who_refused_it_and_who_was_not_asked(blueprint):
    ops = {one.what: one for one in explain(blueprint).ops}
    assert list(ops) == list(OpTable.__struct_fields__)
    silu = ops["silu_mul"]
    assert (silu.by, silu.refusals) == ("fused", (Refusal("picky", "wants bfloat16"),))
    assert silu.unasked == ("older", "torch")
    assert (ops["rotary"].by, ops["rotary"].refusals, ops["rotary"].unasked) == ("torch", (), ())


def test_an_override_that_no_dtype_takes_is_told_with_what_stands_before_it(blueprint):
    assert [(one.op, one.name, one.why) for one in explain(blueprint).unread] == [
        ("silu_mul", "picky", "wants bfloat16 (float32)"),
        ("silu_mul", "older", "'fused' is listed before it and serves (float32)"),
    ]


def test_each_kind_of_attention_has_its_backend(blueprint):
    full, windowed = explain(blueprint).attention
    assert (full.what, full.by, full.unasked) == ("layers 0-1", "full-only", (FlatBlockAttention.name,))
    assert (windowed.what, windowed.by) == ("layers 2", FlatBlockAttention.name)
    assert windowed.refusals == (Refusal("full-only", "knows no window"),)
    assert windowed.detail == "2 query heads, 1 KV heads of 8 in float32, a window of 16"


def test_latents_are_described_and_refused_by_who_does_not_know_them():
    need = AttentionNeed(Latent(512, 64, "bfloat16"), query_heads=16, scale=0.1)
    assert described(need) == "16 query heads, latents of 512 and rotated keys of 64 in bfloat16"

    class Older(FlatBlockAttention):
        name, kinds = "older", (Paged, Windowed)

    with pytest.raises(Refused, match=r"older .* Latent caches are unknown to it; it knows Paged, Windowed"):
        choose_backend(need, [Older])


def test_every_backend_answers_for_every_kind_of_layer(blueprint):
    assert [(one.layers, one.backends) for one in attention_answers(blueprint)] == [
        ("0-1", (("full-only", None), (FlatBlockAttention.name, None))),
        ("2", (("full-only", "knows no window"), (FlatBlockAttention.name, None))),
    ]


def test_each_linear_layer_is_told_without_a_weight(blueprint):
    layers = {one.what: one for one in explain(blueprint).linears}
    assert len(layers) == 3 * 4 + 1
    assert layers["lm_head"].by == layers["model.layers.1.self_attn.o_proj"].by == "no-mlp"
    mlp = layers["model.layers.2.mlp.gate_up_proj"]
    assert (mlp.by, mlp.refusals) == ("torch", (Refusal("no-mlp", "does not like MLPs"),))
    assert mlp.detail == "unquantized: 32-bit float, 16 to 24 + 24, float32"


def test_what_is_expected_without_a_weight_is_chosen_with_it(blueprint):
    for module in blueprint.empty_model().modules():
        if isinstance(module, Linear) and ".mlp." in module.name:
            expected = module.expected_choice()
            assert module.choice is None
            module.pack({"weight": torch.zeros(module.spec.out_size, module.spec.in_size)})
            assert module.choice == expected


def test_what_nobody_serves_is_told_instead_of_raised(blueprint, monkeypatch):
    monkeypatch.setattr(Gadget, "backends", (FullOnly,))
    (windowed,) = explain(blueprint).unserved
    assert (windowed.what, windowed.by) == ("layers 2", None)
    assert windowed.refusals == (Refusal("full-only", "knows no window"),)


def test_decoder_layers_are_told_with_why_they_stay_in_parts(blueprint, monkeypatch):
    (layers,) = explain(blueprint).layers
    assert (layers.what, layers.by, layers.refusals) == (
        "layers 0-2",
        IN_PARTS,
        (Refusal("gadget", "no fused layers"),),
    )

    def fuse(self, spec):
        assert (spec.hidden_size, spec.inner_size, spec.query_heads, spec.kv_heads, spec.head_dim) == (16, 24, 2, 1, 8)
        assert (spec.qk_norm, spec.attention_bias, spec.down.op, spec.qkv.op) == (True, False, "torch", "no-mlp")
        return "an odd layer" if spec.layer == 1 else lambda weights: None

    monkeypatch.setattr(Gadget, "fuse", fuse)
    told = [(one.what, one.by, one.refusals) for one in explain(blueprint).layers]
    assert told == [
        ("layers 0, 2", ONE_CALL, ()),
        ("layers 1", IN_PARTS, (Refusal("gadget", "an odd layer"),)),
    ]


def test_layers_that_differ_in_their_number_alone_are_told_once(blueprint):
    told = explain_module.alike(explain(blueprint).linears)
    assert [one.what for one in told][:2] == ["lm_head", "model.layers.0-2.self_attn.qkv_proj"]
    assert len(told) == 5


def test_an_explanation_is_json(blueprint):
    said = json.loads(msgspec.json.encode(explain(blueprint)))
    assert (said["platform"], said["dtype"]) == ("gadget", "float32")
    assert said["attention"][1]["refusals"] == [{"name": "full-only", "why": "knows no window"}]


def test_the_config_is_that_of_the_folder(blueprint):
    fields = JsonFields(FIELDS, "config")
    assert blueprint.config.model == parse_model_config(fields, JsonFields({}, "generation"), ModelRegistry())
