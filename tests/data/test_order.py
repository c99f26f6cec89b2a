"""Every epoch holds every image once, in whatever order."""

import functools
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from captioner_jax.data import order as orders
from captioner_jax.data.order import ShardByShard, mixed

SHARDS = [f"{i % 7}.tar" for i in range(200)] + ["alone.tar"]
IMAGES = len(SHARDS)
ORDERS = [mixed(IMAGES, 3), ShardByShard(SHARDS, 1, 3), ShardByShard(SHARDS, 3, 3), ShardByShard(SHARDS, 99, 3)]


def epoch(order, number):
    return [int(order[place]) for place in range(number * IMAGES, (number + 1) * IMAGES)]


@pytest.mark.parametrize("order", ORDERS)
def test_each_epoch_holds_every_image_once_and_is_another(order):
    epochs = [epoch(order, number) for number in range(3)]
    assert all(sorted(images) == list(range(IMAGES)) for images in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epoch(pickle.loads(pickle.dumps(order)), 1) == epochs[1]


@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
def test_no_more_than_the_asked_shards_are_read_at_a_time(at_once):
    order = ShardByShard(SHARDS, at_once, 0)
    for number in range(4):
        of_place = np.asarray([SHARDS[image] for image in epoch(order, number)])
        first, last = ({shard: places[i] for shard, places in _places(of_place).items()} for i in (0, -1))
        open_shards = [sum(first[s] <= place <= last[s] for s in first) for place in range(IMAGES)]
        assert max(open_shards) <= at_once


def _places(of_place):
    return {shard: np.flatnonzero(of_place == shard) for shard in set(of_place)}


def test_the_shards_that_meet_change_with_the_epoch():
    order = ShardByShard(SHARDS, 2, 0)
    assert len({frozenset(SHARDS[image] for image in epoch(order, number)[:10]) for number in range(8)}) > 2


def test_threads_that_read_an_epoch_together_work_it_out_once(monkeypatch):
    permuted, order = [], ShardByShard(SHARDS, 2, 5)

    def slow(order, number):
        time.sleep(0.05)
        permuted.append(number)
        return np.arange(IMAGES)

    monkeypatch.setattr(orders, "_epoch", functools.lru_cache(slow))
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(order.__getitem__, range(8))] == [*range(8)]
    assert permuted == [0]


@pytest.mark.parametrize("order", [lambda seed: mixed(50, seed), lambda seed: ShardByShard(SHARDS[:50], 2, seed)])
def test_another_seed_is_another_order(order):
    one, other = ([int(order(seed)[i]) for i in range(50)] for seed in (0, 1))
    assert one != other
