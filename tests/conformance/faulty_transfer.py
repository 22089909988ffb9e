"""Attention backends that exchange tokens, or keep latents, wrong in one way each."""

from __future__ import annotations

import numpy as np
import torch

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.kv import Latent
from jackfield_platforms.kv_tokens import KVTokens, write_tokens


class ExportsInReverse(FlatBlockAttention):
    def export_tokens(self, layers, slots):
        return super().export_tokens(layers, slots[::-1])


class ReversesBothWays(ExportsInReverse):
    """A round trip gives what went in."""

    def import_tokens(self, layers, slots, tokens):
        super().import_tokens(layers, slots[::-1], tokens)


class SwapsKeysAndValues(FlatBlockAttention):
    """In and out alike, and only where they have one size."""

    def token_views(self, cache):
        views = super().token_views(cache)
        swaps = "k" in views and views["k"].shape == views["v"].shape
        return {"k": views["v"], "v": views["k"]} if swaps else views


class ImportsOneSlotFurther(FlatBlockAttention):
    def import_tokens(self, layers, slots, tokens):
        super().import_tokens(layers, slots + 1, tokens)


class IsOneSlotOffBothWays(ImportsOneSlotFurther):
    def export_tokens(self, layers, slots):
        return super().export_tokens(layers, np.minimum(slots + 1, slots.max()))


class ImportsTheFirstLayerAlone(FlatBlockAttention):
    def import_tokens(self, layers, slots, tokens):
        tokens = KVTokens(tokens.header, {name: x[:1].expand_as(x) for name, x in tokens.tensors.items()})
        super().import_tokens(layers, slots, tokens)


class ClearsTheRestOfItsBlocks(FlatBlockAttention):
    def import_tokens(self, layers, slots, tokens):
        blocks = torch.from_numpy(np.unique(slots // self.block_size))
        for layer in layers:
            layer.cache.k[blocks] = 0
        super().import_tokens(layers, slots, tokens)


class TakesWhateverItIsGiven(FlatBlockAttention):
    def import_tokens(self, layers, slots, tokens):
        where = torch.from_numpy(slots // self.block_size), torch.from_numpy(slots % self.block_size)
        views = [self.token_views(layer.cache) for layer in layers]
        header = tokens.header
        if header.num_tokens == len(slots) and header.num_layers == len(layers) and header.kv == self.need.kv:
            write_tokens(tokens, views, where)  # whatever the scale says
        else:
            tokens.check(self.need.kv, len(layers), len(slots))


class CopiesBackwards(FlatBlockAttention):
    def copy_blocks(self, layers, pairs):
        super().copy_blocks(layers, pairs[:, ::-1])


class CopiesOneAfterAnother(FlatBlockAttention):
    def copy_blocks(self, layers, pairs):
        for pair in pairs:
            super().copy_blocks(layers, pair[None])


class ReadsValuesFromTheEndOfLatents(FlatBlockAttention):
    """The rotated key is taken for a part of the value."""

    def _softmax_sums(self, scores, values, seen, sinks, plan):
        kv = self.need.kv
        if isinstance(kv, Latent):
            values = values.roll(kv.rope_dim, -1)
        return super()._softmax_sums(scores, values, seen, sinks, plan)


class CountsLatentsTwice(FlatBlockAttention):
    """Keeps keys and values apart, though it says that it does not."""

    def allocate(self, num_blocks):
        cache = super().allocate(num_blocks)
        return (cache, cache.v.clone()) if isinstance(self.need.kv, Latent) else cache
