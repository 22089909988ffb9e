"""What the loader fills: a module that names its tensors and takes them, complete, once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from jackfield.layers.shards import Shard
from jackfield_platforms.linear import ParamSpec


class Packable(ABC, nn.Module):
    """A module with weights of its own.

    `name` is the module's name in a checkpoint. `parts` are the names under which a checkpoint may hold it in pieces
    instead (siblings of `name`), each with its share of the dimension that `ParamSpec.out_dim` names, or with the same
    tensor where it names none. `alias` is another name under which it may hold the same values (a tied head).

    A rank that holds a part of the module says which: `out_shards` along `ParamSpec.out_dim`, one a part; `in_shard`
    along the other dimension of a matrix. `elsewhere` are parameters that another rank takes.
    """

    name: str
    parts: Mapping[str, int]
    alias: str | None
    out_shards: Sequence[Shard] = ()  # empty: the whole
    in_shard: Shard | None = None  # None: the whole
    elsewhere: Sequence[str] = ()

    def __init__(self, name: str, *, parts: Mapping[str, int] | None = None, alias: str | None = None) -> None:
        super().__init__()
        self.name, self.parts, self.alias = name, parts or {}, alias

    @abstractmethod
    def params(self) -> Mapping[str, ParamSpec]:
        """Tensors that make the whole module, by their name after the module's own."""

    @abstractmethod
    def pack(self, params: dict[str, Tensor]) -> None:
        """Take the tensors, shaped and typed as in `params()`; called once, empties `params`."""
