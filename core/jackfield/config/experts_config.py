"""The experts of a mixture as a checkpoint's config.json states them."""

from __future__ import annotations

import msgspec

from jackfield.config.json_fields import JsonFields

MIXTURES = ("MixtralForCausalLM", "Qwen3MoeForCausalLM")


class ExpertsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which layers hold experts, how many, how wide (in elements), and how tokens are sent to them."""

    num_experts: int
    top: int  # experts that a token is sent to
    inner_size: int
    renormalize: bool  # whether the shares of a token's experts add up to 1
    layers: frozenset[int]


def read_experts(fields: JsonFields, architecture: str, num_layers: int) -> ExpertsConfig | None:
    """The experts of an architecture that has them; None where every layer is dense."""
    if architecture not in MIXTURES:
        return None
    read = _mixtral if architecture == "MixtralForCausalLM" else _qwen3
    experts = read(fields, num_layers)
    if experts.top > experts.num_experts:
        raise fields.error(
            "num_experts_per_tok", f"({experts.top}) must be at most the number of experts ({experts.num_experts})"
        )
    return experts if experts.layers else None


def _mixtral(fields: JsonFields, num_layers: int) -> ExpertsConfig:
    return ExpertsConfig(
        num_experts=fields.positive("num_local_experts", 8),
        top=fields.positive("num_experts_per_tok", 2),
        inner_size=fields.positive("intermediate_size"),
        renormalize=True,
        layers=frozenset(range(num_layers)),
    )


def _qwen3(fields: JsonFields, num_layers: int) -> ExpertsConfig:
    if fields.get("use_sliding_window", bool, False):
        raise fields.error("use_sliding_window", "is true; Qwen3MoeForCausalLM is served without windows")
    step = fields.positive("decoder_sparse_step", 1)
    dense = fields.get("mlp_only_layers", list[int], [])
    if any(not 0 <= layer < num_layers for layer in dense):
        raise fields.error("mlp_only_layers", f"must name layers 0 to {num_layers - 1}; found {dense}")
    return ExpertsConfig(
        num_experts=fields.positive("num_local_experts" if "num_local_experts" in fields else "num_experts", 128),
        top=fields.positive("num_experts_per_tok", 8),
        inner_size=fields.positive("moe_intermediate_size", 768),
        renormalize=fields.get("norm_topk_prob", bool, False),
        layers=frozenset(i for i in range(num_layers) if i not in dense and (i + 1) % step == 0),
    )
