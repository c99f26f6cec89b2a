"""Every epoch holds every image once, in whatever order."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from captioner_jax.data import order
from captioner_jax.data.order import ShardByShard, mixed
from captioner_jax.data.plan import Plan
from captioner_jax.data.told import Told

SHARDS = [f"{i % 7}.tar" for i in range(200)] + ["alone.tar"]
IMAGES = len(SHARDS)
TOLD = Told(np.zeros(600, np.int32), np.arange(0, 601, 3), np.arange(201), np.zeros(200, bool))
WINDOWS = Plan(TOLD, range(10**6), 4, 1, (2, 3, 4), 7)
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


@pytest.mark.parametrize("of", [order.ShardByShard(SHARDS, 2, 5).__getitem__, WINDOWS.batch])
def test_threads_that_come_together_compute_it_once(of, monkeypatch):
    asked, generator = [], np.random.default_rng

    def slow(seed):
        asked.append(seed)
        time.sleep(0.05)
        return generator(seed)

    monkeypatch.setattr(np.random, "default_rng", slow)
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(of, range(4))]
    assert len(asked) == 1


@pytest.mark.parametrize("order", [lambda seed: mixed(50, seed), lambda seed: ShardByShard(SHARDS[:50], 2, seed)])
def test_another_seed_is_another_order(order):
    one, other = ([int(order(seed)[i]) for i in range(50)] for seed in (0, 1))
    assert one != other
