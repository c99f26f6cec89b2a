"""Batches read by threads while the one before them is in use."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(items: Iterable[Item], rows: int, read: Callable[[Item], Read]) -> Iterator[list[tuple[Item, Read]]]:
    """Up to `rows` items at a time, each with what is read of it, in order; the next ones are being read meanwhile.

    What `read` raises comes when its batch is asked for.
    """
    rest, ahead = iter(items), collections.deque[list[tuple[Item, Future[Read]]]]()
    pool = ThreadPoolExecutor()
    try:
        while some := list(itertools.islice(rest, rows)):
            ahead.append([(item, pool.submit(read, item)) for item in some])
            if len(ahead) > 1:
                yield [(item, future.result()) for item, future in ahead.popleft()]
        for last in ahead:
            yield [(item, future.result()) for item, future in last]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # whoever leaves off waits for nothing
