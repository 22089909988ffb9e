from __future__ import annotations

import pytest

from jackfield import SamplingParams
from jackfield.engine.messages import EngineOutput, EngineOutputs, TokenLogprobs
from jackfield.frontend.processor import OutputProcessor, RequestState
from jackfield.frontend.prompt import Prompt
from jackfield.frontend.requests import RequestBuilder
from jackfield.outputs import CompletionOutput


def begin(builder: RequestBuilder, processor: OutputProcessor, id: str = "r", **sampling: object) -> RequestState:
    request = builder.build(id, Prompt(text="hi"), [5, 6], SamplingParams(**sampling))  # type: ignore[arg-type]
    state = RequestState(request, builder)
    processor.add(state)
    return state


def only(state: RequestState) -> CompletionOutput:
    (completion,) = state.output().outputs
    return completion


def test_columns_and_structs_say_the_same(builder: RequestBuilder) -> None:
    ids = builder.tokenizer.encode("the lazy 🙂 dog")
    processor = OutputProcessor()
    columns, structs = begin(builder, processor, "a"), begin(builder, processor, "b")
    for token in ids:
        processor.process(EngineOutputs(["a#0"], [token]))
        processor.process(EngineOutputs(others=[EngineOutput("b#0", [token])]))
    processor.process(EngineOutputs(others=[EngineOutput(id, [], finish_reason="length") for id in ("a#0", "b#0")]))
    assert only(columns) == only(structs)
    assert only(columns).text == "the lazy 🙂 dog"
    assert columns.output().finished


def test_several_tokens_at_once(builder: RequestBuilder) -> None:
    ids = builder.tokenizer.encode("the lazy dog")
    processor = OutputProcessor()
    state = begin(builder, processor)
    processor.process(EngineOutputs(others=[EngineOutput("r#0", ids, finish_reason="length", num_cached_tokens=1)]))
    assert only(state).text == "the lazy dog"
    assert only(state).token_ids == ids
    assert state.output().num_cached_tokens == 1


@pytest.mark.parametrize("columns", [True, False])
def test_a_stop_string_ends_the_sequence_and_the_engine_is_told(builder: RequestBuilder, columns: bool) -> None:
    processor = OutputProcessor()
    state = begin(builder, processor, stop=["zy d"], logprobs=None)
    aborts: list[str] = []
    for token in builder.tokenizer.encode("the lazy dog jumps"):
        output = EngineOutputs(["r#0"], [token]) if columns else EngineOutputs(others=[EngineOutput("r#0", [token])])
        aborts += processor.process(output)[1]
    assert aborts == ["r#0"]
    assert (only(state).text, only(state).finish_reason, only(state).stop_reason) == ("the la", "stop", "zy d")
    assert builder.tokenizer.decode(only(state).token_ids).startswith("the lazy d"), (
        "its own tokens count, later ones do not"
    )


def test_a_stop_string_among_several_tokens_drops_those_after_it(builder: RequestBuilder) -> None:
    ids = builder.tokenizer.encode("abcdef")
    processor = OutputProcessor()
    state = begin(builder, processor, stop="c", logprobs=0)
    logprobs = [TokenLogprobs(-1.0, 1) for _ in ids]
    output = EngineOutput("r#0", ids, logprobs, finish_reason="length")
    assert processor.process(EngineOutputs(others=[output]))[1] == [], "the engine has ended it already"
    assert only(state).text == "ab"
    assert len(only(state).logprobs or []) == len(only(state).token_ids) < len(ids)


def test_a_stop_string_before_min_tokens_passes(builder: RequestBuilder) -> None:
    ids = builder.tokenizer.encode("a.b.")
    assert len(ids) == 4
    processor = OutputProcessor()
    state = begin(builder, processor, stop=".", min_tokens=3)
    for token in ids:
        processor.process(EngineOutputs(["r#0"], [token]))
    assert (only(state).text, len(only(state).token_ids)) == ("a.b", 4)


def test_the_end_token_counts_but_has_no_text_and_no_reason(builder: RequestBuilder) -> None:
    (end,) = builder.model.eos_token_ids
    processor = OutputProcessor()
    state = begin(builder, processor, skip_special_tokens=False)
    ids = [*builder.tokenizer.encode("the"), end]
    processor.process(EngineOutputs(others=[EngineOutput("r#0", ids, finish_reason="stop", stop_reason=end)]))
    assert (only(state).text, only(state).token_ids, only(state).stop_reason) == ("the", ids, None)


