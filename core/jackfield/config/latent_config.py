"""The sizes of latent attention (MLA) as a checkpoint's config.json states them; layers with experts are refused."""

from __future__ import annotations

import msgspec

from jackfield.config.json_fields import JsonFields

LATENT_ARCHITECTURES = ("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM")


class LatentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Heads share one latent of `rank` and one rotated key of `rope_dim` a token. Sizes in elements."""

    query_rank: int | None  # of the queries' own latent; None: queries come straight out of the hidden states
    rank: int
    rope_dim: int
    nope_dim: int  # of a head's query and key, without the rotated part
    v_dim: int
    interleaved: bool  # whether neighbours are rotated together

    @property
    def head_dim(self) -> int:
        """Of a head's whole query: what scores are scaled by."""
        return self.nope_dim + self.rope_dim


def read_latent(fields: JsonFields, architecture: str, num_layers: int) -> LatentConfig | None:
    """The latent sizes of an architecture that has them; ConfigError for one whose layers hold experts."""
    if architecture not in LATENT_ARCHITECTURES:
        return None
    num_dense = fields.get("first_k_dense_replace", int, 0)
    if num_dense < num_layers:
        raise fields.error(
            "first_k_dense_replace",
            f"is {num_dense}, so that layers {num_dense} to {num_layers - 1} are mixtures of experts, which are not"
            f" served; {architecture} is with dense layers alone (at least num_hidden_layers, {num_layers})",
        )
    return LatentConfig(
        query_rank=fields.positive("q_lora_rank") if "q_lora_rank" in fields else None,
        rank=fields.positive("kv_lora_rank"),
        rope_dim=fields.positive("qk_rope_head_dim"),
        nope_dim=fields.positive("qk_nope_head_dim"),
        v_dim=fields.positive("v_head_dim"),
        interleaved=architecture == "DeepseekV2ForCausalLM" or fields.get("rope_interleave", bool, True),
    )
