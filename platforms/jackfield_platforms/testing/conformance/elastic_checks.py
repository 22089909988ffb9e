"""Programs captured for any size: a run computes what the program would over the first tokens alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.attention import Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.graph import Elastic, ProgramKey
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import Ops, OpSpec, resolve
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase, plain_attention, rotated_attention
from jackfield_platforms.testing.conformance.attention_checks import rope_table
from jackfield_platforms.testing.conformance.mismatch import expect, near
from jackfield_platforms.testing.conformance.scene import MAX_ROWS, MAX_TOKENS, Scene
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.conformance.tolerances import tolerance

_WIDTH, _TOKENS, _RUNS = 64, 37, 6
_LENGTHS = (60, 41, 17, 9, 33)


class Buffers(msgspec.Struct, frozen=True, eq=False):
    """What a program reads: two rows a token, and a weight."""

    x: Tensor  # [tokens, 64]
    y: Tensor  # [tokens, 64]
    weight: Tensor  # [64]

    @classmethod
    def draw(cls, case: ElasticCase, tokens: int, seed: int) -> Buffers:
        """Random contents."""
        generator, dtype = torch.Generator().manual_seed(seed), torch_dtype(case.dtype)
        shapes = ((tokens, _WIDTH), (tokens, _WIDTH), (_WIDTH,))
        parts = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
        return cls(*(part.to(case.subject.platform.device()) for part in parts))

    def take(self, fresh: Buffers) -> None:
        """The contents of `fresh`, which has fewer tokens, in the first rows; NaN behind them."""
        for buffer, rows in ((self.x, fresh.x), (self.y, fresh.y)):
            buffer[: len(rows)].copy_(rows)
            buffer[len(rows) :] = float("nan")
        self.weight.copy_(fresh.weight)


class ElasticCase(msgspec.Struct, frozen=True, eq=False):
    """A dtype in which the platform captures a program of its own ops."""

    subject: Subject
    dtype: str
    ops: Ops

    def program(self, buffers: Buffers) -> dict[str, Tensor]:
        """Norms, views and a gate: results are read again, and memory of some may be used anew."""
        heads = self.ops.rms_norm(buffers.x.unflatten(-1, (4, 16)), buffers.weight[:16], 1e-6)
        normed, total = self.ops.reduce_add_rms_norm(buffers.y, heads.flatten(1), buffers.weight, 1e-6, SingleRank())
        for _ in range(3):
            normed, total = self.ops.reduce_add_rms_norm(normed, total, buffers.weight, 1e-6, SingleRank())
        return {"hidden": normed, "gated": self.ops.silu_mul(total)}

    def capture(self, elastic: Elastic, seed: int) -> tuple[ProgramKey, Buffers]:
        """Capture the program over buffers of its own."""
        buffers = Buffers.draw(self, _TOKENS, seed)
        key = ProgramKey("conformance", Bucket("mixed", _TOKENS, _TOKENS), variant=uuid4().hex)
        taken = elastic.capture(key, self.program, (buffers,), _TOKENS)
        expect(isinstance(taken, int), f"a program of the platform's own ops is refused: {taken}")
        return key, buffers

    def check(self, elastic: Elastic, captured: tuple[ProgramKey, Buffers], tokens: int, seed: int) -> dict[str, Any]:
        """Run over new contents of `tokens` tokens, and compare with the program as it is."""
        key, buffers = captured
        fresh = Buffers.draw(self, tokens, seed)
        buffers.take(fresh)
        out: dict[str, Tensor] = elastic.run(key, tokens)
        self.subject.platform.synchronize(buffers.x.device)
        for name, wanted in self.program(fresh).items():
            what = f"{name!r} of {tokens} of {_TOKENS} tokens over contents {seed}"
            near(out[name][:tokens], wanted.cpu().double(), tolerance(self.dtype), what)
        return out


def elastic(subject: Subject) -> Iterator[tuple[str, ElasticCase]]:
    """Each dtype in which all ops of the program are the platform's own, where it captures at any size."""
    if isinstance(subject.platform.graph_runner().elastic(), str):
        return
    for dtype in subject.platform.capabilities().dtypes:
        ops = resolve(subject.platform.ops(), OpSpec(dtype))
        if all(ops.chosen[op].taken.name != "torch" for op in ("rms_norm", "reduce_add_rms_norm", "silu_mul")):
            yield dtype, ElasticCase(subject, dtype, ops)