@pytest.mark.parametrize(("include", "text"), [(False, "the "), (True, "the x")])
def test_a_stop_token_of_the_user_is_the_reason(builder: RequestBuilder, include: bool, text: str) -> None:
    ids = [*builder.tokenizer.encode("the "), *builder.tokenizer.encode("x")]
    processor = OutputProcessor()
    state = begin(builder, processor, stop_token_ids=[ids[-1]], include_stop_str_in_output=include)
    processor.process(EngineOutputs(others=[EngineOutput("r#0", ids, finish_reason="stop", stop_reason=ids[-1])]))
    assert (only(state).text, only(state).stop_reason) == (text, ids[-1])


def test_logprobs_have_the_text_of_their_tokens(builder: RequestBuilder) -> None:
    a, b = builder.tokenizer.encode("a")[0], builder.tokenizer.encode("b")[0]
    processor = OutputProcessor()
    state = begin(builder, processor, logprobs=2)
    entry = TokenLogprobs(-2.5, 7, [b, a + 90], [-0.5, -1.0])
    processor.process(EngineOutputs(others=[EngineOutput("r#0", [a], [entry], finish_reason="length")]))
    (table,) = only(state).logprobs or []
    assert list(table) == [a, b, a + 90]
    assert (table[a].logprob, table[a].rank, table[a].decoded_token) == (-2.5, 7, "a")
    assert (table[b].logprob, table[b].rank, table[b].decoded_token) == (-0.5, 1, "b")
    assert only(state).cumulative_logprob == -2.5


def test_n_sequences_finish_one_by_one(builder: RequestBuilder) -> None:
    processor = OutputProcessor()
    state = begin(builder, processor, n=2)
    assert processor.num_waiting == 2
    token = builder.tokenizer.encode("a")[0]
    processor.process(EngineOutputs(others=[EngineOutput("r#1", [token], finish_reason="length")]))
    assert (processor.num_waiting, state.output().finished) == (1, False)
    processor.process(EngineOutputs(others=[EngineOutput("r#0", [token, token], finish_reason="length")]))
    assert (processor.num_waiting, state.output().finished) == (0, True)
    assert [(one.index, one.text) for one in state.output().outputs] == [(0, "aa"), (1, "a")]


def test_deltas_merge_until_they_are_taken(builder: RequestBuilder) -> None:
    processor = OutputProcessor()
    state = begin(builder, processor)
    (sequence,) = state.sequences
    assert sequence.take() is None
    ids = builder.tokenizer.encode("the lazy dog")
    for token in ids[:-1]:
        processor.process(EngineOutputs(["r#0"], [token]))
    first = sequence.take()
    processor.process(EngineOutputs(others=[EngineOutput("r#0", ids[-1:], finish_reason="length")]))
    last = sequence.take()
    assert first is not None
    assert last is not None
    assert first.text + last.text == "the lazy dog"
    assert first.token_ids + last.token_ids == ids
    assert (first.finish_reason, last.finish_reason) == (None, "length")
    assert sequence.take() is None


def test_one_failed_sequence_fails_its_request_and_frees_the_others(builder: RequestBuilder) -> None:
    processor = OutputProcessor()
    state = begin(builder, processor, n=3)
    failed = EngineOutput("r#1", [], finish_reason="error", error="no memory")
    assert sorted(processor.process(EngineOutputs(others=[failed]))[1]) == ["r#0", "r#2"]
    assert (state.error, state.num_unfinished, processor.num_waiting) == ("no memory", 0, 0)


def test_outputs_of_a_removed_request_are_dropped(builder: RequestBuilder) -> None:
    processor = OutputProcessor()
    state = begin(builder, processor, n=2)
    assert processor.remove(state) == ["r#0", "r#1"]
    assert processor.num_waiting == 0
    late = EngineOutput("r#1", [], finish_reason="abort")
    assert processor.process(EngineOutputs(["r#0"], [5], [late])) == ([], [])
    assert processor.remove(state) == []


def test_an_id_in_use_is_refused(builder: RequestBuilder) -> None:
    processor = OutputProcessor()
    begin(builder, processor)
    with pytest.raises(ValueError, match="in use"):
        begin(builder, processor)


def test_times_are_counted_per_token(builder: RequestBuilder) -> None:
    class Heard:
        def __init__(self) -> None:
            self.firsts: list[float] = []
            self.betweens: list[float] = []
            self.first, self.between = self.firsts.append, self.betweens.append

    heard = Heard()
    processor = OutputProcessor(heard)
    begin(builder, processor)
    for _ in range(4):
        processor.process(EngineOutputs(["r#0"], [5]))
    assert (len(heard.firsts), len(heard.betweens)) == (1, 3)
    assert min(heard.firsts + heard.betweens) >= 0
