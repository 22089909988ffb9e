from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
import pytest

from jackfield import LLM, LoRARequest, SamplingParams
from jackfield.engine.messages import EngineOutput, EngineOutputs, EngineRequest
from jackfield.engine.model_info import ModelInfo
from jackfield.field_error import FieldError
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.outputs import GenerationError


class StepEngine:
    """Answers every prompt with its own tokens, one a step; the last to come is served first."""

    def __init__(self, model: ModelInfo, *, fails: Callable[[EngineRequest], bool] = lambda _: False) -> None:
        self.model = model
        self.requests: list[EngineRequest] = []
        self.aborted: list[str] = []
        self._fails = fails
        self._left: dict[str, deque[int]] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._left)

    def add(self, request: EngineRequest) -> None:
        self.requests.append(request)
        assert request.sampling.max_tokens is not None
        self._left[request.id] = deque(request.prompt_token_ids[: request.sampling.max_tokens])

    def abort(self, id: str) -> None:
        self.aborted.append(id)
        self._left.pop(id, None)

    def step(self) -> EngineOutputs:
        request = next(request for request in reversed(self.requests) if request.id in self._left)
        left = self._left[request.id]
        if self._fails(request):
            del self._left[request.id]
            return EngineOutputs(others=[EngineOutput(request.id, [], finish_reason="error", error="broken step")])
        token = left.popleft()
        if left:
            return EngineOutputs([request.id], [token])
        del self._left[request.id]
        return EngineOutputs(others=[EngineOutput(request.id, [token], finish_reason="length")])


@pytest.fixture
def engine(model: ModelInfo) -> StepEngine:
    return StepEngine(model)


@pytest.fixture
def llm(engine: StepEngine, byte_level: Tokenizer) -> LLM:
    return LLM.from_engine(engine, byte_level)


def test_answers_come_in_the_order_of_the_prompts(llm: LLM) -> None:
    outputs = llm.generate(["the dog", "a fox", "Köln"], SamplingParams(max_tokens=50), use_tqdm=False)
    assert [output.outputs[0].text for output in outputs] == ["the dog", "a fox", "Köln"]
    assert [output.prompt for output in outputs] == ["the dog", "a fox", "Köln"]
    assert all(output.finished and output.outputs[0].finish_reason == "length" for output in outputs)


def test_each_prompt_may_have_its_own_parameters_and_priority(llm: LLM, engine: StepEngine) -> None:
    samplings = [SamplingParams(max_tokens=1), SamplingParams(n=2, temperature=1, max_tokens=2)]
    outputs = llm.generate([[5, 6, 7], [8, 9]], samplings, use_tqdm=False, priority=[3, 1])
    assert [[one.token_ids for one in output.outputs] for output in outputs] == [[[5]], [[8, 9], [8, 9]]]
    assert [request.priority for request in engine.requests] == [3, 1, 1]


def test_each_prompt_may_have_its_own_adapter(engine: StepEngine, byte_level: Tokenizer) -> None:
    engine.model = msgspec.structs.replace(engine.model, serves_lora=True)
    llm, poet = LLM.from_engine(engine, byte_level), LoRARequest("poet", 1, "folder")
    llm.generate(["a", "b"], SamplingParams(max_tokens=1), use_tqdm=False, lora_request=[None, poet])
    llm.generate("c", SamplingParams(n=2, temperature=1, max_tokens=1), use_tqdm=False, lora_request=poet)
    assert [request.lora for request in engine.requests] == [None, poet, poet, poet]


def test_an_adapter_needs_an_engine_that_serves_them(llm: LLM, engine: StepEngine) -> None:
    with pytest.raises(FieldError, match=r"names the LoRA adapter 'poet'; .* Start it with --enable-lora"):
        llm.generate("a", use_tqdm=False, lora_request=LoRARequest("poet", 1, "folder"))
    assert not engine.requests


def test_the_number_of_parameters_must_fit(llm: LLM) -> None:
    with pytest.raises(ValueError, match="2 prompts, 3 given"):
        llm.generate(["a", "b"], [SamplingParams()] * 3, use_tqdm=False)


def test_without_parameters_the_model_s_own_hold(llm: LLM, engine: StepEngine) -> None:
    llm.generate("a", use_tqdm=False)
    assert engine.requests[0].sampling.temperature == 0.5
    assert llm.get_default_sampling_params() == SamplingParams(temperature=0.5)


def test_a_stop_string_aborts_in_the_engine(llm: LLM, engine: StepEngine) -> None:
    (output,) = llm.generate("the lazy dog", SamplingParams(stop="lazy", max_tokens=60), use_tqdm=False)
    assert output.outputs[0].text == "the "
    assert engine.aborted == [engine.requests[0].id]


def test_chat_renders_the_template(llm: LLM, engine: StepEngine, byte_level: Tokenizer) -> None:
    one = [{"role": "user", "content": "hi"}]
    outputs = llm.chat([one, [*one, {"role": "assistant", "content": "yo"}, *one]], use_tqdm=False)
    assert [output.prompt for output in outputs] == ["[user]hi[assistant]", "[user]hi[assistant]yo[user]hi[assistant]"]
    (output,) = llm.chat(one, use_tqdm=False, add_generation_prompt=False)
    assert output.prompt == "[user]hi"
    assert output.prompt_token_ids == byte_level.encode("[user]hi", add_special_tokens=False)


def test_failed_requests_raise_with_all_outputs(model: ModelInfo, byte_level: Tokenizer) -> None:
    llm = LLM.from_engine(StepEngine(model, fails=lambda request: request.prompt_token_ids == [7]), byte_level)
    with pytest.raises(GenerationError, match=r"1 of 2 requests failed.*broken step") as caught:
        llm.generate([[5], [7]], use_tqdm=False)
    assert [output.outputs[0].finish_reason for output in caught.value.outputs] == ["length", "error"]


def test_an_interruption_leaves_a_clean_engine(llm: LLM, engine: StepEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> EngineOutputs:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            llm.generate(["a", "b"], use_tqdm=False)
    assert not engine.has_work
    assert llm.generate("fox", use_tqdm=False)[0].outputs[0].text == "fox"


def test_a_bad_request_is_refused_before_anything_runs(llm: LLM, engine: StepEngine) -> None:
    with pytest.raises(ValueError, match="64"):
        llm.generate([[5], [5] * 64], use_tqdm=False)
    assert engine.requests == []


def test_an_unknown_option_suggests_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"gpu_memory_utilization.*Did you mean 'memory_utilization'"):
        LLM("folder", gpu_memory_utilization=0.9)


def test_a_streamed_answer_comes_in_pieces(llm: LLM) -> None:
    pieces = list(llm.stream("the quick dog", SamplingParams(max_tokens=50)))
    assert len(pieces) > 1
    assert "".join(pieces) == "the quick dog"


def test_leaving_a_streamed_answer_frees_what_the_engine_holds(llm: LLM, engine: StepEngine) -> None:
    stream = llm.stream("the quick dog", SamplingParams(max_tokens=50))
    next(stream)
    stream.close()
    assert not engine.has_work
    assert engine.aborted == [engine.requests[0].id]


def test_a_streamed_answer_is_one(llm: LLM) -> None:
    with pytest.raises(ValueError, match="n must be 1 to stream"):
        list(llm.stream("the dog", SamplingParams(n=2)))
