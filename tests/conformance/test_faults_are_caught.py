"""Each of these is wrong in one way, and the check that is named finds it; each check finds something."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import fault_platform
import faulty_attention as attention
import faulty_elastic as elastic
import faulty_parts as parts
import faulty_pieces as pieces
import faulty_transfer as transfer
import msgspec
import pytest

from jackfield.conformance import parity_checks
from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.capabilities import Capabilities, SchedulingRules
from jackfield_platforms.ops import Impl, OpTable
from jackfield_platforms.platform import Memory
from jackfield_platforms.testing import conformance
from jackfield_platforms.testing.conformance.run import KitOptions, check
from jackfield_platforms.testing.plain_fusion import fuse_plain
from jackfield_platforms.testing.strict import StrictPlatform

FLOAT32 = {"dtypes": ("float32",), "kv_dtypes": ("float32",)}


def op(name: str, fn: Any) -> dict[str, Any]:
    return {"ops": OpTable(**{name: (Impl("faulty", fn),)})}


# what is replaced, and the checks that must fail
FAULTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "mask off by one": ({"backend": attention.MaskOffByOne}, {"check_prefill", "check_decode", "check_mixed"}),
    "window off by one": ({"backend": attention.WindowOffByOne}, {"check_prefill", "check_decode"}),
    "forgets the soft cap": ({"backend": attention.ForgetsSoftCap}, {"check_prefill", "check_decode"}),
    "takes the usual scale": ({"backend": attention.TakesUsualScale}, {"check_prefill", "check_decode"}),
    "drops sinks": ({"backend": attention.DropsSinks}, {"check_prefill", "check_decode"}),
    "hidden values times 0": ({"backend": attention.MultipliesHiddenValuesByZero}, {"check_prefill", "check_decode"}),
    "reads the null block": ({"backend": attention.ReadsTheNullBlock}, {"check_prefill", "check_decode"}),
    "padding in block 1": ({"backend": attention.WritesPaddingIntoBlockOne}, {"check_padding_reaches_nobody"}),
    "padding in the last block": (
        {"backend": attention.WritesPaddingIntoTheLastBlock},
        {"check_padding_reaches_nobody"},
    ),
    "clears the next block": (
        {"backend": attention.ClearsTheNextBlock},
        {"check_a_step_writes_its_own_tokens_alone", "check_decode"},
    ),
    "keys are not rotated": (
        {"backend": attention.LeavesKeysUnrotated},
        {"check_rope_in_halves", "check_rope_interleaved", "check_rope_of_a_part_of_the_head"},
    ),
    "neighbours are paired always": ({"backend": attention.PairsNeighboursAlways}, {"check_rope_in_halves"}),
    "halves are paired always": ({"backend": attention.PairsHalvesAlways}, {"check_rope_interleaved"}),
    "the rest of a head is lost": (
        {"backend": attention.ForgetsWhatIsNotRotated},
        {"check_rope_of_a_part_of_the_head"},
    ),
    "heads are shared in turn": ({"backend": attention.SharesHeadsInTurn}, {"check_prefill", "check_decode"}),
    "earlier chunks are forgotten": (
        {"backend": attention.ForgetsEarlierChunks},
        {"check_chunked_prompt_equals_the_whole", "check_mixed"},
    ),
    "decode rows beside prompts": ({"backend": attention.MiscountsDecodeRowsBesidePrompts}, {"check_mixed"}),
    "padded rows taken for packed": (
        {"backend": attention.PacksPaddedRows, "buckets": parts.padded_rows},
        {"check_rows_padded_to_one_length"},
    ),
    "a plan made anew": ({"backend": attention.MakesItsPlanAnew}, {"check_one_plan_serves_fifty_layouts"}),
    "accepts what it cannot run": (
        {"backend": attention.AcceptsWhatItCannotRun},
        {"check_an_accepted_need_runs", "check_prefill"},
    ),
    "rejects without a reason": ({"backend": attention.RejectsWithoutAReason}, {"check_an_accepted_need_runs"}),
    "serves small heads alone": (
        {"backend": attention.ServesSmallHeadsAlone},
        {"check_somebody_serves_plain_attention"},
    ),
    "blocks larger than stated": (
        {"backend": attention.UnderstatesItsBlocks},
        {"check_a_block_takes_what_block_bytes_says"},
    ),
    "exports in reverse": (
        {"backend": transfer.ExportsInReverse},
        {"check_exported_tokens_are_what_was_written", "check_copied_blocks_hold_the_same"},
    ),
    "reversed both ways": (
        {"backend": transfer.ReversesBothWays},
        {"check_exported_tokens_are_what_was_written", "check_copied_blocks_hold_the_same"},
    ),
    "k and v swapped": ({"backend": transfer.SwapsKeysAndValues}, {"check_exported_tokens_are_what_was_written"}),
    "imports one slot further": (
        {"backend": transfer.ImportsOneSlotFurther},
        {"check_imported_tokens_answer_as_if_computed"},
    ),
    "one slot off both ways": (
        {"backend": transfer.IsOneSlotOffBothWays},
        {"check_exported_tokens_are_what_was_written", "check_imported_tokens_answer_as_if_computed"},
    ),
    "imports the first layer alone": (
        {"backend": transfer.ImportsTheFirstLayerAlone},
        {"check_imported_tokens_answer_as_if_computed"},
    ),
    "clears the rest of its blocks": (
        {"backend": transfer.ClearsTheRestOfItsBlocks},
        {"check_imported_tokens_answer_as_if_computed"},
    ),
    "takes whatever it is given": (
        {"backend": transfer.TakesWhateverItIsGiven},
        {"check_tokens_that_do_not_fit_are_refused"},
    ),
    "copies backwards": ({"backend": transfer.CopiesBackwards}, {"check_copied_blocks_hold_the_same"}),
    "copies one after another": ({"backend": transfer.CopiesOneAfterAnother}, {"check_copied_blocks_hold_the_same"}),
    "values from the end of latents": (
        {"backend": transfer.ReadsValuesFromTheEndOfLatents},
        {"check_prefill", "check_decode"},
    ),
    "latents kept twice": (
        {"backend": transfer.CountsLatentsTwice},
        {"check_a_block_takes_what_block_bytes_says"},
    ),
    "stale inputs": (
        {"graph_runner": parts.StaleInputs()},
        {"check_a_replay_equals_eager_on_new_contents", "check_captured_attention_follows_its_plan"},
    ),
    "one output for all sizes": (
        {"graph_runner": parts.OneOutputForAll()},
        {"check_two_captures_do_not_disturb_each_other"},
    ),
    "outputs move": ({"graph_runner": parts.MovesItsOutputs()}, {"check_outputs_keep_their_address"}),
    "a piece keeps its first answer": (
        {"graph_runner": pieces.KeepsTheFirstAnswer()},
        {"check_pieces_equal_eager_on_new_contents"},
    ),
    "a stale bridge": ({"graph_runner": pieces.ReadsStaleBridges()}, {"check_pieces_equal_eager_on_new_contents"}),
    "pieces of one size for all": (
        {"graph_runner": pieces.ForgetsTheSize()},
        {"check_pieces_of_two_sizes_do_not_disturb_each_other"},
    ),
    "the gap between pieces captured": (
        {"graph_runner": pieces.CapturesTheGap()},
        {"check_what_runs_between_pieces_is_not_replayed"},
    ),
    "answers of any size kept": (
        {"graph_runner": elastic.Runner(elastic.Stale()), "ops": elastic.OPS, "backend": elastic.Inside},
        {"check_an_elastic_run_equals_the_program_at_every_size", "check_elastic_attention_follows_its_plan"},
    ),
    "one memory for all captures of any size": (
        {"graph_runner": elastic.Runner(elastic.OneMemory()), "ops": elastic.OPS},
        {"check_two_elastic_captures_do_not_disturb_each_other"},
    ),
    "a bucket too small": (
        {"buckets": parts.planned_by(parts.TooSmall)},
        {"check_every_step_is_placed_whole_and_in_order"},
    ),
    "a row lost in placement": (
        {"buckets": parts.planned_by(parts.LosesARow)},
        {"check_every_step_is_placed_whole_and_in_order"},
    ),
    "half of the limits planned": (
        {"buckets": parts.planned_by(StaticBuckets, share=2)},
        {"check_every_step_is_planned", "check_logits_are_planned_for_every_number_of_rows"},
    ),
    "smallest bucket first": (
        {"buckets": parts.planned_by(parts.SmallestFirst)},
        {"check_larger_buckets_come_first"},
    ),
    "logits at sizes not captured": (
        {"buckets": parts.planned_by(parts.SamplesAtNoCapturedSize)},
        {"check_logits_are_planned_for_every_number_of_rows"},
    ),
    "JSON without blocks": (
        {"buckets": parts.planned_by(parts.ForgetsBlocksInJson)},
        {"check_a_static_plan_survives_json"},
    ),
    "rms_norm without eps": (op("rms_norm", parts.rms_norm_without_eps), {"check_rms_norm"}),
    "the old residual": (op("reduce_add_rms_norm", parts.norm_of_the_sum_alone), {"check_reduce_add_rms_norm"}),
    "ranks are not summed": (
        op("reduce_add_rms_norm", parts.norm_of_this_rank_alone),
        {"check_partial_sums_are_reduced"},
    ),
    "rms_norm in place": (op("rms_norm", parts.rms_norm_in_place), {"check_rms_norm"}),
    "the last of equal logits": (op("argmax", parts.argmax_of_the_last), {"check_argmax"}),
    "penalties for the prompt": (op("penalize", parts.penalties_for_the_prompt), {"check_penalize"}),
    "penalties of another row": (op("penalize", parts.penalties_of_the_next), {"check_penalize"}),
    "one more than top-k": (op("sampling_threshold", parts.one_more_than_top_k), {"check_sampling_threshold"}),
    "a smaller top-p": (op("sampling_threshold", parts.a_smaller_top_p), {"check_sampling_threshold"}),
    "silu in place": (op("silu_mul", parts.silu_in_place), {"check_silu_mul"}),
    "silu of the wrong half": (op("silu_mul", parts.silu_of_the_wrong_half), {"check_silu_mul"}),
    "rotary in halves alone": (op("rotary", parts.rotary_in_halves_alone), {"check_rotary"}),
    "rotary in place": (op("rotary", parts.rotary_in_place), {"check_rotary"}),
    "no adapter taken for the last": (op("lora_add", parts.lora_of_the_last_slot_for_none), {"check_lora_add"}),
    "functions in the table": (
        {"ops": OpTable(silu_mul=(parts.silu_of_the_wrong_half,))},
        {"check_the_table_is_one_of_ops"},
    ),
    "a fused layer keeps the old residual": ({"fuse": parts.fused_with_the_old_residual}, {"check_fused_layer"}),
    "a fused layer norms no heads": ({"fuse": parts.fused_without_norms_of_heads}, {"check_fused_layer"}),
    "experts of equal shares": ({"experts": parts.experts_of_equal_shares}, {"check_experts"}),
    "shares of experts add up to one": ({"experts": parts.experts_whose_shares_add_up_to_one}, {"check_experts"}),
    "linear drops its bias": ({"linear_ops": (parts.DropsBias(),)}, {"check_linear"}),
    "rows in order": ({"linear_ops": (parts.ReadsRowsInOrder(),)}, {"check_rows_of_a_weight"}),
    "the last packed weight": ({"linear_ops": (parts.KeepsTheLastWeight(),)}, {"check_packed_weights_stand_alone"}),
    "weights are never freed": ({"linear_ops": (parts.KeepsEveryWeight(),)}, {"check_packed_weights_stand_alone"}),
    "the inputs' order is ignored": (
        {"linear_ops": (parts.IgnoresOrder(),)},
        {"check_products_of_encoded_weights"},
    ),
    "scaled floats taken for plain": (
        {"linear_ops": (parts.TakesScaledFloatsForPlain(),)},
        {"check_products_of_encoded_weights"},
    ),
    "rows as they lie": ({"linear_ops": (parts.RowsAsTheyLie(),)}, {"check_rows_of_encoded_weights"}),
    "subtracts no maximum": ({"backend": attention.SubtractsNoMaximum}, {"check_large_scores_do_not_overflow"}),
    "has room for most steps": ({"backend": attention.HasRoomForMostSteps}, {"check_a_full_step"}),
    "looks at a value": (
        {"backend": attention.LooksAtAValue},
        {"check_attention_is_one_graph_for_all_layouts"},
    ),
    "more free than there is": ({"memory": Memory(total=100, free=200)}, {"check_memory_adds_up"}),
    "a count that never moves": (
        {"watch_memory": lambda device: lambda: 0},
        {"check_watched_memory_is_what_was_taken"},
    ),
    "no cache dtype": (
        {"capabilities": Capabilities(dtypes=("float32",), kv_dtypes=(), static_shapes=True)},
        {"check_capabilities_are_consistent"},
    ),
    "nothing in flight": (
        {"capabilities": Capabilities(**FLOAT32, static_shapes=True, scheduling=SchedulingRules(max_in_flight=0))},
        {"check_capabilities_are_consistent"},
    ),
    "a description of two lines": ({"describe": "a device\nof ours"}, {"check_the_platform_says_what_it_is"}),
    "fetch before the copy": ({"fetch": parts.fetch_before_the_copy}, {"check_fetched_values_survive_an_overwrite"}),
    "fetch without a wait": ({"fetch": parts.fetch_without_a_wait}, {"check_fetch_sees_what_was_launched_before"}),
    "a sum of one counts twice": ({"communicator": parts.Doubles()}, {"check_one_rank_talks_to_itself"}),
    "gathering stacks": ({"communicator": parts.Stacks()}, {"check_one_rank_talks_to_itself"}),
}

RANK_CHECK = "check_two_ranks_agree"

PROBE = """
from jackfield_platforms.probe import Launch, Probe
API_VERSION = (0, 1)
def probe():
    return Probe("usable", "1 device", devices=1)
