"""Decoder layers that a platform has in one call: the tokens of the layers in parts, asked for once, or a reason."""

from __future__ import annotations

import pytest
from small_engines import answers

from jackfield.layers.decoder import DecoderLayer
from jackfield.layers.fused_decoder import decoder_layers
from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.graph import EagerRunner
from jackfield_platforms.linear import TorchLinear
from jackfield_platforms.testing.plain_fusion import fuse_plain
from jackfield_platforms.testing.recording_graphs import RecordingGraphRunner
from jackfield_platforms.testing.strict import CompiledStrictPlatform, StrictPlatform

LLAMA = {"architectures": ["LlamaForCausalLM"], "attention_bias": True, "mlp_bias": True}
SHAPES = {"qwen3": {}, "llama": LLAMA}


class Parts(StrictPlatform):
    def attention_backends(self):
        return (FlatBlockAttention,)


class Asks:
    """Keeps what it was asked."""

    def attention_backends(self):
        return (FlatBlockAttention,)

    def fuse(self, spec):
        self.asked = [*getattr(self, "asked", []), spec]
        return fuse_plain(spec)


class Fused(Asks, StrictPlatform):
    pass


class FusedCompiled(Asks, CompiledStrictPlatform):
    pass


class FusedEager(Asks, StrictPlatform):
    def graph_runner(self):
        return EagerRunner()


class Uncapturable(FlatBlockAttention):
    name, graphs = "uncapturable", "none"


class FusedInPieces(Asks, StrictPlatform):
    def __init__(self):
        super().__init__()
        self.graphs = RecordingGraphRunner()

    def attention_backends(self):
        return (Uncapturable,)


class OwnLinear(TorchLinear):
    name = "own"

    def rejects(self, encoding, layer):
        return None if ".down_proj" in layer.name else "only down"


class FusedBesideOwnLinear(Fused):
    def linear_ops(self, weight_bytes=0):
        return (OwnLinear(),)


def refuses(self, *args):
    raise AssertionError("the layer in parts is run")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("platform", [Fused, FusedEager, FusedCompiled, FusedInPieces])
def test_tokens_are_those_of_the_layers_in_parts(engine_on, monkeypatch, platform, shape):
    sizes = {"max_num_seqs": 2, "max_num_batched_tokens": 16}
    wanted = answers(engine_on(Parts, SHAPES[shape], **sizes))
    monkeypatch.setattr("jackfield.layers.attention.Attention.forward", refuses)
    engine = engine_on(platform, SHAPES[shape], **sizes)
    assert answers(engine) == wanted
    asked = engine._executor._platform.asked
    assert [spec.layer for spec in asked] == [0, 1, 2], "once a layer"
    assert {(spec.qk_norm, spec.attention_bias) for spec in asked} == {(shape == "qwen3", shape == "llama")}


def test_what_the_platform_refuses_stays_in_parts(engine_on):
    engine = engine_on(FusedBesideOwnLinear)
    assert all(layer.fused is None for layer in layers_of(engine))
    assert answers(engine) == answers(engine_on(Parts))
    (reason,) = {fuse_plain(spec) for spec in engine._executor._platform.asked if spec.layer == 2}
    assert reason.startswith("model.layers.2.mlp.down_proj has 32-bit float weights multiplied by 'own'")


def test_with_adapters_nothing_is_fused(engine_on):
    engine = engine_on(Fused, enable_lora=True)
    assert not hasattr(engine._executor._platform, "asked")
    assert all(layer.fused is None for layer in layers_of(engine))


def layers_of(engine) -> list[DecoderLayer]:
    return decoder_layers(engine._executor._programs._model)
