"""Graph runners that capture in pieces, each wrong in one way."""

from __future__ import annotations

import msgspec
import torch
from torch.utils import _pytree as pytree

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.testing.recording_graphs import RecordingGraphRunner, _storage

replace = msgspec.structs.replace


class KeepsTheFirstAnswer(RecordingGraphRunner):
    """The second piece is run once and never again."""

    def replay(self, key, buffers):
        if key.piece != 1 or not self.launches[key]:
            super().replay(key, buffers)


class ReadsStaleBridges(RecordingGraphRunner):
    """Later pieces read what the core's buffers held when they were captured."""

    def end(self, key):
        num_bytes = super().end(key)
        if key.piece:
            recording = self._recordings[key]
            recording._calls = [self._frozen(call) for call in recording._calls]
        return num_bytes

    def _frozen(self, call):
        made = {
            _storage(tensor)
            for recording in self._recordings.values()
            for other in recording._calls
            for _, tensor in other.made
        }
        if call.operation._schema.is_mutable:
            return call
        args = pytree.tree_map_only(
            torch.Tensor, lambda tensor: tensor if _storage(tensor) in made else tensor.clone(), call.args
        )
        return replace(call, args=args)


class ForgetsTheSize(RecordingGraphRunner):
    """One recording for each piece, whatever its size: the latest."""

    def begin(self, key, buffers):
        self._recordings.pop(_bare(key), None)
        super().begin(_bare(key), buffers)

    def end(self, key):
        return super().end(_bare(key))

    def replay(self, key, buffers):
        super().replay(_bare(key), buffers)


def _bare(key):
    return replace(key, bucket=Bucket("decode", 1, 1), variant="")


class CapturesTheGap(RecordingGraphRunner):
    """A piece ends where the next begins."""

    open = None

    def _close(self):
        if self.open is not None:
            super().end(self.open)
            self.open = None

    def begin(self, key, buffers):
        self._close()
        super().begin(key, buffers)

    def end(self, key):
        self.open = key
        return 0

    def replay(self, key, buffers):
        self._close()
        super().replay(key, buffers)