def elastic_attention(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """Backends that may be in a capture of any size, where the platform makes such captures."""
    if isinstance(subject.platform.graph_runner().elastic(), str):
        return iter(())
    rotated = dict(rotated_attention(subject))
    return ((name, case) for name, case in plain_attention(subject) if case.backend.elastic and name in rotated)


def _runner(subject: Subject) -> Elastic:
    made = subject.platform.graph_runner().elastic()
    assert isinstance(made, Elastic), "chosen because it is"
    return made


@torch.inference_mode()
def check_an_elastic_run_equals_the_program_at_every_size(elastic: ElasticCase, seed: int) -> None:
    """Sizes in any order over one capture, from one token to all: rows behind them are NaN and stay unread."""
    runner, generator = _runner(elastic.subject), torch.Generator().manual_seed(seed)
    captured = elastic.capture(runner, seed)
    sizes = [1, _TOKENS, *torch.randint(1, _TOKENS + 1, (_RUNS,), generator=generator).tolist()]
    places = []
    for number, tokens in enumerate(sizes):
        out = elastic.check(runner, captured, tokens, seed + number)
        places.append({name: tensor.data_ptr() for name, tensor in out.items()})
    expect(all(place == places[0] for place in places), f"outputs moved from run to run: {places}")


@torch.inference_mode()
def check_two_elastic_captures_do_not_disturb_each_other(elastic: ElasticCase, seed: int) -> None:
    """They may share the memory of what nobody reads later: outputs of one outlive a run of the other."""
    runner = _runner(elastic.subject)
    first, second = elastic.capture(runner, seed), elastic.capture(runner, seed + 1)
    out = elastic.check(runner, first, 7, seed + 2)
    before = {name: tensor[:7].cpu().clone() for name, tensor in out.items()}
    elastic.check(runner, second, _TOKENS, seed + 3)
    for name, tensor in out.items():
        near(tensor[:7], before[name].double(), 0.0, f"{name!r} of the first capture after a run of the second")
    elastic.check(runner, first, 11, seed + 4)


@torch.inference_mode()
def check_elastic_attention_follows_its_plan(elastic_attention: AttentionCase, seed: int) -> None:
    """One capture answers launches of any rows and tokens, planned into the plan that it was captured with."""
    scene, runner = Scene(elastic_attention, _LENGTHS, seed), _runner(elastic_attention.subject)
    table = rope_table(elastic_attention.need.kv.k_dim, max(_LENGTHS)).to(scene.device)
    like, most = scene.sequences[0], Bucket("mixed", MAX_ROWS, MAX_TOKENS)
    q, k, v = (x.new_zeros(MAX_TOKENS, *x.shape[1:]).to(scene.device) for x in (like.q, like.k, like.v))
    positions = torch.zeros(MAX_TOKENS, dtype=torch.int64, device=scene.device)
    plan = scene.backend.blank(most)

    def program(q: Tensor, k: Tensor, v: Tensor, positions: Tensor, plan: Any) -> Tensor:
        return scene.backend.run(q, k, v, scene.layer, plan, Rope(table, positions))

    key = ProgramKey("conformance", most, variant=uuid4().hex)
    taken = runner.capture(key, program, (q, k, v, positions, plan), MAX_TOKENS)
    expect(isinstance(taken, int), f"attention that says it is elastic is refused: {taken}")
    scene.rotation = (table, False)
    for _ in range(_RUNS):
        rows = _some_rows(scene)
        if not rows:
            break
        num_tokens = sum(new for _, new in rows)
        launch = scene.launch(rows, Bucket("mixed", len(rows), num_tokens))
        for buffer, fresh in zip((q, k, v, positions), (*launch.inputs, launch.positions), strict=True):
            buffer[:num_tokens].copy_(fresh)
        scene.backend.plan(launch.layout, launch.bucket, plan)
        scene.check(launch, runner.run(key, num_tokens)[:num_tokens])
        for index, new in rows:
            scene.sequences[index].done += new


def _some_rows(scene: Scene) -> list[tuple[int, int]]:
    """The next tokens of some sequences, decode rows first."""
    left = {index: len(sequence) - sequence.done for index, sequence in enumerate(scene.sequences)}
    chosen = [index for index, rest in left.items() if rest and scene.rng.random() < 0.8]
    rows = [(index, int(scene.rng.integers(1, min(left[index], 20) + 1))) for index in chosen]
    return sorted(rows, key=lambda row: row[1] != 1)
