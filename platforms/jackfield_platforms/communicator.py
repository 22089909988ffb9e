"""Collectives between the ranks of one model."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Communicator(ABC):
    """The ranks that share one model. Every rank calls the same collectives in the same order, on equal shapes.

    A rank whose peer has died gets a RuntimeError out of its next collective; it does not wait for ever.
    """

    # required
    rank: int
    size: int

    @abstractmethod
    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum over ranks; may reuse x."""

    @abstractmethod
    def all_gather(self, x: Tensor, dim: int = -1) -> Tensor:
        """The ranks' tensors side by side along `dim`, in rank order."""

    @abstractmethod
    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        """What rank `source` holds; may reuse x, which on other ranks gives shape and dtype alone."""


class SingleRank(Communicator):
    """One rank: every collective is the identity."""

    rank, size = 0, 1

    def all_reduce(self, x: Tensor) -> Tensor:
        return x

    def all_gather(self, x: Tensor, dim: int = -1) -> Tensor:
        return x

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return x
