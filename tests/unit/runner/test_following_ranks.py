"""What other ranks do while rank 0 samples: the same collectives in the same order, and the same ids on the device."""

from __future__ import annotations

from collections import deque

import pytest
from sized_platforms import KINDS, AnySize, Static
from small_engines import PROMPTS, finish
from torch import Tensor

from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.engine.step_codec import StepCodec
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.communicator import SingleRank


class Sends(SingleRank):
    """Rank 0 of two: what it broadcasts is kept in order."""

    size = 2

    def __init__(self) -> None:
        self.sent: deque[Tensor] = deque()

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        self.sent.append(x.clone())
        return x


class Receives(SingleRank):
    """Rank 1, which runs after rank 0: it must ask for what was sent, in its shape, and for nothing else."""

    rank, size = 1, 2

    def __init__(self, peer: Sends) -> None:
        self.peer = peer

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        assert self.peer.sent, "rank 0 sends nothing here"
        sent = self.peer.sent.popleft()
        assert (x.shape, x.dtype) == (sent.shape, sent.dtype)
        return sent


def lead(engine: Engine, other: Engine) -> None:
    """Every step of an engine is taken by another's runner too, as a rank takes it: from its bytes, and following."""
    runner, follower = engine._executor, other._executor
    comm = runner._sampling._comm = Sends()
    follower._sampling._comm = Receives(comm)
    launch, sample = runner.launch, runner.sample
    encode, decode = StepCodec(), StepCodec()
    frames: deque[bytes] = deque()

    def launched(step):
        frames.append(bytes(encode.encode(step)))
        return launch(step)

    def sampled(forward, masks=None):
        pending = sample(forward, masks)
        follower.follow(follower.launch(decode.decode(frames.popleft())))
        assert not comm.sent, "rank 1 takes what rank 0 sends"
        return pending

    runner.launch, runner.sample = launched, sampled


@pytest.mark.parametrize("platform", [AnySize, Static])
def test_a_rank_that_follows_takes_part_in_every_step(engine_on, platform):
    engine, other = engine_on(platform), engine_on(platform)
    lead(engine, other)
    engine.add(EngineRequest("0", PROMPTS[2], SamplingParams(temperature=0, max_tokens=3, seed=0)))
    finish(engine, 1)  # its first step samples nothing
    for place in range(12):
        sampling = SamplingParams(max_tokens=2 + place % 5, seed=place, **KINDS[place % len(KINDS)])
        engine.add(EngineRequest(str(place), PROMPTS[place % len(PROMPTS)], sampling))
    finish(engine, 12)
    first, second = (remembered(one) for one in (engine, other))
    assert first == second
    assert any(first)


def remembered(engine: Engine) -> list[int]:
    """What slots sampled last."""
    runner = engine._executor
    runner._platform.synchronize(runner._sampling._device)
    return runner._sampling._sampled_last.cpu()[:4].tolist()
