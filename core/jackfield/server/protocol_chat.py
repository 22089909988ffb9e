"""/v1/chat/completions: what may be asked, and the shape of its answers."""

from __future__ import annotations

from typing import Any

import msgspec

from jackfield.frontend.messages import Message, plain_messages
from jackfield.sampling_params import SamplingParams
from jackfield.server.errors import ApiError
from jackfield.server.protocol_sampling import SamplingFields, refuse
from jackfield.server.usage import Usage

_NO_TOOLS = "Describe the tools in a message and parse the answer."
_REFUSALS: dict[str, tuple[tuple[Any, ...], str]] = {
    "tools": (([],), _NO_TOOLS),
    "tool_choice": (("none", "auto"), _NO_TOOLS),
    "functions": (([],), _NO_TOOLS),
    "function_call": (("none", "auto"), _NO_TOOLS),
    "response_format": (({"type": "text"},), "Answers are plain text: describe the format in a message."),
    "modalities": ((["text"],), "Answers are text."),
    "audio": ((), "Answers are text."),
    "prediction": ((), "Leave it out."),
    "web_search_options": ((), "Put what was found into a message."),
    "reasoning_effort": ((), "Where the chat template has a switch, set it with chat_template_kwargs."),
    "verbosity": ((), "Say it in a message, or set max_tokens."),
}
_MESSAGE_REFUSALS: dict[str, tuple[tuple[Any, ...], str]] = {
    "tool_calls": (([],), _NO_TOOLS),
    "function_call": ((), _NO_TOOLS),
    "tool_call_id": ((), _NO_TOOLS),
    "audio": ((), "Messages are text."),
    "refusal": (("",), "Put it into content."),
}


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message. Only text is read; what other kinds hold is not looked at, since they are refused."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message, also one that a client got from us and sends back."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None
    tool_call_id: str | None = None
    audio: Any = None
    refusal: str | None = None
    annotations: list[Any] | None = None  # where an answer's sources are: no effect

    def plain(self) -> Message:
        """As `plain_messages` reads it."""
        content: Any = self.content
        if isinstance(content, list):
            content = [{"type": part.type, "text": part.text} for part in content]
        return {"role": self.role, "content": content, "name": self.name}


class ChatRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body of /v1/chat/completions."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None  # no effect without tools

    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    def check(self) -> None:
        """Raises ApiError for what we do not serve."""
        refuse(self, _REFUSALS)
        for index, message in enumerate(self.messages):
            try:
                refuse(message, _MESSAGE_REFUSALS)
            except ApiError as error:
                field = f"messages[{index}].{error.param}"
                raise ApiError(400, f"messages[{index}].{error}", param=field, code=error.code) from None
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true.", param="top_logprobs")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ApiError(400, "max_tokens and max_completion_tokens differ: give one.", param="max_tokens")

    def conversation(self) -> list[Message]:
        """The messages in plain form. Raises FieldError."""
        return plain_messages([message.plain() for message in self.messages])

    def template_options(self) -> dict[str, Any]:
        """What the chat template is told beside the messages. Raises ApiError for what only the server may choose."""
        options = dict(self.chat_template_kwargs or {})
        for name in ("messages", "chat_template", "tokenize", "return_dict", "return_tensors", "tools", "documents"):
            if name in options:
                field = f"chat_template_kwargs.{name}"
                raise ApiError(400, f"{field} may not be set by a request.", param=field)
        options.setdefault("add_generation_prompt", self.add_generation_prompt is not False)
        return options

    def sampling_params(self, defaults: dict[str, Any]) -> SamplingParams:
        """An answer may go on to the end of the context unless the request says otherwise. Raises FieldError."""
        alternatives = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling(
            {"max_tokens": None, **defaults}, logprobs=alternatives, max_tokens=self.max_completion_tokens
        )


class TopLogprob(msgspec.Struct, frozen=True):
    """A likely token; `bytes` is its UTF-8 form, which may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    """The token that was chosen, beside the likeliest."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """One entry a token."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(msgspec.Struct, frozen=True):
    """The answer's text."""

    content: str
    role: str = "assistant"
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
