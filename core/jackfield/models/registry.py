"""Model classes by the architecture name that a checkpoint's config.json gives, imported when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from jackfield.models.interface import Model

OWN_MODELS: Mapping[str, str] = {
    "DeepseekV2ForCausalLM": "jackfield.models.deepseek:DeepSeek",  # dense layers alone
    "DeepseekV3ForCausalLM": "jackfield.models.deepseek:DeepSeek",  # the same
    "LlamaForCausalLM": "jackfield.models.llama:Llama",
    "MistralForCausalLM": "jackfield.models.llama:Llama",  # Llama with a sliding window
    "MixtralForCausalLM": "jackfield.models.mixtral:Mixtral",
    "Qwen3ForCausalLM": "jackfield.models.qwen3:Qwen3",
    "Qwen3MoeForCausalLM": "jackfield.models.qwen3_moe:Qwen3Moe",
}


class ModelRegistry(msgspec.Struct, frozen=True):
    """`classes[architecture]` is `module:Class`. Immutable; `extended` gives a larger one."""

    classes: Mapping[str, str] = msgspec.field(default_factory=lambda: OWN_MODELS)

    def extended(self, more: Mapping[str, str]) -> ModelRegistry:
        """With what plugins bring (the `models` hook); ValueError names an architecture that is already there."""
        taken = sorted(name for name in more if self.classes.get(name, more[name]) != more[name])
        if taken:
            raise ValueError(f"Two models for {', '.join(taken)}: {self.classes[taken[0]]} and {more[taken[0]]}")
        return ModelRegistry({**self.classes, **more})

    def model_class(self, architecture: str) -> type[Model]:
        """Import the class of an architecture; ValueError lists those that are known."""
        if architecture not in self.classes:
            raise ValueError(f"No model for {architecture!r}; supported: {', '.join(sorted(self.classes))}")
        module, _, name = self.classes[architecture].partition(":")
        found: type[Model] = getattr(import_module(module), name)
        return found
