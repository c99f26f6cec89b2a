"""What an accelerator has held at most."""

from collections.abc import Callable

import jax


def peak_memory() -> Callable[[], float] | None:
    """A function that tells it in MiB; None where JAX does not count it, as on CPUs."""
    device = jax.devices()[0]
    if device.memory_stats() is None:
        return None
    return lambda: device.memory_stats()["peak_bytes_in_use"] / 2**20
