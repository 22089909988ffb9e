"""The frontend's share of a step: detokenise what came and write it as server-sent events, for every sequence."""

from __future__ import annotations

from jackfield.embedded import EMBEDDED_MODEL, EMBEDDED_NAME
from jackfield.engine.messages import EngineOutputs
from jackfield.engine.model_info import ModelInfo
from jackfield.frontend.processor import OutputProcessor, RequestState
from jackfield.frontend.prompt import Prompt
from jackfield.frontend.requests import RequestBuilder
from jackfield.frontend.submission import Submission
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.sampling_params import SamplingParams
from jackfield.server.envelope import Envelope
from jackfield.server.events_chat import ChatEvents


class TextSink:
    """Streams with the embedded model's tokenizer, one a sequence; what they write is dropped.

    Every token that the engine brings is replaced by the next one of a fixed text, since a null model knows no text.
    """

    def __init__(self, num_seqs: int) -> None:
        tokenizer = Tokenizer.load(str(EMBEDDED_MODEL))
        info = ModelInfo(
            name=EMBEDDED_NAME,
            max_model_len=2**20,
            vocab_size=tokenizer.vocab_size,
            eos_token_ids=frozenset(),
            tokenizer=str(EMBEDDED_MODEL),
        )
        builder, envelope = RequestBuilder(tokenizer, info, seed=0), Envelope.new("chatcmpl", EMBEDDED_NAME)
        self._text = tokenizer.encode(" The quick brown fox jumps over the lazy dog, again and again." * 4)
        self._processor, self._count = OutputProcessor(), 0
        self._streams: dict[int, tuple[Submission, ChatEvents]] = {}
        self._ids: dict[str, str] = {}
        for index in range(num_seqs):
            request = builder.build(str(index), Prompt(text="x"), [1], SamplingParams(max_tokens=None))
            submission = Submission(lambda gone: None, stream=True)
            state = RequestState(request, builder, wake=submission.wake)
            submission.states = [state]
            self._processor.add(state)
            events = ChatEvents(envelope, submission, tokenizer, includes_usage=False)
            self._streams[id(state)] = (submission, events)
            self._ids[str(index)] = request.sequences[0].id
        self.num_bytes = 0

    def take(self, outputs: EngineOutputs) -> None:
        """Turn one step's outputs into bytes, as the server does."""
        self._count += 1
        token = self._text[self._count % len(self._text)]
        ids = [self._ids[id] for id in outputs.ids]
        updated, _ = self._processor.process(EngineOutputs(ids, [token] * len(ids)))
        for state in updated:
            submission, events = self._streams[id(state)]
            submission.wake()
            for sequence in state.sequences:
                delta = sequence.take()
                if delta is not None:
                    self.num_bytes += len(events.delta(sequence.index, delta))
