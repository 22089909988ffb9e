"""/v1/chat/completions."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jackfield.frontend.frontend import Ask
from jackfield.frontend.prompt import Prompt
from jackfield.server.body import BodyReader
from jackfield.server.disconnect import bound_to_client
from jackfield.server.envelope import Envelope
from jackfield.server.events_chat import ChatEvents, chat_answer
from jackfield.server.protocol_chat import ChatRequest
from jackfield.server.serving import Serving
from jackfield.server.sse import EventStream


class ChatRoute:
    """Answers conversations."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._reader = BodyReader(ChatRequest)

    async def post(self, request: Request) -> Response:
        """One conversation, streamed or whole."""
        frontend = self._serving.accepting()
        body = await self._reader.read(request, self._serving.options.max_body_bytes)
        lora = self._serving.check_model(body.model)
        body.check()
        text = frontend.tokenizer.render_chat(body.conversation(), **body.template_options())
        envelope = Envelope.new("chatcmpl", body.model or self._serving.model_name)
        ask = Ask(
            id=envelope.id,
            prompts=[Prompt(text=text, add_special_tokens=False, cache_salt=body.cache_salt or "")],
            sampling=body.sampling_params(frontend.model.default_sampling),
            priority=body.priority or 0,
            lora=lora,
            stream=bool(body.stream),
        )
        submission = await frontend.submit(ask)
        if body.stream:
            events = ChatEvents(envelope, submission, frontend.tokenizer, includes_usage=body.includes_usage)
            return EventStream(submission, events)
        async with bound_to_client(submission, request.receive):
            await submission.finished()
            answer = chat_answer(envelope, submission, frontend.tokenizer)
        return Response(msgspec.json.encode(answer), media_type="application/json")
