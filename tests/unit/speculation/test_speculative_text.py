"""Stop strings and text of the embedded model with drafts, from `LLM` to answers."""

from __future__ import annotations

from typing import Any

import pytest

from jackfield.embedded import EMBEDDED_MODEL
from jackfield.llm import LLM
from jackfield.sampling_params import SamplingParams

PROMPTS = ["Once upon a time", "The list is: one, two, one, two, one,", "What is the capital of France?"]
# float32: in 16 bits a launch of several positions rounds logits differently from launches of one
SIZE = {"platform": "cpu", "dtype": "float32", "max_num_seqs": 4, "max_model_len": 256, "max_num_batched_tokens": 64}


def answers(llm: LLM, params: list[SamplingParams]) -> list[Any]:
    found = llm.generate([prompt for prompt in PROMPTS for _ in params], params * len(PROMPTS), use_tqdm=False)
    return [(out.text, list(out.token_ids), out.finish_reason, out.stop_reason) for one in found for out in one.outputs]


@pytest.mark.parametrize(
    "speculation",
    [
        {"model": str(EMBEDDED_MODEL), "num_speculative_tokens": 6},
        {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 1},
    ],
    ids=["model", "ngram"],
)
def test_text_ends_where_it_would_without_drafts(speculation: dict[str, Any]) -> None:
    memory = 64 << 20
    plain = LLM(kv_cache_memory=memory, **SIZE)
    first = answers(plain, [SamplingParams(temperature=0, seed=0, max_tokens=40)])
    stops = sorted({word for text, *_ in first for word in text.split() if len(word) > 1})[:6]
    params = [
        SamplingParams(temperature=0, seed=0, max_tokens=40),
        *(SamplingParams(temperature=0, seed=0, max_tokens=40, stop=stop) for stop in [*stops, stops]),
        SamplingParams(temperature=0.8, top_p=0.9, seed=5, max_tokens=40, stop=stops, include_stop_str_in_output=True),
        SamplingParams(temperature=0.5, seed=6, max_tokens=40, stop=stops, min_tokens=12),
    ]
    wanted = answers(plain, params)
    drafted = LLM(kv_cache_memory=memory, speculative_config=speculation, **SIZE)
    assert answers(drafted, params) == wanted
    assert {reason for *_, reason, _ in wanted} >= {"stop"}
    stats = drafted.engine.stats()  # type: ignore[attr-defined]
    print(stats.num_draft_tokens, stats.num_accepted_tokens, stats.num_steps)
    assert stats.num_accepted_tokens > 0
