"""What a checkpoint says about its model: config.json and generation_config.json, read once into a frozen value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from jackfield.config.experts_config import ExpertsConfig, read_experts
from jackfield.config.json_fields import ConfigError, JsonFields
from jackfield.config.latent_config import LatentConfig, read_latent
from jackfield.config.rope_config import RopeConfig, read_rope
from jackfield.models.registry import ModelRegistry

_SAMPLING = {"temperature": float, "top_p": float, "top_k": int, "min_p": float, "repetition_penalty": float}
_DTYPES = ("bfloat16", "float16", "float32")
# Others slide whenever sliding_window is set
_SLIDES_WHEN_ASKED = ("LlamaForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder-only model. Sizes in elements; `windows[i]` is the sliding window of layer i in tokens, or None."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int  # of latent attention: what is rotated of a head
    rms_norm_eps: float
    rope: RopeConfig
    max_position_embeddings: int
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    windows: tuple[int | None, ...]
    dtype: str  # of the checkpoint, a torch name
    eos_token_ids: tuple[int, ...]  # any of them ends a sequence
    bos_token_id: int | None
    default_sampling: dict[str, float]  # what generation_config.json recommends, by SamplingParams' field names
    experts: ExpertsConfig | None = None  # None: every layer is dense
    latent: LatentConfig | None = None  # None: heads have keys and values of their own
    quantization: dict[str, Any] | None = None  # `quantization_config` as it stands; None: plain weights

    @property
    def attention_size(self) -> int:
        """Numbers a token between a layer's projections: queries, keys, values and what is attended to."""
        if self.latent is None:
            return 2 * (self.num_heads + self.num_kv_heads) * self.head_dim
        latent = self.latent
        a_head = latent.head_dim + 2 * latent.rank + latent.rope_dim + latent.v_dim  # the query, absorbed; the values
        return self.num_heads * a_head + 2 * (latent.rank + latent.rope_dim)

    @property
    def context_len(self) -> int:
        """The longest sequence that the positions are made for, in tokens."""
        if self.rope.type in ("linear", "dynamic"):
            return int(self.max_position_embeddings * self.rope.factor)
        if self.rope.type == "yarn":
            return max(self.max_position_embeddings, int(self.rope.original_max_len * self.rope.factor))
        return self.max_position_embeddings


def load_model_config(path: Path, registry: ModelRegistry | None = None) -> ModelConfig:
    """Read the folder at `path` (`jackfield.loader.folder.model_folder` resolves names to folders).

    ConfigError says which file and field is missing or cannot be served, and what would be.
    """
    if not path.is_dir():
        raise ConfigError(f"Wanted a model folder; {path} is not a folder")
    if not (path / "config.json").is_file():
        raise ConfigError(f"{path} holds no config.json; give the folder of a Hugging Face checkpoint")
    fields = JsonFields.read(path / "config.json")
    generation_path = path / "generation_config.json"
    generation = JsonFields.read(generation_path) if generation_path.is_file() else JsonFields({}, str(generation_path))
    return parse_model_config(fields, generation, registry or ModelRegistry())


def parse_model_config(fields: JsonFields, generation: JsonFields, registry: ModelRegistry) -> ModelConfig:
    """The model that two objects, config.json's and generation_config.json's, describe."""
    architecture = _architecture(fields, registry)
    _refuse_unserved(fields)
    num_heads, hidden_size = fields.positive("num_attention_heads"), fields.positive("hidden_size")
    num_layers, max_len = fields.positive("num_hidden_layers"), fields.positive("max_position_embeddings")
    num_kv_heads = fields.positive("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise fields.error("num_key_value_heads", f"({num_kv_heads}) must divide num_attention_heads ({num_heads})")
    latent = read_latent(fields, architecture, num_layers)
    if latent is None and "head_dim" not in fields and hidden_size % num_heads:
        raise fields.error(
            "hidden_size", f"({hidden_size}) is no multiple of num_attention_heads ({num_heads}): give head_dim"
        )
    return ModelConfig(
        architecture=architecture,
        vocab_size=fields.positive("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.positive("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=latent.rope_dim if latent else fields.positive("head_dim", hidden_size // num_heads),
        rms_norm_eps=fields.get("rms_norm_eps", float, 1e-6),
        rope=read_rope(fields, max_len),
        max_position_embeddings=max_len,
        tie_word_embeddings=fields.get("tie_word_embeddings", bool, False),
        attention_bias=fields.get("attention_bias", bool, False),
        mlp_bias=fields.get("mlp_bias", bool, False),
        windows=_windows(fields, num_layers, slides=architecture not in _SLIDES_WHEN_ASKED),
        dtype=_dtype(fields),
        eos_token_ids=tuple(dict.fromkeys((*_token_ids(generation), *_token_ids(fields)))),
        bos_token_id=fields.get("bos_token_id", int) if "bos_token_id" in fields else None,
        default_sampling={name: generation.get(name, kind) for name, kind in _SAMPLING.items() if name in generation},
        experts=read_experts(fields, architecture, num_layers),
        latent=latent,
        quantization=_quantization(fields),
    )


def _architecture(fields: JsonFields, registry: ModelRegistry) -> str:
    names = fields.get("architectures", list[str])
    for name in names:
        if name in registry.classes:
            return name
    raise fields.error("architectures", f"is {names}; supported: {', '.join(sorted(registry.classes))}")


def _refuse_unserved(fields: JsonFields) -> None:
    if fields.get("hidden_act", str, "silu") not in ("silu", "swish"):
        raise fields.error("hidden_act", f"is {fields.values['hidden_act']!r}; supported: silu")


def _quantization(fields: JsonFields) -> dict[str, Any] | None:
    """The object as it stands: its fields are the weight format's to read."""
    if "quantization_config" not in fields:
        return None
    inner = fields.inner("quantization_config")
    inner.get("quant_method", str)
    return inner.values


def _dtype(fields: JsonFields) -> str:
    field = "dtype" if "dtype" in fields else "torch_dtype"
    found = fields.get(field, str, "float32").removeprefix("torch.")
    if found not in _DTYPES:
        raise fields.error(field, f"is {found!r}; supported: {', '.join(_DTYPES)}")
    return found


def _token_ids(fields: JsonFields) -> tuple[int, ...]:
    if isinstance(fields.values.get("eos_token_id"), list):
        return tuple(fields.get("eos_token_id", list[int]))
    return (fields.get("eos_token_id", int),) if "eos_token_id" in fields else ()


def _windows(fields: JsonFields, num_layers: int, slides: bool) -> tuple[int | None, ...]:
    """Which layers slide: those that `layer_types` names, else those from `max_window_layers` on, else all."""
    if not fields.get("use_sliding_window", bool, slides) or "sliding_window" not in fields:
        if "sliding_attention" in fields.get("layer_types", list[str], []):
            raise fields.error("layer_types", "names sliding_attention, and sliding_window is not set")
        return (None,) * num_layers
    window = fields.positive("sliding_window")
    if "layer_types" not in fields:
        first = fields.get("max_window_layers", int, 0)
        return tuple(window if layer >= first else None for layer in range(num_layers))
    types = fields.get("layer_types", list[str])
    if len(types) != num_layers or set(types) - {"full_attention", "sliding_attention"}:
        raise fields.error(
            "layer_types", f"must name full_attention or sliding_attention {num_layers} times; found {types}"
        )
    return tuple(window if kind == "sliding_attention" else None for kind in types)
