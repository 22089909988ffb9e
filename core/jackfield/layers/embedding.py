"""Token embedding, and the head that turns hidden states into logits. Tied, both read one packed weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from jackfield.layers.linear import Linear
from jackfield.layers.packable import Packable
from jackfield.layers.shards import part
from jackfield.models.interface import Build
from jackfield_platforms.linear import LinearSpec, ParamSpec

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


class Embedding(Packable):
    """A table of its own: `[tokens]` ids to `[tokens, hidden]`."""

    weight: Tensor  # [vocab, hidden]; of several ranks each holds as many rows

    def __init__(self, build: Build) -> None:
        super().__init__(EMBEDDING)
        shard = part(build.config.vocab_size, build.comm)
        self.shape = (shard.size, build.config.hidden_size)
        self.out_shards = (shard,)
        self.dtype_name = build.dtype_name

    def params(self) -> Mapping[str, ParamSpec]:
        return {"weight": ParamSpec(self.shape, self.dtype_name)}

    def pack(self, params: dict[str, Tensor]) -> None:
        self.weight = params.pop("weight")

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Vocabulary(nn.Module):
    """Both ends of a model: `embed` and `logits`. Ranks hold equal shares of the vocabulary, the last ones padded."""

    def __init__(self, build: Build) -> None:
        super().__init__()
        config = build.config
        self.tied = config.tie_word_embeddings
        self.comm, self.shard = build.comm, part(config.vocab_size, build.comm)
        self.head = Linear(
            build,
            LinearSpec(
                EMBEDDING if self.tied else HEAD,
                in_size=config.hidden_size,
                out_sizes=(self.shard.size,),
                dtype=build.dtype_name,
                shard="column",
                gathers=self.tied,
            ),
            alias=HEAD if self.tied else None,
            shards=(self.shard,),
        )
        self.table = None if self.tied else Embedding(build)

    def embed(self, ids: Tensor) -> Tensor:
        """`[tokens]` to `[tokens, hidden]`."""
        if self.comm.size == 1:
            return self._rows(ids)
        own = ids - self.shard.first
        strange = (own < 0) | (own >= self.shard.size)
        return self.comm.all_reduce(self._rows(own.masked_fill(strange, 0)).masked_fill(strange[:, None], 0))

    def logits(self, hidden: Tensor) -> Tensor:
        """`[rows, hidden]` to `[rows, vocab]`, the whole vocabulary on every rank."""
        gathered = self.comm.all_gather(self.head(hidden))
        return gathered if self.comm.size == 1 else gathered[:, : self.shard.whole]

    def _rows(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.head.rows(ids) if self.table is None else self.table(ids)
        return rows
