"""LoRA from slots: answers of merged weights, whatever else is in the batch, and nothing captured anew."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from safetensors.torch import save_file
from small_adapters import SmallAdapter, add, layer_name
from small_engines import PROMPTS, answers, finish

from jackfield.config.json_fields import ConfigError
from jackfield.engine.messages import EngineRequest
from jackfield.layers.lora_slots import LoraSlots
from jackfield.loader.checkpoint import LoadError
from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams
from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.bucket import BucketPlan
from jackfield_platforms.graph import EagerRunner
from jackfield_platforms.testing.recording_graphs import RecordingGraphRunner
from jackfield_platforms.testing.strict import CompiledStrictPlatform, StrictPlatform


class Strict(StrictPlatform):
    def attention_backends(self):
        return (FlatBlockAttention,)


class Compiled(CompiledStrictPlatform):
    def attention_backends(self):
        return (FlatBlockAttention,)


class Eager(Strict):
    def graph_runner(self):
        return EagerRunner()


class AnySize(Eager):
    def buckets(self, limits):
        return BucketPlan()


class Uncapturable(FlatBlockAttention):
    name, graphs = "uncapturable", "none"


class InPieces(Strict):
    """Captured as a stream would be, around attention."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs = RecordingGraphRunner()

    def attention_backends(self):
        return (Uncapturable,)


LORA = {"enable_lora": True, "max_loras": 2, "max_lora_rank": 8}


@pytest.fixture
def adapters(tmp_path) -> list[SmallAdapter | None]:
    """None, one of every projection, one of parts of fused products with another rank and scale, and a third."""
    return [
        None,
        SmallAdapter(tmp_path / "one", 1),
        SmallAdapter(tmp_path / "two", 2, 8, ("k_proj", "up_proj", "o_proj"), use_rslora=True),
        SmallAdapter(tmp_path / "three", 3, 2, ("q_proj", "v_proj", "down_proj")),
    ]


@pytest.fixture
def merged(engine_on, adapters) -> list[list[list[int]]]:
    """Answers to every prompt, one by one, of the model with each adapter in its weights."""
    found = []
    for adapter in adapters:
        engine = engine_on(Eager)
        if adapter is not None:
            adapter.merge_into(engine)
        found.append([answers(engine, [prompt], 16)[0] for prompt in PROMPTS])
    for prompt in range(len(PROMPTS)):
        assert len({tuple(each[prompt]) for each in found}) == len(adapters), "each adapter changes each answer"
    return found


@pytest.mark.parametrize("platform", [Strict, Eager, InPieces])
def test_answers_are_those_of_merged_weights_in_one_mixed_batch(engine_on, adapters, merged, platform):
    engine = engine_on(platform, **LORA)
    choices = [0, 1, 2, 1]
    for _ in range(2):  # the second time over a warm prefix cache
        for place, (prompt, choice) in enumerate(zip(PROMPTS, choices, strict=True)):
            add(engine, str(place), prompt, adapters[choice])
        assert finish(engine, 4) == [merged[choice][place] for place, choice in enumerate(choices)]
    assert engine.stats().num_prefix_hit_tokens > 0


def test_an_adapter_that_is_loaded_while_others_run_captures_nothing(engine_on, adapters, merged):
    engine = engine_on(Strict, forbid_compile=True, **LORA)
    runner = engine._executor
    captured, linear = runner._platform.graphs.num_captures, runner._adapters._linears[0]
    before = linear.lora.a.data_ptr(), linear.lora.b.data_ptr()
    add(engine, "0", PROMPTS[0], adapters[1])
    for _ in range(5):
        assert all(output.finish_reason is None for output in engine.step().each())
    add(engine, "1", PROMPTS[3], adapters[2])
    assert finish(engine, 2)[1] == merged[2][3]
    assert (runner._platform.graphs.num_captures, runner.num_late_captures) == (captured, 0)
    assert (linear.lora.a.data_ptr(), linear.lora.b.data_ptr()) == before


def test_the_programs_with_adapters_compile_as_one_graph(engine_on, adapters, merged):
    engine = engine_on(Compiled, max_num_seqs=2, max_num_batched_tokens=16, **LORA)
    add(engine, "0", PROMPTS[1], adapters[2])
    add(engine, "1", PROMPTS[3], None)
    assert finish(engine, 2) == [merged[2][1], merged[0][3]]
    assert engine._executor._platform.graphs.num_graph_breaks == 0


@pytest.mark.parametrize("slots", [1, 2])
def test_more_adapters_than_slots_take_turns(engine_on, adapters, merged, slots):
    engine = engine_on(Strict, enable_lora=True, max_loras=slots, max_lora_rank=8)
    asked = list(itertools.product(range(4), range(4)))
    for number, (choice, place) in enumerate(asked):
        add(engine, str(number), PROMPTS[place], adapters[choice])
    assert finish(engine, len(asked)) == [merged[choice][place] for choice, place in asked]


def test_cached_prefixes_belong_to_an_adapter(engine_on, adapters, merged):
    engine = engine_on(Strict, **LORA)
    for choice in (0, 1, 2):
        before = engine.stats().num_prefix_hit_tokens
        add(engine, "0", PROMPTS[2], adapters[choice])
        assert finish(engine, 1) == [merged[choice][2]]
        assert engine.stats().num_prefix_hit_tokens == before
        add(engine, "0", PROMPTS[2], adapters[choice])
        assert finish(engine, 1) == [merged[choice][2]]
        assert engine.stats().num_prefix_hit_tokens == before + 32


