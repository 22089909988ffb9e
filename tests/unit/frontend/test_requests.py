from __future__ import annotations

import pytest

from jackfield import SamplingParams
from jackfield.engine.model_info import ModelInfo
from jackfield.field_error import FieldError
from jackfield.frontend.prompt import Prompt
from jackfield.frontend.requests import RequestBuilder, sequence_seed


def test_each_of_n_sequences_has_a_seed_and_the_first_keeps_the_request_s(builder: RequestBuilder) -> None:
    request = builder.build("r", Prompt(text="hi"), [5, 6], SamplingParams(n=3, seed=11))
    seeds = [sequence.sampling.seed for sequence in request.sequences]
    assert seeds[0] == 11
    assert len(set(seeds)) == 3
    assert [sequence.sampling.n for sequence in request.sequences] == [1, 1, 1]
    assert len({sequence.id for sequence in request.sequences}) == 3


def test_seeds_stay_signed_64_bit_numbers() -> None:
    for seed in (-(2**63), -1, 0, 2**63 - 1):
        for index in range(128):
            assert -(2**63) <= sequence_seed(seed, index) < 2**63
        assert sequence_seed(seed, 0) == seed


def test_requests_without_a_seed_get_the_same_ones_again_in_the_same_order(builder: RequestBuilder) -> None:
    again = RequestBuilder(builder.tokenizer, builder.model, seed=7)
    seeds = [
        [one.build(str(i), Prompt(text="hi"), [5], SamplingParams()).sequences[0].sampling.seed for i in range(3)]
        for one in (builder, again)
    ]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


def test_end_tokens_are_among_the_stop_ids_unless_ignored(builder: RequestBuilder, model: ModelInfo) -> None:
    (end,) = model.eos_token_ids
    plain = builder.build("a", Prompt(), [5], SamplingParams(stop_token_ids=[9]))
    ignoring = builder.build("b", Prompt(), [5], SamplingParams(stop_token_ids=[9], ignore_eos=True))
    assert plain.sequences[0].stop_token_ids == {end, 9}
    assert ignoring.sequences[0].stop_token_ids == {9}


def test_max_tokens_never_passes_the_context(builder: RequestBuilder) -> None:
    prompt = list(range(60))
    assert builder.build("a", Prompt(), prompt, SamplingParams(max_tokens=None)).sequences[0].sampling.max_tokens == 4
    assert builder.build("b", Prompt(), prompt, SamplingParams(max_tokens=50)).sequences[0].sampling.max_tokens == 4
    assert builder.build("c", Prompt(), prompt, SamplingParams(max_tokens=3)).sequences[0].sampling.max_tokens == 3


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(builder: RequestBuilder) -> None:
    with pytest.raises(FieldError, match=r"64 tokens.*holds 64") as caught:
        builder.build("a", Prompt(), [5] * 64, SamplingParams())
    assert caught.value.code == "context_length_exceeded"
    builder.build("a", Prompt(), [5] * 63, SamplingParams())


@pytest.mark.parametrize(
    ("field", "ids", "sampling"),
    [
        ("prompt", [], SamplingParams()),
        ("prompt", [512], SamplingParams()),
        ("prompt", [-1], SamplingParams()),
        ("logit_bias", [1], SamplingParams(logit_bias={512: 1.0})),
        ("allowed_token_ids", [1], SamplingParams(allowed_token_ids=[600])),
        ("stop_token_ids", [1], SamplingParams(stop_token_ids=[-4])),
        ("min_tokens", [1] * 60, SamplingParams(min_tokens=5, max_tokens=8)),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    builder: RequestBuilder, field: str, ids: list[int], sampling: SamplingParams
) -> None:
    with pytest.raises(FieldError) as caught:
        builder.build("a", Prompt(), ids, sampling)
    assert caught.value.field == field
