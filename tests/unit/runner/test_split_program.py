"""Forward captured in pieces: the numbers of eager, attention run by itself between pieces, bridges that stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_engines import answers

from jackfield.engine.engine import Engine
from jackfield.models.interface import StepInputs
from jackfield.runner.split_program import Bridges, Cut, SplitProgram
from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import EagerRunner, Pieces, ProgramKey
from jackfield_platforms.refusal import Refused
from jackfield_platforms.testing.recording_graphs import RecordingGraphRunner
from jackfield_platforms.testing.strict import CompiledStrictPlatform, StrictPlatform

LAYERS = 3


class Counted(FlatBlockAttention):
    """Counts how often Python is asked to attend."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.runs = 0

    def run(self, *args: Any, **options: Any) -> torch.Tensor:
        self.runs += 1
        return super().run(*args, **options)


class Anywhere(Counted):
    name, graphs = "anywhere", "any"


class Uniform(Counted):
    name, graphs = "uniform", "uniform"


class Nowhere(Counted):
    name, graphs = "nowhere", "none"


class Recorded(StrictPlatform):
    """Plans as the strict device does, replays as a stream capture does."""

    backend: type[Counted] = Anywhere

    def __init__(self) -> None:
        super().__init__()
        self.runner = RecordingGraphRunner()

    def attention_backends(self):
        return (self.backend,)

    def graph_runner(self):
        return self.runner


class RecordedUniform(Recorded):
    backend = Uniform


class RecordedNowhere(Recorded):
    backend = Nowhere


class Eager(Recorded):
    """The same sizes, and no capture."""

    backend = Nowhere

    def graph_runner(self):
        return EagerRunner()


class StrictNowhere(Recorded):
    backend = Nowhere

    def graph_runner(self):
        return self.graphs


class WholeOnly(CompiledStrictPlatform):
    def attention_backends(self):
        return (Nowhere,)


def backend_of(engine: Engine) -> Counted:
    (group,) = engine._executor._programs._groups
    return group.backend


def kept_hidden(engine: Engine) -> list[tuple[str, torch.Tensor]]:
    """Every launch's bucket and hidden states of its real tokens, from now on."""
    programs, kept = engine._executor._programs, []
    replay = programs.hidden

    def hidden(bucket: Any, inputs: Any) -> torch.Tensor:
        result = replay(bucket, inputs)
        kept.append((bucket.describe(), result[: inputs.layouts[0].num_tokens].clone()))
        return result

    programs.hidden = hidden
    return kept


@pytest.mark.parametrize("platform", [Recorded, RecordedUniform, RecordedNowhere, StrictNowhere])
def test_every_launch_has_the_hidden_states_of_eager_and_every_answer_its_tokens(engine_on, platform):
    eager, captured = engine_on(Eager), engine_on(platform)
    wanted, found = kept_hidden(eager), kept_hidden(captured)
    assert answers(captured) == answers(eager)
    assert answers(captured) == answers(eager), "and once more, over what the first run left"
    assert len(found) == len(wanted) > 40
    for (bucket, got), (same, right) in zip(found, wanted, strict=True):
        assert bucket == same
        torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "cut"), [(Recorded, ()), (RecordedUniform, ("mixed",)), (RecordedNowhere, ("mixed", "decode"))]
)
def test_attention_runs_by_itself_where_it_may_be_in_no_capture(engine_on, platform, cut):
    engine = engine_on(platform)
    executor, attention = engine._executor, backend_of(engine)
    launches, attention.runs = executor._platform.runner.launches, 0
    launches.clear()
    answers(engine)
    counts = {bucket: use.launches for bucket, use in executor.usage.by_bucket.items()}
    assert {bucket.phase for bucket in counts} == {"mixed", "decode"}
    forwards = {key: count for key, count in launches.items() if key.program == "forward"}
    for bucket, count in counts.items():
        pieces = range(LAYERS + 1) if bucket.phase in cut else [None]
        assert {key.piece: n for key, n in forwards.items() if key.bucket == bucket} == dict.fromkeys(pieces, count)
    assert attention.runs == LAYERS * sum(count for bucket, count in counts.items() if bucket.phase in cut)
    assert executor.num_late_captures == 0


