from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jackfield.field_error import FieldError
from jackfield.frontend.prompt import Prompt, parse_prompts


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hi", [Prompt(text="hi")]),
        (["a", "b"], [Prompt(text="a"), Prompt(text="b")]),
        ({"prompt": "hi"}, [Prompt(text="hi")]),
        ({"prompt_token_ids": [1, 2]}, [Prompt(token_ids=[1, 2])]),
        ([1, 2], [Prompt(token_ids=[1, 2])]),
        ([[1], [2, 3]], [Prompt(token_ids=[1]), Prompt(token_ids=[2, 3])]),
        ([np.int64(3)], [Prompt(token_ids=[3])]),
        ([{"prompt": "a", "cache_salt": "s"}, [4]], [Prompt(text="a", cache_salt="s"), Prompt(token_ids=[4])]),
        ([], []),
    ],
)
def test_every_form_of_prompt_is_read(given: Any, expected: list[Prompt]) -> None:
    assert parse_prompts(given) == expected


@pytest.mark.parametrize("given", [5, None, [None], [[1.5]], {"prompt": 3}, {"promt": "a"}, {}])
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(FieldError, match="prompt"):
        parse_prompts(given)
