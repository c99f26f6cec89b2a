"""How long a batch's CIDEr-D takes on the device, and by the official scorer, as training on rewards asks for it.

    pip install pycocoevalcap && python benchmarks/rewards.py --batch 512 --images 5000

Both score the same words in one process, in turn; medians are told. The official scorer is called with the batch, as
self-critical training in Python does each step; ours has the document frequencies of all images prepared, and is called
so often in a row that what Python leaves in the processor's caches does not count.
"""

import argparse
import platform
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rows import Rows
from scores import made, seconds

sys.path.insert(0, str(Path(__file__).parents[1]))
from captioner_jax.evaluation.compiled_cider import CompiledCiderD
from captioner_jax.text.special import PAD

CALLS, BAR = 100, 100  # calls at a time; times as fast, as a goal


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of rewards, on the device and officially.")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--json", type=Path, help="a file for the results as data")
    told = parser.parse_args()
    rows = Rows(told.json)
    if told.batch > told.images:
        parser.error("--batch: there are not so many --images")
    try:
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        rows.leave_out("the official evaluation is not installed here: pip install pycocoevalcap")

    candidates, references = made(told.images)
    numbers: dict[str, int] = {}
    number = lambda words: [numbers.setdefault(word, len(numbers) + 1) for word in words]  # noqa: E731
    start = time.perf_counter()
    scorer = jax.block_until_ready(CompiledCiderD.of([[number(words) for words in some] for some in references]))
    prepared = time.perf_counter() - start
    tokens = np.full((told.batch, 1, max(map(len, candidates))), PAD, np.int32)
    for row, words in zip(tokens[:, 0], candidates, strict=False):
        row[: len(words)] = number(words)
    score, arguments = jax.jit(CompiledCiderD.score), (scorer, jnp.asarray(tokens), jnp.arange(told.batch))
    score(*arguments).block_until_ready()
    result = {i: [" ".join(words)] for i, words in enumerate(candidates[: told.batch])}
    truth = {i: [" ".join(words) for words in captions] for i, captions in enumerate(references[: told.batch])}
    ours = lambda: [score(*arguments).block_until_ready() for _ in range(CALLS)]  # noqa: E731
    official_one = lambda: Cider().compute_score(truth, result)  # noqa: E731
    times = [(seconds(ours) / CALLS, seconds(official_one)) for _ in range(told.repetitions)]
    here, official = (statistics.median(column) for column in zip(*times, strict=True))
    device = jax.devices()[0].device_kind
    rows.note(f"{told.batch} captions, {len(references[0])} references each; median of {told.repetitions}; {device}")
    rows.note(f"Python {platform.python_version()}, JAX {jax.__version__}, NumPy {np.__version__}")
    rows.note(f"prepared once for {told.images} images: {prepared:.1f} s")
    print(f"here {1e3 * here:.1f} ms, {told.batch / here:,.0f} captions/s")
    print(f"official {1e3 * official:.1f} ms, {told.batch / official:,.0f} captions/s; ratio {official / here:.0f}")
    table, task = "Rewards: CIDEr-D", f"{told.batch} captions"
    figures = lambda time: {"ms": 1e3 * time, "captions/s": told.batch / time}  # noqa: E731
    rows.row(table, task, "captioner_jax", figures(here))
    rows.row(table, task, "pycocoevalcap", figures(official), ratio=official / here, at_least=BAR)


if __name__ == "__main__":
    main()
