"""What serves each op, each kind of attention, each linear and decoder layer of a model, and why others refused.

It is made from a blueprint: the model's layers are there, its weights are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from jackfield.engine.assembly import Blueprint
from jackfield.layers.fused_decoder import ask, decoder_layers
from jackfield.layers.linear import Linear
from jackfield.models.interface import Model
from jackfield.runner.attention_groups import choose_backend, layers_by_need
from jackfield_platforms.attention import AttentionBackend, AttentionNeed
from jackfield_platforms.kv import Latent, Windowed
from jackfield_platforms.ops import Unread, unread_overrides
from jackfield_platforms.platform import Platform
from jackfield_platforms.refusal import Choice, Refused

ONE_CALL, IN_PARTS = "one fused call", "its parts"


class Refusal(msgspec.Struct, frozen=True):
    """Who refused, and why."""

    name: str
    why: str


class Served(msgspec.Struct, frozen=True):
    """One thing that needs an implementation: who serves it, who was asked before and refused, who was not asked."""

    what: str
    detail: str  # sizes and formats, for people
    by: str | None  # None: everybody refused
    refusals: tuple[Refusal, ...]
    unasked: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """Every choice of a launch. `unread` are the platform's own op implementations that none of its dtypes takes."""

    platform: str
    model: str
    architecture: str
    dtype: str
    kv_dtype: str
    ops: tuple[Served, ...]
    attention: tuple[Served, ...]
    linears: tuple[Served, ...]
    layers: tuple[Served, ...]  # decoder layers: by the platform in one call, or in parts
    unread: tuple[Unread, ...]

    @property
    def unserved(self) -> list[Served]:
        """What nobody serves: a launch would fail."""
        return [one for one in (*self.ops, *self.attention, *self.linears) if one.by is None]


class Answers(msgspec.Struct, frozen=True):
    """What every attention backend says to one need of a model; the first without a reason serves."""

    layers: str
    need: str
    backends: tuple[tuple[str, str | None], ...]  # (name, why it refuses, or None)


def explain(blueprint: Blueprint) -> Explanation:
    """Ask for every choice, without loading a weight."""
    config, platform, model = blueprint.config, blueprint.platform, blueprint.empty_model()
    backends = blueprint.plugins.attention_backends(platform)
    needs = layers_by_need(model.attention_needs())
    return Explanation(
        platform=platform.name,
        model=str(config.model_path),
        architecture=config.model.architecture,
        dtype=config.dtype,
        kv_dtype=config.kv_dtype,
        ops=tuple(_chosen(op, "", choice) for op, choice in blueprint.build.ops.chosen.items()),
        attention=tuple(_attention(need, layers, backends) for need, layers in needs.items()),
        linears=tuple(_linear(module) for module in model.modules() if isinstance(module, Linear)),
        layers=tuple(_layers(model, platform)),
        unread=unread_overrides(platform.ops(), platform.capabilities().dtypes),
    )


def attention_answers(blueprint: Blueprint) -> list[Answers]:
    """Every backend asked about every need of the model, also those that a launch would not ask."""
    backends = blueprint.plugins.attention_backends(blueprint.platform)
    needs = layers_by_need(blueprint.empty_model().attention_needs())
    return [
        Answers(spans(layers), described(need), tuple((backend.name, backend.objection(need)) for backend in backends))
        for need, layers in needs.items()
    ]


def described(need: AttentionNeed) -> str:
    """A need in words: heads, sizes, cache dtype, and what is not ordinary about it."""
    kv = need.kv
    if isinstance(kv, Latent):
        return f"{need.query_heads} query heads, latents of {kv.rank} and rotated keys of {kv.rope_dim} in {kv.dtype}"
    size = str(kv.k_dim) if kv.k_dim == kv.v_dim else f"{kv.k_dim} (keys) and {kv.v_dim} (values)"
    words = [f"{need.query_heads} query heads", f"{kv.kv_heads} KV heads of {size} in {kv.dtype}"]
    words += [f"a window of {kv.window}"] if isinstance(kv, Windowed) else []
    words += [f"scores capped at {need.soft_cap:g}"] if need.soft_cap is not None else []
    words += ["sinks"] if need.sinks else []
    return ", ".join(words)


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers as people write them: "0-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _attention(need: AttentionNeed, layers: tuple[int, ...], backends: Sequence[type[AttentionBackend[Any]]]) -> Served:
    return _served(f"layers {spans(layers)}", described(need), lambda: choose_backend(need, backends))


def _linear(layer: Linear) -> Served:
    spec, encoding = layer.spec, layer.method.encoding(layer.spec)
    sizes = f"{spec.in_size} to {' + '.join(map(str, spec.out_sizes))}"
    detail = f"{layer.method.name}: {encoding.describe()}, {sizes}, {spec.dtype}"
    return _served(spec.name, detail, layer.expected_choice)


def _layers(model: Model, platform: Platform) -> Iterator[Served]:
    """Runs of decoder layers that the platform answers alike."""
    answers: dict[str | None, list[int]] = {}
    for layer in decoder_layers(model):
        try:
            answer = ask(layer, model, platform.fuse)
        except Refused:
            answer = "nobody serves one of its linear layers"
        answers.setdefault(answer if isinstance(answer, str) else None, []).append(layer.number)
    for why, numbers in answers.items():
        refusals = () if why is None else (Refusal(platform.name, why),)
        yield Served(f"layers {spans(numbers)}", "", ONE_CALL if why is None else IN_PARTS, refusals)


def _served(what: str, detail: str, choose: Callable[[], Choice[Any]]) -> Served:
    try:
        return _chosen(what, detail, choose())
    except Refused as refused:
        return Served(what, detail, None, _refusals(refused.refusals))


def _chosen(what: str, detail: str, choice: Choice[Any]) -> Served:
    return Served(what, detail, choice.taken.name, _refusals(choice.refusals), choice.unasked)


def _refusals(pairs: Sequence[tuple[str, str]]) -> tuple[Refusal, ...]:
    return tuple(Refusal(name, why) for name, why in pairs)
