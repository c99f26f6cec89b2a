"""Reading goes one batch ahead, and no further."""

import threading
import time

import pytest

from captioner_jax.data.ahead import read_ahead


def test_what_is_read_comes_in_order_and_batches():
    found = list(read_ahead(iter("abcdefg"), 3, str.upper))
    assert found == [[("a", "A"), ("b", "B"), ("c", "C")], [("d", "D"), ("e", "E"), ("f", "F")], [("g", "G")]]
    assert list(read_ahead([], 3, str.upper)) == []


def test_one_batch_is_read_while_another_is_in_use_and_no_more():
    taken, sixth_is_read = [], threading.Event()
    batches = read_ahead((taken.append(i) or i for i in range(100)), 3, lambda i: sixth_is_read.set() if i == 5 else i)
    next(batches)
    assert sixth_is_read.wait(10)
    assert taken == [0, 1, 2, 3, 4, 5]


def test_what_goes_wrong_comes_with_its_batch():
    batches = read_ahead([1, 2, 0, 4], 2, lambda x: 4 // x)
    assert next(batches) == [(1, 4), (2, 2)]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_whoever_leaves_off_waits_for_nothing_and_nothing_more_is_read():
    go_on, begun = threading.Event(), []

    def read(i):
        begun.append(i)
        return i < 200 or go_on.wait(60)

    batches = read_ahead(range(10_000), 200, read)
    next(batches)
    start = time.monotonic()
    batches.close()  # with a batch that waits
    assert time.monotonic() - start < 30
    go_on.set()
    time.sleep(0.2)
    assert len(begun) <= 200 + 32  # no more than have a thread each
