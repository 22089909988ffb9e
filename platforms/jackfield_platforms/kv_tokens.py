"""The KV of some tokens in canonical form, which engines of other devices, block sizes and cache dtypes take in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.kv import KVSpec

Views = Mapping[str, Tensor]  # of one layer's cache, by part: [num_blocks, block_size, heads, dim]
Where = tuple[Tensor, Tensor]  # block and offset of each token


class KVHeader(msgspec.Struct, frozen=True):
    """What the tensors hold. A number times `scale` is what was computed."""

    kv: KVSpec  # kind, sizes, and the dtype of the numbers
    num_layers: int
    num_tokens: int
    scale: float = 1.0

    def objection(self, kv: KVSpec, num_layers: int, num_tokens: int) -> str | None:
        """Why these tokens cannot be taken for so many layers and tokens of `kv`, or None.

        The dtypes may differ: plain floats are converted. Everything else must be equal.
        """
        if msgspec.structs.replace(self.kv, dtype=kv.dtype) != kv:
            return f"wanted {kv}, found {self.kv}"
        if (self.num_layers, self.num_tokens) != (num_layers, num_tokens):
            return f"wanted {num_tokens} tokens of {num_layers} layers, found {self.num_tokens} of {self.num_layers}"
        if self.scale != 1.0:
            return f"wanted numbers that stand for themselves, found a scale of {self.scale:g}"
        return None


@dataclass(frozen=True)
class KVTokens:
    """`tensors[part]` is `[layers, tokens, heads, dim]`; the parts are those of `header.kv`, whatever the backend."""

    header: KVHeader
    tensors: dict[str, Tensor]

    def check(self, kv: KVSpec, num_layers: int, num_tokens: int) -> None:
        """ValueError when they are not what is wanted, or the tensors not what the header says."""
        header = self.header
        problem = header.objection(kv, num_layers, num_tokens)
        wanted = {name: (header.num_layers, header.num_tokens, *size) for name, size in header.kv.parts.items()}
        found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        if problem is None and wanted != found:
            problem = f"the header states {wanted}, the tensors are {found}"
        if problem is not None:
            raise ValueError(f"These tokens cannot be imported: {problem}")

    def narrowed(self, start: int, stop: int) -> KVTokens:
        """The tokens `start : stop`, as views."""
        header = msgspec.structs.replace(self.header, num_tokens=stop - start)
        return KVTokens(header, {name: tensor[:, start:stop] for name, tensor in self.tensors.items()})


def read_tokens(kv: KVSpec, layers: Sequence[Views], where: Where) -> KVTokens:
    """Gather tokens out of the layers' views; the tensors are new ones."""
    tensors = {name: torch.stack([views[name][where] for views in layers]) for name in kv.parts}
    return KVTokens(KVHeader(kv, len(layers), len(where[0])), tensors)


def write_tokens(tokens: KVTokens, layers: Sequence[Views], where: Where) -> None:
    """Scatter tokens into the layers' views."""
    for name in tokens.header.kv.parts:
        for views, fresh in zip(layers, tokens.tensors[name], strict=True):
            view = views[name]
            view.index_put_(where, fresh.to(view.device, view.dtype))