def test_bridges_and_outputs_stay_where_they_are_and_are_shared(engine_on):
    engine = engine_on(RecordedNowhere)
    splits = [captured.forward for captured in engine._executor._programs._captured.values()]
    assert len(splits) > 4

    def places() -> list[list[int]]:
        return [[cut.q.data_ptr(), cut.k.data_ptr(), cut.v.data_ptr(), cut.out.data_ptr()] for cut in cuts]

    cuts: list[Cut] = [cut for split in splits for cut in split._cuts]
    outputs = [split._outputs["hidden"].data_ptr() for split in splits]
    before = places()
    assert len({tuple(place) for place in before}) == 1, "all layers and sizes share one set"
    answers(engine)
    assert places() == before
    assert [split._outputs["hidden"].data_ptr() for split in splits] == outputs


def test_an_attention_that_does_not_reach_its_bridge_changes_the_answers(engine_on, monkeypatch):
    right = answers(engine_on(Eager))
    attend = Cut.attend

    def stale(self: Cut, step: Any) -> None:
        if self.layer != 1:
            attend(self, step)

    monkeypatch.setattr(Cut, "attend", stale)
    assert answers(engine_on(RecordedNowhere)) != right


def test_a_runner_of_whole_programs_alone_says_so(engine_on):
    with pytest.raises(Refused, match=r"backend nowhere may be in no capture at .*num_tokens.*: programs are compiled"):
        engine_on(WholeOnly)


class Failing(Pieces):
    """Pieces of which one cannot begin, or cannot end."""

    def __init__(self, begins: int, ends: int) -> None:
        self.begins, self.ends, self.calls = begins, ends, []

    def begin(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        self.calls.append(("begin", key.piece))
        if key.piece == self.begins:
            raise RuntimeError("no room for another capture")

    def end(self, key: ProgramKey) -> int:
        self.calls.append(("end", key.piece))
        if key.piece == self.ends:
            raise RuntimeError("the capture is void")
        return 1

    def replay(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        raise AssertionError("nothing was captured")


@pytest.mark.parametrize(
    ("begins", "ends", "said", "last"),
    [(1, None, "no room", ("begin", 1)), (None, 0, "is void", ("end", 0))],
    ids=["begin", "end"],
)
def test_a_capture_that_fails_says_why_and_ends_each_piece_once(begins, ends, said, last):
    pieces = Failing(begins, ends)
    split = SplitProgram(ProgramKey("forward", Bucket("decode", 2, 2)), pieces, Bridges(), frozenset({0}))
    x = torch.ones(2, 1, 4)
    step = StepInputs(x, x, lambda layer, q, k, v, rope: q + k)
    with pytest.raises(RuntimeError, match=said):
        split.capture(lambda hidden, step: {"hidden": step.attend(0, x, x, x, None)}, {}, step)
    assert pieces.calls == [("begin", 0), ("end", 0), ("begin", 1)][: pieces.calls.index(last) + 1]


def test_a_bridge_grows_for_a_larger_size_and_smaller_ones_are_its_first_rows():
    bridges = Bridges()
    large = bridges.like("q", torch.zeros(8, 2, 4))
    small = bridges.like("q", torch.zeros(3, 2, 4))
    assert (small.shape, small.data_ptr()) == ((3, 2, 4), large.data_ptr())
    assert bridges.like("q", torch.zeros(9, 2, 4)).data_ptr() != large.data_ptr()
    assert bridges.like("k", torch.zeros(3, 2, 4)).data_ptr() != large.data_ptr()
    assert bridges.like("q", torch.zeros(3, 2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
