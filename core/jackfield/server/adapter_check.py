"""Trying every LoRA adapter before the server is ready: one that cannot be served is told at once."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield.config.json_fields import ConfigError
from jackfield.frontend.frontend import Ask, Frontend
from jackfield.frontend.prompt import Prompt
from jackfield.frontend.submission import RequestFailedError
from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams


async def check_adapters(frontend: Frontend, adapters: Mapping[str, LoRARequest], model_name: str) -> None:
    """Ask for one token with each adapter; ConfigError with what kept one from answering, or for one that nobody could
    name since the model has its name.
    """
    if adapters and not frontend.model.serves_lora:
        raise ConfigError("lora_modules names adapters; start the engine with --enable-lora to serve them")
    if model_name in adapters:
        raise ConfigError(
            f"lora_modules: {model_name!r} is the model's own name; give the adapter another one, or the model with "
            "served_model_name"
        )
    for name, lora in adapters.items():
        ask = Ask(
            id=f"adapter-{name}",
            prompts=[Prompt(token_ids=[0])],
            sampling=SamplingParams(temperature=0, max_tokens=1),
            lora=lora,
            stream=False,
        )
        submission = await frontend.submit(ask)
        try:
            await submission.finished()
        except RequestFailedError as error:
            raise ConfigError(f"lora_modules: {name!r} cannot be served. {error}") from None
        finally:
            submission.abort()
