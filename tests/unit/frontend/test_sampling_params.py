from __future__ import annotations

from typing import Any

import pytest

from jackfield import SamplingParams
from jackfield.field_error import FieldError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("top_k", 1.5),
        ("min_p", 2.0),
        ("presence_penalty", 3.0),
        ("frequency_penalty", -3.0),
        ("repetition_penalty", 0.0),
        ("n", 0),
        ("seed", 2**63),
        ("max_tokens", 0),
        ("min_tokens", 17),
        ("logprobs", 21),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", [1]),
        ("allowed_token_ids", []),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(FieldError, match=field) as caught:
        SamplingParams(**{field: value})
    assert caught.value.field == field


def test_a_bias_out_of_range_names_its_token() -> None:
    with pytest.raises(FieldError, match=r"logit_bias\[5\]"):
        SamplingParams(logit_bias={5: 101.0})


def test_several_greedy_answers_are_refused() -> None:
    with pytest.raises(FieldError, match="greedy"):
        SamplingParams(n=2, temperature=0)


def test_stop_strings_need_text() -> None:
    with pytest.raises(FieldError, match="detokenize"):
        SamplingParams(stop="x", detokenize=False)


def test_an_unknown_parameter_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="temprature"):
        SamplingParams(temprature=1.0)  # type: ignore[call-arg]


def test_stop_may_be_one_string_or_several() -> None:
    assert SamplingParams(stop="x").stop_strings == ("x",)
    assert SamplingParams(stop=["x", "y"]).stop_strings == ("x", "y")
    assert SamplingParams().stop_strings == ()
