"""How a contender is asked: a process of its own, which reads what to do from standard input and answers with seconds.

Each answer is a line of JSON. What a task needs (compiling, caches) is done before the first time it is measured.
"""

import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """`encode` images; `decode` captions of as many, greedily (one beam) or by beam search; or do the `whole` of it."""

    part: str
    images: int
    beams: int = 1


# What all do but those with a whole published captioner: ResNet-50 on 224x224, then six decoder layers over its 7x7
# cells; captions are 20 tokens long.
SIDE, CELLS, WIDTH, HEADS, FEED_FORWARD, LAYERS, VOCABULARY, TOKENS = 224, 49, 512, 8, 2048, 6, 10_000, 20


def serve(
    about: object, prepare: Callable[[Task], Callable[[], object]], memory: Callable[[], float] | None = None
) -> None:
    """Tells about itself, then answers tasks until standard input ends. `prepare` makes a task's run, which blocks.

    `memory` is what an accelerator has held at most, in MiB; without it, what the process has.
    """
    prepare = functools.cache(prepare)
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        run = prepare(Task(*json.loads(line)))
        start, cpu = time.perf_counter(), time.process_time()
        run()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps([seconds, cpu, (memory or resident)()]), flush=True)


def resident() -> float:
    """The most memory that this process has had, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10  # bytes there, KiB here
