"""What TPU chips can do at most, as Google Cloud's documentation tells (read in November 2026).

https://cloud.google.com/tpu/docs/v4, v5e, v5p, v6e. The v4's interconnect: Jouppi et al. 2023, "TPU v4", table 4.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip, all its cores together."""

    name: str
    flops: float
    """Multiplications and additions a second on the matrix units, of bfloat16."""
    memory: float
    """Bytes of HBM. The compiler keeps some of them for itself."""
    bandwidth: float
    """Bytes a second between HBM and the cores."""
    interconnect: float
    """Bytes a second that it sends when all its links are busy: half of what is told as bidirectional."""
    cores: str
    """The compiler's name of how its cores are seen: two as one device ("megacore"), or the one it has ("default")."""
    sides: int
    """Of a slice: two where chips lie in a plane, three where they fill a room."""


GIB = 2.0**30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", flops=275e12, memory=32 * GIB, bandwidth=1200e9, interconnect=300e9, cores="megacore", sides=3),
        Chip("v5e", flops=197e12, memory=16 * GIB, bandwidth=819e9, interconnect=200e9, cores="default", sides=2),
        Chip("v5p", flops=459e12, memory=95 * GIB, bandwidth=2765e9, interconnect=600e9, cores="megacore", sides=3),
        Chip("v6e", flops=918e12, memory=32 * GIB, bandwidth=1640e9, interconnect=400e9, cores="default", sides=2),
    )
}
