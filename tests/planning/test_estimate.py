"""The arithmetic of the plan, against figures worked out by hand."""

import pytest

from captioner_jax.planning.chips import Chip
from captioner_jax.planning.collectives import Collective
from captioner_jax.planning.estimate import Roofline, Work

CHIP = Chip("imagined", flops=100.0, memory=1.0, bandwidth=10.0, interconnect=5.0, cores="default", sides=2)


def test_a_roofline_by_hand():
    """200 FLOPs take 2 s; 50 bytes 5 s; 20 bytes reduced among 4 are 2 * 3/4 * 20 = 30 sent, 6 s: 5 + 6 s in all."""
    roofline = Roofline.of(Work(200.0, 50.0, [Collective("all-reduce", 20, 4)]), CHIP)
    assert (roofline.computing, roofline.moving, roofline.telling) == (2.0, 5.0, 6.0)
    assert roofline.seconds == 11.0
    assert roofline.utilisation == pytest.approx(2 / 11)


def test_one_chip_tells_nobody_anything():
    assert Collective("all-reduce", 1000, 1).sent == Collective("all-gather", 1000, 1).sent == 0
