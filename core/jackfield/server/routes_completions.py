"""/v1/completions."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jackfield.frontend.frontend import Ask
from jackfield.frontend.submission import Submission
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.server.body import BodyReader
from jackfield.server.disconnect import bound_to_client
from jackfield.server.envelope import Envelope
from jackfield.server.events_completions import CompletionEvents, completion_answer
from jackfield.server.protocol_completions import CompletionRequest
from jackfield.server.serving import Serving
from jackfield.server.sse import EventStream


class CompletionsRoute:
    """Continues prompts."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._reader = BodyReader(CompletionRequest)

    async def post(self, request: Request) -> Response:
        """One prompt or several, streamed or whole."""
        frontend = self._serving.accepting()
        body = await self._reader.read(request, self._serving.options.max_body_bytes)
        lora = self._serving.check_model(body.model)
        body.check()
        envelope = Envelope.new("cmpl", body.model or self._serving.model_name)
        ask = Ask(
            id=envelope.id,
            prompts=body.prompts(),
            sampling=body.sampling_params(frontend.model.default_sampling),
            priority=body.priority or 0,
            lora=lora,
            stream=bool(body.stream),
        )
        submission = await frontend.submit(ask)
        echoes = _echoes(submission, frontend.tokenizer) if body.echo else []
        if body.stream:
            events = CompletionEvents(
                envelope, submission, frontend.tokenizer, includes_usage=body.includes_usage, echoes=echoes
            )
            return EventStream(submission, events)
        async with bound_to_client(submission, request.receive):
            await submission.finished()
            answer = completion_answer(envelope, submission, frontend.tokenizer, echoes)
        return Response(msgspec.json.encode(answer), media_type="application/json")


def _echoes(submission: Submission, tokenizer: Tokenizer) -> list[str]:
    """The prompt of each sequence, by its index."""
    echoes = []
    for state in submission.states:
        request = state.request
        text = request.prompt if request.prompt is not None else tokenizer.decode(request.prompt_token_ids)
        echoes += [text] * len(state.sequences)
    return echoes
