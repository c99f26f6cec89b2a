"""How long a step takes at least, by what a chip can do at most."""

import dataclasses
from collections.abc import Sequence

from captioner_jax.planning.chips import Chip
from captioner_jax.planning.collectives import Collective


@dataclasses.dataclass(frozen=True)
class Work:
    """What one chip does in a step."""

    flops: float
    bytes: float
    """Between its large memory and its cores."""
    collectives: Sequence[Collective]

    @property
    def sent(self) -> float:
        """Bytes to other chips."""
        return sum(collective.sent for collective in self.collectives)


@dataclasses.dataclass(frozen=True)
class Roofline:
    r"""$$t = \max(\text{FLOPs} / \text{peak},\ \text{bytes} / \text{bandwidth}) + \text{sent} / \text{interconnect}$$

    in seconds, after Williams et al. 2009, "Roofline: an insightful visual performance model". What chips tell each
    other is added as though nothing were computed meanwhile.
    """

    computing: float
    moving: float
    telling: float

    @staticmethod
    def of(work: Work, chip: Chip) -> "Roofline":
        """Of a step on a kind of chip."""
        return Roofline(work.flops / chip.flops, work.bytes / chip.bandwidth, work.sent / chip.interconnect)

    @property
    def seconds(self) -> float:
        return max(self.computing, self.moving) + self.telling

    @property
    def utilisation(self) -> float:
        """Of the peak FLOP/s, the share that a step of these `seconds` would use (MFU)."""
        return self.computing / self.seconds