def environment(options):
    return Launch()
"""
PROBE_FAULTS = {
    "computed version": (PROBE.replace("(0, 1)", "tuple([0, 1])"), "check_the_probe_answers"),
    "no reason": (PROBE.replace('"1 device"', '""'), "check_the_probe_answers"),
    "fails for two ranks": (
        PROBE.replace(
            "return Launch()", "return Launch(cpus=options.cpus[options.local_rank] if options.cpus else ())"
        ),
        "check_the_environment_is_told",
    ),
    "imports numpy": ("import numpy\n" + PROBE, "check_the_probe_imports_no_framework"),
}


def only(*checks: str) -> KitOptions:
    return KitOptions(seeds=1, match=" or ".join(sorted(checks)))


RAISES = {"accepts what it cannot run", "has room for most steps"}  # of their own accord; the others are told apart


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault):
    replaced, checks = FAULTS[fault]
    report = check(fault_platform.subject(**replaced), only(*checks))
    assert report.failed_checks() == checks
    told = [result.message for result in report.results if result.outcome == "failed"]
    assert any("Mismatch" in message for message in told) or fault in RAISES


PLANS = {
    "its own": {},
    "fused": {"fuse": fuse_plain},
    "padded": {"buckets": parts.padded_rows},
    "pow2": {"buckets": parts.planned_by(StaticBuckets)},
}


@pytest.mark.parametrize("plan", PLANS)
def test_the_platform_without_a_fault_conforms(plan):
    report = check(fault_platform.subject(**PLANS[plan]), KitOptions(seeds=1))
    assert report.failed_checks() == set()
    assert report.conforms


def test_sound_captures_of_any_size_conform():
    parts = {"graph_runner": elastic.Runner(elastic.Reruns()), "ops": elastic.OPS, "backend": elastic.Inside}
    report = check(fault_platform.subject(**parts), KitOptions(seeds=1, match="elastic"))
    assert report.conforms
    assert len(report.results) == 4, "three checks, attention in two variants"


def test_a_backend_that_fails_when_it_is_asked_fails_its_families_and_no_other():
    report = check(fault_platform.subject(backend=attention.FailsWhenAsked), KitOptions(seeds=1))
    assert {"attention_checks.py", "check_somebody_serves_plain_attention"} <= report.failed_checks()
    assert "check_rms_norm" in "".join(result.check for result in report.results if result.outcome == "passed")


@pytest.mark.parametrize("fault", PROBE_FAULTS)
def test_a_faulty_probe_is_caught(fault, tmp_path, monkeypatch):
    source, expected = PROBE_FAULTS[fault]
    (tmp_path / "vendor_probe.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    report = check(fault_platform.subject(probe="vendor_probe"), only(expected))
    assert report.failed_checks() == {expected}


PARITY = {name for name in vars(parity_checks) if name.startswith("check_tokens_of")}


def test_a_wrong_mask_is_caught_by_a_whole_model(monkeypatch):
    seen = FlatBlockAttention._seen

    def sees_one_less(self, plan):
        return seen(self, dataclasses.replace(plan, positions=plan.positions + 1))

    monkeypatch.setattr(FlatBlockAttention, "_seen", sees_one_less)
    modules = (parity_checks.__file__,)
    report = check(fault_platform.subject(), KitOptions(seeds=1, match="tokens_of", modules=modules))
    assert report.failed_checks() == PARITY
    assert all("whose logit is" in result.message for result in report.results)


@pytest.mark.parametrize("platform", [parts.GathersBackwards, parts.SendsItsOwn])
def test_ranks_that_get_something_else_are_caught(platform):
    subject = msgspec.structs.replace(fault_platform.subject(), platform=platform())
    assert check(subject, only(RANK_CHECK)).failed_checks() == {RANK_CHECK}


def test_a_plan_too_small_is_caught_by_a_whole_model(monkeypatch):
    half = parts.planned_by(StaticBuckets, share=2)
    monkeypatch.setattr(StrictPlatform, "buckets", lambda self, limits: half(limits))
    options = KitOptions(seeds=1, match="after_the_warm_up", modules=(parity_checks.__file__,))
    report = check(fault_platform.subject(), options)
    assert report.failed_checks() == {"check_nothing_is_captured_after_the_warm_up"}
    assert all("captured after the warm-up" in result.message for result in report.results)


def test_every_check_catches_something():
    files = Path(conformance.__file__).parent.glob("*_checks.py")
    checks = {name for file in files for name in re.findall(r"^def (check_\w+)", file.read_text(), re.MULTILINE)}
    caught = set().union(*(expected for _, expected in FAULTS.values())) | {one for _, one in PROBE_FAULTS.values()}
    caught |= {RANK_CHECK}
    assert checks == caught
