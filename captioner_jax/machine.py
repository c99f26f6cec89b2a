"""What a machine has, as far as can be known before JAX is imported, and how its CPU's memory is had."""

import ctypes
import sys
from pathlib import Path

# Of glibc's mallopt, by malloc.h: one heap (M_ARENA_MAX), from which large blocks are taken too (M_MMAP_MAX), which
# grows by 64 MB (M_TOP_PAD) and gives back what is free above 2 GB (M_TRIM_THRESHOLD).
MALLOC = {-8: 1, -4: 0, -2: 2**26, -1: 2**31 - 1}


def has_tpus(devices: Path) -> bool:
    """Whether chips are among a machine's devices: accel0 ... up to v4, vfio/0 ... from v5e on."""
    return any(devices.glob("accel*")) or any(devices.glob("vfio/[0-9]*"))


def has_gpus(devices: Path) -> bool:
    """Whether NVIDIA's or AMD's are among a machine's devices."""
    return any(devices.glob("nvidia[0-9]*")) or (devices / "kfd").exists()


def keep_freed_memory() -> None:
    """What a step has freed is there for the next one, where steps are computed on the CPU and glibc has the memory.

    Otherwise glibc gives large blocks back to the system, which clears their pages anew for each step
    (docs/speed.md#memory). To be called before anything that has threads is imported: how many heaps there may be is
    settled when the first thread wants its own.
    """
    if sys.platform != "linux" or has_tpus(Path("/dev")) or has_gpus(Path("/dev")):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in MALLOC.items():
            mallopt(option, value)
