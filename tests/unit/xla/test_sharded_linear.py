"""Which layers are cut over the devices, and which refuse; the products themselves are in `test_spmd`."""

from __future__ import annotations

import pytest
import torch

from jackfield_platforms.linear import Encoded, Encoding, LinearSpec
from jackfield_xla.sharded_linear import ShardedLinear
from jackfield_xla.spmd import VARIABLE, is_wanted

PLAIN = Encoding("float", 32)


class Cuts:
    """A communicator over four devices that remembers what was cut."""

    num_devices = 4

    def __init__(self):
        self.cut = []

    def shard(self, tensor, dim):
        self.cut.append((tuple(tensor.shape), dim))
        return tensor


def spec(shard, in_size=64, out_sizes=(128, 32, 32)):
    return LinearSpec("layer", in_size, out_sizes, "float32", shard=shard)


@pytest.mark.parametrize(
    ("side", "layer", "why"),
    [
        ("column", spec("column"), None),
        ("row", spec("row"), None),
        ("row", spec("column"), "it cuts row layers, and this is a column one"),
        ("column", spec("none"), "it cuts column layers, and this is a none one"),
        ("column", spec("column", out_sizes=(130,)), "130 numbers cannot be cut into 4 equal parts"),
        ("row", spec("row", in_size=66), "66 numbers cannot be cut into 4 equal parts"),
    ],
)
def test_a_layer_is_cut_along_its_own_side_into_equal_parts(side, layer, why):
    assert ShardedLinear(Cuts(), side).rejects(PLAIN, layer) == why


def test_quantised_weights_are_refused():
    assert "not 8-bit int" in ShardedLinear(Cuts(), "row").rejects(Encoding("int", 8, scale="float32"), spec("row"))


def test_a_bias_is_cut_with_the_outputs_and_whole_with_the_inputs():
    for side, cut in (("column", [((6, 4), 0), ((6,), 0)]), ("row", [((6, 4), 1)])):
        comm = Cuts()
        encoded = Encoded(PLAIN, torch.ones(6, 4), torch.ones(6))
        packed = ShardedLinear(comm, side).pack(encoded)
        assert comm.cut == cut
        assert ShardedLinear(comm, side).apply(torch.ones(2, 4), packed).tolist() == [[5.0] * 6] * 2


def test_it_must_be_asked_for():
    assert not is_wanted({})
    assert not is_wanted({VARIABLE: "0"})
    assert is_wanted({VARIABLE: "1"})
    with pytest.raises(ValueError, match="is 0 or 1; got 'yes'"):
        is_wanted({VARIABLE: "yes"})