def test_a_step_of_any_size_without_adapters_costs_nothing(engine_on, adapters, merged, monkeypatch):
    engine = engine_on(AnySize, **LORA)
    add(engine, "0", PROMPTS[0], adapters[1])
    add(engine, "1", PROMPTS[2], None)
    assert finish(engine, 2) == [merged[1][0], merged[0][2]]
    monkeypatch.setattr(LoraSlots, "add", None)
    assert answers(engine, num_tokens=16) == merged[0]


def test_a_sequence_that_was_preempted_goes_on_with_its_adapter(engine_on, adapters):
    found = []
    for blocks in (100, 7):
        memory = blocks * 16 * 3 * 2 * 2 * 8 * 4  # tokens, layers, K and V, heads, head size, float32
        engine = engine_on(Strict, kv_cache_memory=memory, enable_prefix_caching=False, **LORA)
        for place, choice in enumerate((1, 2, 0, 2)):
            add(engine, str(place), PROMPTS[place % 2], adapters[choice], 40)
        found.append((finish(engine, 4), engine.stats().num_preemptions))
    (roomy, none), (tight, some) = found
    assert tight == roomy
    assert none == 0 < some


def test_a_rank_that_the_slots_do_not_hold_is_refused_with_both_numbers(engine_on, tmp_path):
    engine = engine_on(Strict, enable_lora=True, max_lora_rank=8)
    with pytest.raises(LoadError, match=r"rank 9; .* hold rank 8\. Start it with --max-lora-rank 9"):
        add(engine, "0", [1], SmallAdapter(tmp_path / "large", 1, 9))
    assert not engine.has_work


def test_an_engine_without_slots_says_how_to_get_them(engine_on, adapters):
    with pytest.raises(ConfigError, match="start the engine with --enable-lora"):
        add(engine_on(Strict), "0", [1], adapters[1])


def test_what_does_not_fit_is_refused_by_name(engine_on, tmp_path):
    engine = engine_on(Strict, **LORA)
    adapter = SmallAdapter(tmp_path / "odd", 1)
    name = f"base_model.model.{layer_name(0, 'q_proj')}"
    cases = {
        r"no layer that an adapter may change: lm_head": {
            "base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32),
            "base_model.model.lm_head.lora_B.weight": torch.zeros(211, 4),
        },
        r"layers\.0\.self_attn\.q_proj\.lora_B: wanted \[32, 4\], found \[31, 4\]": {
            f"{name}.lora_B.weight": torch.zeros(31, 4)
        },
        r"no lora_A or lora_B: base_model\.model\.model\.norm\.weight": {
            "base_model.model.model.norm.weight": torch.zeros(32)
        },
    }
    for message, tensors in cases.items():
        adapter.write(tmp_path / "odd", **tensors)
        with pytest.raises(LoadError, match=message):
            add(engine, "0", [1], adapter)
    save_file({f"{name}.lora_A.weight": torch.zeros(4, 32)}, tmp_path / "odd" / "adapter_model.safetensors")
    with pytest.raises(LoadError, match=r"q_proj\.lora_B: wanted \[32, 4\], found nothing"):
        add(engine, "0", [1], adapter)


@pytest.mark.parametrize("field", [{"use_dora": True}, {"bias": "all"}, {"rank_pattern": {"q_proj": 2}}])
def test_kinds_of_adapters_that_would_add_up_to_something_else_are_refused(engine_on, tmp_path, field):
    adapter = SmallAdapter(tmp_path / "kind", 1, **field)
    with pytest.raises(LoadError, match=f"{next(iter(field))} = .* is not served; merge"):
        add(engine_on(Strict, **LORA), "0", [1], adapter)


def test_a_folder_without_an_adapter_is_refused(engine_on, tmp_path):
    engine = engine_on(Strict, **LORA)
    request = LoRARequest("none", 5, str(tmp_path / "nowhere"))
    with pytest.raises(LoadError, match=r"no adapter_config\.json and no adapter_model\.safetensors"):
        engine._executor.read_adapter(request)
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "adapter_config.json").write_text(json.dumps({"r": "four"}))
    (tmp_path / "nowhere" / "adapter_model.safetensors").write_bytes(b"cut short")
    with pytest.raises(LoadError, match=r"no configuration of a LoRA adapter.*`\$\.r`"):
        engine._executor.read_adapter(request)
    (tmp_path / "nowhere" / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    with pytest.raises(LoadError, match="not a complete safetensors file"):
        engine._executor.read_adapter(request)


@pytest.mark.parametrize("path", ["x" * 5000, "~nobody-has-this-name/adapter"], ids=["long", "home"])
def test_a_path_that_the_system_refuses_is_an_error_of_its_request_alone(engine_on, path):
    engine = engine_on(Strict, **LORA)
    with pytest.raises(LoadError, match=r"adapter 'odd'.*lora_path"):
        engine.add(EngineRequest("0", [1], SamplingParams(seed=0), lora=LoRARequest("odd", 9, path)))


def test_a_file_that_cannot_be_read_is_an_error_of_its_request_alone(engine_on, adapters, monkeypatch):
    engine, folder = engine_on(Strict, **LORA), adapters[1].request.lora_path

    def refuses(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuses)
    with pytest.raises(LoadError, match=rf"adapter 'adapter-1' .*Permission denied: '{folder}"):
        add(engine, "0", [1], adapters[1])


def test_a_number_stands_for_one_folder(engine_on, adapters):
    engine = engine_on(Strict, **LORA)
    engine._executor.read_adapter(adapters[1].request)
    with pytest.raises(ValueError, match=r"lora_int_id 1 stands for the adapter in .*one; 'other' in .*two needs"):
        engine._executor.read_adapter(LoRARequest("other", 1, adapters[2].request.lora_path))
    with pytest.raises(ValueError, match="lora_int_id must be at least 1; got 0"):
        LoRARequest("zero", 0, "somewhere")
