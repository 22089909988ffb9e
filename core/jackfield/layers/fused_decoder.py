"""Asking a platform for decoder layers in one call: what it is told of a layer, and what it is given."""

from __future__ import annotations

from collections.abc import Callable

from jackfield.layers.attention import Attention
from jackfield.layers.decoder import DecoderLayer
from jackfield.layers.linear import Linear
from jackfield.layers.mlp import MLP
from jackfield.models.interface import Model
from jackfield_platforms.fusion import DecoderSpec, DecoderWeights, Fuse, FusedLinear, PackedLinear

Asked = Callable[[DecoderSpec], Fuse | str]


def decoder_layers(model: Model) -> list[DecoderLayer]:
    """The layers that a platform may fuse, in order."""
    return [module for module in model.modules() if isinstance(module, DecoderLayer)]


def fuse_layers(model: Model, fuse: Asked) -> None:
    """Put the platform's own form into each layer that it fuses. All weights are packed."""
    for layer in decoder_layers(model):
        answer = ask(layer, model, fuse)
        if not isinstance(answer, str):
            layer.fused = answer(weights_of(layer))


def ask(layer: DecoderLayer, model: Model, fuse: Asked) -> Fuse | str:
    """The answer for one layer; before its weights are there it is that after."""
    if type(layer) is not DecoderLayer or type(layer.self_attn) is not Attention:
        return "its attention is the model's own"
    if type(layer.mlp) is not MLP:
        return "its feed-forward block is a mixture of experts"
    if model.build.lora is not None:
        return "LoRA adapters add to each linear layer"
    return fuse(spec_of(layer, model))


def spec_of(layer: DecoderLayer, model: Model) -> DecoderSpec:
    """The layer as data."""
    config, attention, mlp = model.build.config, _attention(layer), _mlp(layer)
    return DecoderSpec(
        layer=attention.slot,
        dtype=model.build.dtype_name,
        hidden_size=config.hidden_size,
        inner_size=mlp.gate_up_proj.spec.out_sizes[0],
        query_heads=attention.sizes[0] // attention.head_dim,
        kv_heads=attention.sizes[1] // attention.head_dim,
        head_dim=attention.head_dim,
        eps=config.rms_norm_eps,
        activation="silu",  # an MLP knows no other
        qk_norm=attention.q_norm is not None,
        attention_bias=config.attention_bias,
        mlp_bias=config.mlp_bias,
        qkv=_described(attention.qkv_proj),
        out=_described(attention.o_proj),
        gate_up=_described(mlp.gate_up_proj),
        down=_described(mlp.down_proj),
    )


def weights_of(layer: DecoderLayer) -> DecoderWeights:
    """What the layer holds."""
    attention, mlp = _attention(layer), _mlp(layer)
    return DecoderWeights(
        input_norm=layer.input_layernorm.weight,
        post_attention_norm=layer.post_attention_layernorm.weight,
        q_norm=None if attention.q_norm is None else attention.q_norm.weight,
        k_norm=None if attention.k_norm is None else attention.k_norm.weight,
        qkv=_packed(attention.qkv_proj),
        out=_packed(attention.o_proj),
        gate_up=_packed(mlp.gate_up_proj),
        down=_packed(mlp.down_proj),
        comm=layer.input_layernorm.comm,
    )


def _attention(layer: DecoderLayer) -> Attention:
    assert isinstance(layer.self_attn, Attention), "other layers are not asked for"
    return layer.self_attn


def _mlp(layer: DecoderLayer) -> MLP:
    assert isinstance(layer.mlp, MLP), "other layers are not asked for"
    return layer.mlp


def _described(linear: Linear) -> FusedLinear:
    encoding = linear.method.encoding(linear.spec)
    return FusedLinear(linear.spec, encoding, linear.expected_choice().taken.name)


def _packed(linear: Linear) -> PackedLinear:
    assert linear.choice is not None, "weights are packed before layers are fused"
    return PackedLinear(linear.choice.taken, linear.packed)
