"""Which of JAX's platforms a program asks for."""

import importlib.util
import os
from pathlib import Path

import jax


def leave_out_absent_tpus() -> None:
    """Asks for the CPU alone where nothing else can be there.

    JAX loads libtpu wherever it is installed, for `train.py --plan` say, and libtpu complains where there is no TPU.
    """
    is_installed = lambda name: importlib.util.find_spec(name) is not None  # noqa: E731
    others_are_asked_for = "JAX_PLATFORMS" in os.environ or is_installed("jax_plugins")  # of GPUs and the like
    if is_installed("libtpu") and not others_are_asked_for and not has_tpus(Path("/dev")):
        jax.config.update("jax_platforms", "cpu")


def has_tpus(devices: Path) -> bool:
    """Whether chips are among a machine's devices: accel0 ... up to v4, vfio/0 ... from v5e on."""
    return any(devices.glob("accel*")) or any(devices.glob("vfio/[0-9]*"))
