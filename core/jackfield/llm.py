"""Offline use: prompts in, answers out, in this process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jackfield.config.options import EngineOptions
from jackfield.field_error import FieldError
from jackfield.frontend.engine_client import InProcessEngine
from jackfield.frontend.messages import Message, plain_messages
from jackfield.frontend.processor import OutputProcessor, RequestState
from jackfield.frontend.prompt import Prompt, parse_prompts
from jackfield.frontend.requests import RequestBuilder
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.lora_request import LoRARequest
from jackfield.option_names import check_option_names
from jackfield.outputs import GenerationError, RequestOutput
from jackfield.progress import progress_bar
from jackfield.sampling_params import SamplingParams

SamplingChoice = SamplingParams | Sequence[SamplingParams] | None
LoraChoice = LoRARequest | Sequence[LoRARequest | None] | None


class LLM:
    """A model and its engine. Options are those of `EngineOptions`, by name: `LLM("folder", max_model_len=2048)`.

    Raises TypeError for an option that does not exist.
    """

    def __init__(self, model: str | None = None, **options: Any) -> None:
        check_option_names("LLM", options, EngineOptions.__struct_fields__)
        from jackfield.engine.build import build_engine  # here, since it takes torch

        # nobody watches single tokens here, so that a prompt may take as long a step as it likes
        resolved = EngineOptions(model=model, **{"target_step_seconds": 0, **options})
        engine = build_engine(resolved)
        self._attach(engine, Tokenizer.load(engine.model.tokenizer), resolved.seed)

    @classmethod
    def from_engine(cls, engine: InProcessEngine, tokenizer: Tokenizer, *, seed: int = 0) -> LLM:
        """Use an engine that was built elsewhere."""
        llm = cls.__new__(cls)
        llm._attach(engine, tokenizer, seed)
        return llm

    def _attach(self, engine: InProcessEngine, tokenizer: Tokenizer, seed: int) -> None:
        self.engine = engine
        self._builder = RequestBuilder(tokenizer, engine.model, seed)
        self._processor = OutputProcessor()
        self._ids = itertools.count()

    def generate(
        self,
        prompts: Any,
        sampling_params: SamplingChoice = None,
        *,
        use_tqdm: bool = True,
        priority: Sequence[int] | None = None,
        lora_request: LoraChoice = None,
    ) -> list[RequestOutput]:
        """Answer every prompt, in the order given.

        `prompts` is a string, {"prompt": ...}, {"prompt_token_ids": [...]}, a list of token ids, or a list of these.
        `sampling_params` is one for all or one a prompt; None: the model's own. So is `lora_request`; None: no adapter.
        Raises FieldError (a ValueError) for a bad request before anything runs, ValueError for an adapter that does not
        fit, GenerationError when the engine failed some.
        """
        return self._run(
            parse_prompts(prompts), sampling_params, use_tqdm=use_tqdm, priority=priority, loras=lora_request
        )

    def chat(
        self,
        messages: Sequence[Any],
        sampling_params: SamplingChoice = None,
        *,
        use_tqdm: bool = True,
        add_generation_prompt: bool = True,
        chat_template: str | None = None,
        tools: list[Any] | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        lora_request: LoraChoice = None,
    ) -> list[RequestOutput]:
        """Answer one conversation (a list of {"role": ..., "content": ...}) or a list of conversations.

        `chat_template` is Jinja text that replaces the model's own; it gets `tools` and `chat_template_kwargs`.
        """
        conversations = [messages] if messages and isinstance(messages[0], Mapping) else messages
        options = {"add_generation_prompt": add_generation_prompt, "chat_template": chat_template, "tools": tools}
        options.update(chat_template_kwargs or {})
        prompts = [self._chat_prompt(conversation, options) for conversation in conversations]
        return self._run(prompts, sampling_params, use_tqdm=use_tqdm, priority=None, loras=lora_request)

    def stream(self, prompt: Any, sampling_params: SamplingParams | None = None) -> Iterator[str]:
        """The pieces of one answer to one prompt, as they are made. Raises as `generate` does."""
        (parsed,) = parse_prompts(prompt)
        return self._stream(parsed, sampling_params)

    def stream_chat(self, messages: Sequence[Message], sampling_params: SamplingParams | None = None) -> Iterator[str]:
        """The pieces of the next message of one conversation, as they are made."""
        return self._stream(self._chat_prompt(messages, {"add_generation_prompt": True}), sampling_params)

    def get_tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self._builder.tokenizer.hf

    def get_default_sampling_params(self) -> SamplingParams:
        """What the model's authors recommend, where they said so."""
        return SamplingParams(**self.engine.model.default_sampling)

    def _chat_prompt(self, conversation: Sequence[Message], options: dict[str, Any]) -> Prompt:
        return Prompt(
            text=self._builder.tokenizer.render_chat(plain_messages(conversation), **options), add_special_tokens=False
        )

    def _run(
        self,
        prompts: list[Prompt],
        choice: SamplingChoice,
        *,
        use_tqdm: bool,
        priority: Sequence[int] | None,
        loras: LoraChoice,
    ) -> list[RequestOutput]:
        samplings = self._one_each("sampling_params", choice or self.get_default_sampling_params(), len(prompts))
        priorities = self._one_each("priority", 0 if priority is None else priority, len(prompts))
        adapters = self._one_each("lora_request", loras, len(prompts))
        states = [
            self._state(prompt, sampling, each, lora)
            for prompt, sampling, each, lora in zip(prompts, samplings, priorities, adapters, strict=True)
        ]
        with progress_bar("Answering", len(states), shown=use_tqdm, transient=True) as advance:
            for updated in self._updates(states):
                advance(sum(state.num_unfinished == 0 for state in updated))
        outputs = [state.output() for state in states]
        errors = {state.request.id: state.error for state in states if state.error is not None}
        if errors:
            raise GenerationError(errors, outputs)
        return outputs

    def _stream(self, prompt: Prompt, sampling: SamplingParams | None) -> Iterator[str]:
        sampling = sampling or self.get_default_sampling_params()
        if sampling.n != 1:
            raise FieldError("n", f"n must be 1 to stream an answer; got {sampling.n}")
        state = self._state(prompt, sampling, 0)
        for _ in self._updates([state]):
            delta = state.sequences[0].take()
            if delta is not None and delta.text:
                yield delta.text
        if state.error is not None:
            raise GenerationError({state.request.id: state.error}, [state.output()])

    def _state(
        self, prompt: Prompt, sampling: SamplingParams, priority: int, lora: LoRARequest | None = None
    ) -> RequestState:
        ids = self._builder.tokenize(prompt)
        request = self._builder.build(str(next(self._ids)), prompt, ids, sampling, priority=priority, lora=lora)
        return RequestState(request, self._builder)

    def _updates(self, states: list[RequestState]) -> Iterator[list[RequestState]]:
        """Run the requests to their ends; after each step those of them that got something."""
        try:
            for state in states:
                self._processor.add(state)
                for request in state.request.sequences:
                    self.engine.add(request)
            num_left = len(states)
            while num_left:
                assert self.engine.has_work, "the engine lost a request"
                updated, aborts = self._processor.process(self.engine.step())
                for id in aborts:
                    self.engine.abort(id)
                num_left -= sum(state.num_unfinished == 0 for state in updated)
                yield updated
        except BaseException:  # Ctrl-C and a reader who leaves, too: the next call must find an engine without ours
            for state in states:
                for id in self._processor.remove(state):
                    self.engine.abort(id)
            raise

    @staticmethod
    def _one_each(field: str, values: Any, count: int) -> list[Any]:
        if not isinstance(values, Sequence):
            return [values] * count
        if len(values) != count:
            raise ValueError(f"{field} must be one for all or one a prompt: {count} prompts, {len(values)} given")
        return list(values)
