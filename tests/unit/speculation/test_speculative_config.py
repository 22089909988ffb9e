"""What may be said about speculation, and what is said of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from speculative_runs import Models, engine_for

from jackfield.config.json_fields import ConfigError
from jackfield.config.speculative_config import SpeculativeConfig, speculative_config
from jackfield.engine.kv_sizing import blocks_bytes
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield_platforms.capabilities import SchedulingRules


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"model": "m"},
            "missing required field `num_speculative_tokens`; its fields are num_speculative_tokens, method",
        ),
        ({"num_speculative_tokens": 3}, 'wanted a draft model\'s folder in "model", or "method": "ngram"'),
        ({"num_speculative_tokens": 3, "method": "eagle"}, "Invalid enum value 'eagle'"),
        ({"num_speculative_tokens": 3, "model": "m", "modle": 1}, "unknown field `modle`"),
        ({"num_speculative_tokens": 0, "model": "m"}, "must be 1 to 16; got 0"),
        ({"num_speculative_tokens": 17, "model": "m"}, "must be 1 to 16; got 17"),
        ({"num_speculative_tokens": 3, "method": "ngram", "model": "m"}, '"ngram" takes neither model nor platform'),
        ({"num_speculative_tokens": 3, "method": "ngram", "platform": "cpu"}, '"ngram" takes neither'),
        (
            {"num_speculative_tokens": 3, "model": "m", "prompt_lookup_max": 9},
            'prompt_lookup_max is for "method": "ngram"',
        ),
        ({"num_speculative_tokens": 3, "method": "ngram", "prompt_lookup_max": 1}, "prompt_lookup_max; got 2 and 1"),
    ],
)
def test_a_mistake_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        speculative_config(given)
    assert str(error.value).startswith("speculative_config: ")
    assert said in str(error.value)


def test_what_is_left_out_has_a_default() -> None:
    assert speculative_config(None) is None
    config = speculative_config({"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3})
    assert config == SpeculativeConfig(num_speculative_tokens=4, method="ngram", prompt_lookup_max=3)


def test_overlap_on_is_refused(models: Models) -> None:
    with pytest.raises(ConfigError, match="overlap must be auto or off with speculative_config"):
        engine_for(models.target, "strict", {"method": "ngram", "num_speculative_tokens": 2}, overlap="on")


def test_vocabularies_must_be_the_same(models: Models, tmp_path: Path) -> None:
    config = json.loads(Path(models.other, "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 203}))
    with pytest.raises(ConfigError, match=r"vocabulary of 199, the draft model in .* one of 203.*ngram"):
        engine_for(models.target, "cpu", {"model": str(tmp_path), "num_speculative_tokens": 2})


def test_a_scheduler_with_drafts_needs_the_plain_loop_and_chunks() -> None:
    with pytest.raises(ValueError, match=r"num_drafts is 2: drafts need rules.max_in_flight 1 .* rules.chunked"):
        SchedulerConfig(
            max_num_seqs=2, max_num_batched_tokens=64, max_model_len=64, groups=(KVGroup(None, 16, 9),),
            rules=SchedulingRules(max_in_flight=2), num_drafts=2,
        )  # fmt: skip


def test_on_one_platform_both_caches_share_the_bytes_and_hold_the_same_number_of_tokens(models: Models) -> None:
    memory = 3 << 20
    engine = engine_for(
        models.target,
        "cpu",
        {"model": models.near, "num_speculative_tokens": 2},
        kv_cache_memory=memory,
        max_num_seqs=64,
    )
    drafter: Any = engine._drafter
    scheduler: Any = engine._scheduler
    target, draft = scheduler.config.groups[0], drafter._config.groups[0]
    assert target.num_blocks == draft.num_blocks
    runner: Any = engine._executor
    used = blocks_bytes(runner._programs._groups, [target.num_blocks]) * 2
    assert memory * 0.95 < used <= memory


def test_on_two_platforms_the_draft_model_holds_as_many_tokens_beside_the_targets_memory(models: Models) -> None:
    draft = {"model": models.near, "num_speculative_tokens": 2, "platform": "strict"}
    engine = engine_for(models.target, "cpu", draft, kv_cache_memory=3 << 20, max_num_seqs=32)
    drafter: Any = engine._drafter
    scheduler: Any = engine._scheduler
    target, other = scheduler.config.groups[0], drafter._config.groups[0]
    assert target.num_blocks * target.block_size > 3 * 2**20 / 2048 * 0.95
    assert (other.num_blocks - 1) * other.block_size == (target.num_blocks - 1) * target.block_size
    assert f"drafts     {models.near} drafts 2 tokens on strict in float32" in engine.startup_text
    assert "loop       plain" in engine.startup_text
