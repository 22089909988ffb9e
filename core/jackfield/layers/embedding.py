"""Token embedding, and the head that turns hidden states into logits. Tied, both read one packed weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from jackfield.layers.linear import Linear
from jackfield.layers.packable import Packable
from jackfield.models.interface import Build
from jackfield_platforms.linear import LinearSpec, ParamSpec

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


class Embedding(Packable):
    """A table of its own: `[tokens]` ids to `[tokens, hidden]`."""

    weight: Tensor  # [vocab, hidden]

    def __init__(self, build: Build) -> None:
        super().__init__(EMBEDDING)
        self.shape = (build.config.vocab_size, build.config.hidden_size)
        self.dtype_name = build.dtype_name

    def params(self) -> Mapping[str, ParamSpec]:
        return {"weight": ParamSpec(self.shape, self.dtype_name)}

    def pack(self, params: dict[str, Tensor]) -> None:
        self.weight = params.pop("weight")

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Vocabulary(nn.Module):
    """Both ends of a model: `embed` and `logits`."""

    def __init__(self, build: Build) -> None:
        super().__init__()
        config = build.config
        self.tied = config.tie_word_embeddings
        self.comm = build.comm
        self.head = Linear(
            build,
            LinearSpec(
                EMBEDDING if self.tied else HEAD,
                in_size=config.hidden_size,
                out_sizes=(config.vocab_size,),
                dtype=build.dtype_name,
                shard="column",
                gathers=self.tied,
            ),
            alias=HEAD if self.tied else None,
        )
        self.table = None if self.tied else Embedding(build)

    def embed(self, ids: Tensor) -> Tensor:
        """`[tokens]` to `[tokens, hidden]`."""
        rows: Tensor = self.head.rows(ids) if self.table is None else self.table(ids)
        return rows

    def logits(self, hidden: Tensor) -> Tensor:
        """`[rows, hidden]` to `[rows, vocab]`, the whole vocabulary on every rank."""
        return self.comm.all_gather(self.head(hidden))
