"""What the machine can do at most, as XLA does it: how fast weights are read, and how fast matrices are multiplied.

    python benchmarks/limits.py [--rounds 10]

A matrix-vector product reads each weight once and does next to nothing with it, as each step of one image's caption
does; on a CPU, where XLA gives it one core, the matrix is shared out among all cores. A product of two large matrices
reads each number many times. Both in float32; told are the best rounds.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
from rows import Rows, cores

TABLE = "The limit"
# Of weights 134 MB, more than the decoder of generation.py has; of the product 137 GFLOP.
ROWS, COLUMNS, SIZE = 8192, 4096, 4096


def best(run: Callable[[], object], rounds: int) -> float:
    """The least seconds."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the machine can do at most.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="a file for the results as data")
    asked = parser.parse_args()
    rows = Rows(asked.json)
    device = jax.devices()[0]
    rows.note(f"jax {jax.__version__} on {device.device_kind}")

    product = jax.jit(jnp.matmul)
    lanes = cores() if device.platform == "cpu" else 1
    shares, vector = [jnp.ones((ROWS // lanes, COLUMNS)) for _ in range(lanes)], jnp.ones(COLUMNS)
    with ThreadPoolExecutor(lanes) as pool:
        read = lambda: list(pool.map(lambda share: product(share, vector).block_until_ready(), shares))  # noqa: E731
        speed = sum(share.nbytes for share in shares) / best(read, asked.rounds) / 1e9
    square = jnp.ones((SIZE, SIZE))
    work = 2 * SIZE**3 / best(lambda: product(square, square).block_until_ready(), asked.rounds) / 1e9

    print(f"reading weights {speed:8.1f} GB/s\nmatrix products {work:8.1f} GFLOP/s")
    rows.row(TABLE, f"reading weights, {ROWS} x {COLUMNS} times a vector", device.device_kind, {"GB/s": speed})
    rows.row(TABLE, f"multiplying matrices of {SIZE} x {SIZE}", device.device_kind, {"GFLOP/s": work})


if __name__ == "__main__":
    main()
