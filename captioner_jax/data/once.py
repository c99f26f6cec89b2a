"""A cache for functions that threads ask for the same thing together."""

import functools
import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

Value = TypeVar("Value")


def computed_once(most: int) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """As `functools.lru_cache`, by which threads that come together would each compute it; here they wait for one."""

    def decorate(function: Callable[..., Value]) -> Callable[..., Value]:
        cached, one_at_a_time = functools.lru_cache(maxsize=most)(function), threading.Lock()

        @functools.wraps(function)
        def computed(*asked: Hashable) -> Value:
            with one_at_a_time:
                return cached(*asked)

        return computed

    return decorate
