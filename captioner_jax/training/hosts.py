"""Several processes that train together, as a rule one on each host: each reads its share of the data, one writes.

They meet by `jax.distributed`; what they compute together goes over `training.placement`.
"""

import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from captioner_jax.config import DevicesConfig
from captioner_jax.data.pipeline import HostShare
from captioner_jax.errors import INTERRUPTED, RESTART, UserError
from captioner_jax.training.preemption import start_again_if_terminated, terminated_by_hanging_up

Tree = TypeVar("Tree")
# Seconds for all hosts to come in.
PATIENCE = 300


@contextlib.contextmanager
def together(devices: DevicesConfig) -> Iterator[None]:
    """Waits for the others to come; for one process alone, nothing. Only the first one's output is shown.

    Whatever ends one host ends it at once, with a message: the others, which would wait for it, find its connections
    closed and end likewise. Raises UserError where it is not clear who the others are.
    """
    who = devices.coordinator, devices.processes, devices.process
    if devices.hosts == "told" and None in who:
        raise UserError("devices.hosts: told needs --devices.coordinator, --devices.processes and --devices.process")
    if devices.coordinator is not None and not devices.coordinator.rpartition(":")[2].isdecimal():
        raise UserError(f"devices.coordinator: {devices.coordinator!r} lacks a port: ADDRESS:1234")
    if devices.hosts != "told" and who != (None, None, None):
        raise UserError("devices.coordinator, processes and process are for --devices.hosts told")
    if devices.hosts == "one":
        with start_again_if_terminated(), terminated_by_hanging_up():
            yield
        return
    _meet(*who)
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(sys.stdout if is_first() else nowhere),
            terminated_by_hanging_up(),
        ):
            yield
    except UserError as error:
        _leave(f"error: {error}", error.code)
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED)
    except Exception as error:
        traceback.print_exc()
        _leave(
            f"error: host {jax.process_index()} cannot go on with the others: {error}\n"
            "All checkpoints are unharmed: start all hosts again with --resume.",
            RESTART,
        )


def _meet(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """JAX finds out what is None. Where the others do not come, this ends before JAX breaks off the program."""
    print(f"waiting up to {PATIENCE} s for the other hosts", file=sys.stderr, flush=True)
    late = f"error: the other hosts have not come within {PATIENCE} s: start all of them again"
    timer = threading.Timer(PATIENCE, _leave, (late, RESTART))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=2 * PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"devices.hosts: the others are not found: {error}") from error
    finally:
        timer.cancel()


def _leave(message: str, code: int) -> None:
    """Without JAX's farewell, which waits for all hosts."""
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def is_first() -> bool:
    """Is this the host that writes?"""
    return jax.process_index() == 0


def number() -> int:
    """Which of the hosts this is, from 0."""
    return jax.process_index()


def share() -> HostShare:
    """The rows of each batch that this host reads."""
    return HostShare(jax.process_index(), jax.process_count())


@contextlib.contextmanager
def first_alone(what: str) -> Iterator[None]:
    """The first host does it while the others wait; then they, who find its files where they share a file system."""
    if not is_first():
        wait(what)
    yield
    if is_first():
        wait(what)


def wait(what: str) -> None:
    """Until all hosts have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def agreed(value: float) -> float:
    """The first host's, so that all decide alike."""
    return float(of_first(np.float32(value))) if jax.process_count() > 1 else value


def json_of_first(value: Any) -> Any:
    """What JSON can hold: the first host's, on all."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(of_first(np.asarray(text.size)))
    return json.loads(bytes(np.asarray(of_first(np.resize(text, size)))))


def of_each(value: np.ndarray) -> np.ndarray:
    """Every host's, in their order, on all."""
    return np.asarray(multihost_utils.process_allgather(value)) if jax.process_count() > 1 else value[None]


def of_first(arrays: Tree) -> Tree:
    """The first host's, on all."""
    return multihost_utils.broadcast_one_to_all(arrays) if jax.process_count() > 1 else arrays
