"""Batches are a function of seed and step, whatever reads them."""

import dataclasses
import errno
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner_jax.config import DataConfig, TrainConfig
from captioner_jax.data.folder import load
from captioner_jax.data.image_files import Folder
from captioner_jax.data.images import open_image, to_square
from captioner_jax.data.order import mixed
from captioner_jax.data.pictures import Cache, scaled, side
from captioner_jax.data.pipeline import (
    ALONE,
    HostShare,
    check_batches,
    check_captions,
    check_words,
    evaluation_batches,
    training_batches,
)
from captioner_jax.data.plan import Plan, draw_captions
from captioner_jax.data.source import Example, Source
from captioner_jax.data.told import Told
from captioner_jax.errors import OutageError, UserError
from captioner_jax.text.special import END, PAD
from captioner_jax.text.tokenizer import Tokenizer
from tests.data.making import colour_folder

TRAIN = TrainConfig(batch_size=4, seed=1)


@pytest.fixture
def folder(tmp_path):
    return colour_folder(tmp_path / "data")


def batches(root, count, **settings):
    return list(itertools.islice(endless(root, **settings), count))


def endless(root, first=0, train=TRAIN, share=ALONE, **settings):
    settings = {"max_length": 6, "crop": 0.6, "flip": True, "jitter": 0.2, "randaugment": 5.0} | settings
    config = DataConfig(source="folder", path=str(root), image_size=16, **settings)
    data = load(config)
    captions = list(data.train.captions())
    told = Told.of(captions, Tokenizer.train(captions, config))
    return training_batches(data.train, told, config, train, first=first, share=share)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_seed_decides_everything(folder):
    one, again = batches(folder, 8), batches(folder, 8)
    other = batches(folder, 8, train=TrainConfig(batch_size=4, seed=2))
    assert all(map(same, one, again))
    assert not any(map(same, one, other))


def test_a_resumed_run_sees_the_very_next_batch(folder):
    whole = batches(folder, 15)
    for first in (1, 6, 13):
        assert all(map(same, whole[first:], batches(folder, 15 - first, first=first)))


def test_workers_change_nothing(folder):
    assert all(map(same, batches(folder, 8), batches(folder, 8, workers=2)))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_each_batch_without_overlap_or_loss(folder, hosts):
    whole = batches(folder, 8)
    shares = [batches(folder, 8, share=HostShare(host, hosts)) for host in range(hosts)]
    for number, batch in enumerate(whole):
        for host in range(hosts):
            rows = [array[host::hosts] for array in batch]
            assert same(rows, shares[host][number])


def test_a_batch_that_hosts_cannot_share_is_refused(folder):
    with pytest.raises(UserError, match="4 images do not divide among 3 hosts"):
        batches(folder, 1, share=HostShare(0, 3))


@pytest.mark.parametrize("framing", ["middle", "whole"])
def test_what_is_scored_is_shown_as_it_is_framed(folder, framing):
    for number, file in enumerate(sorted(folder.glob("*.jpg"))):
        Image.linear_gradient("L").rotate(90 + 180 * (number % 2)).resize((60 + number, 20)).save(file)
    config = DataConfig(source="folder", path=str(folder), image_size=16, framing=framing)
    source = load(config).train
    ((_, batch),) = evaluation_batches(source, config, Tokenizer.train([("a",)], config), batch_size=len(source))
    squares = [to_square(open_image(example.image, 16), 16, framing) for example in source]
    np.testing.assert_array_equal(batch.images, squares)


def test_an_epoch_holds_every_image_once(folder):
    plain = {"crop": 1.0, "flip": False, "jitter": 0.0, "randaugment": 0.0}
    first, second = (np.concatenate([b.images for b in batches(folder, 6, first=i, **plain)]) for i in (0, 6))
    config = DataConfig(source="folder", path=str(folder), image_size=16)
    squares = [to_square(open_image(example.image, 16), 16, "middle") for example in load(config).train]
    pixels = lambda images: sorted(image.tobytes() for image in images)
    assert pixels(first) == pixels(second) == pixels(squares)
    assert not np.array_equal(first, second)


def test_a_batch_is_as_long_as_its_longest_caption_asks():
    rng = np.random.default_rng(0)
    words = [" ".join("abcdefghij"[: rng.integers(1, 10)]).upper().split() for _ in range(300)]
    captions = [(" ".join(w.lower() for w in some),) for some in words]
    told = Told.of(captions, Tokenizer.train(captions, DataConfig()))
    plan = Plan(told, mixed(300, 0), 8, 1, (4, 7, 12), 0)
    drawn = [plan.batch(i) for i in range(96)]
    for draw in drawn:
        longest = max(told.length(caption) for caption in draw.captions[:, 0])
        assert draw.length == min(length for length in (4, 7, 12) if length >= longest)
    assert len({draw.length for draw in drawn}) == 3
    padding = sum((draw.length - told.length(caption)) for draw in drawn for caption in draw.captions[:, 0])
    assert padding < sum(12 - told.length(caption) for draw in drawn for caption in draw.captions[:, 0]) / 2
    seen = np.bincount(np.concatenate([draw.images for draw in drawn]), minlength=300)
    assert seen.min() >= 96 * 8 // 300
    assert seen.max() <= 96 * 8 // 300 + 1


def test_buckets_change_neither_images_nor_captions_of_an_epoch(folder):
    batch = batches(folder, 3, buckets=(4,), captions_per_image=2)
    assert {b.tokens.shape for b in batch} <= {(4, 2, 5), (4, 2, 7)}
    for b in batch:
        assert (b.tokens[..., 1:] == END).sum((1, 2)).tolist() == [2] * 4


def test_shards_at_once_is_for_shards(folder):
    config = DataConfig(source="folder", path=str(folder), shards_at_once=2)
    with pytest.raises(UserError, match="do not lie in shards"):
        check_batches(load(config).train, config, TRAIN)


def test_the_cache_holds_what_decoding_gives(folder, tmp_path):
    for i in range(0, 30, 3):
        (folder / f"{i:03}.jpg").write_bytes(b"junk")
    damaged = [int(example.name[:3]) % 3 == 0 for example in load(DataConfig("folder", str(folder))).train]
    settings = {"crop": 1.0, "cache": str(tmp_path / "cache")}
    made, plain = batches(folder, 8, **settings), batches(folder, 8, crop=1.0)
    (kept,) = (tmp_path / "cache").iterdir()
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"gone")  # from here on only the cache knows them
    again = batches(folder, 8, **settings)
    assert all(map(same, made, again))
    np.testing.assert_allclose(
        np.concatenate([b.images for b in made]).astype(int),
        np.concatenate([b.images for b in plain]).astype(int),
        atol=3,
    )
    assert [size.prod() == 0 for size in Cache(kept).sizes] == damaged


def test_no_cache_is_made_of_a_disk_that_does_not_answer(folder, tmp_path, monkeypatch):
    """For what is kept is trusted from then on."""
    read, lost = Folder.read, load(DataConfig("folder", str(folder))).train[5].name

    def failing(files, name):
        if name == lost:
            raise OSError(errno.EIO, "Input/output error")
        return read(files, name)

    settings = {"crop": 1.0, "cache": str(tmp_path / "cache")}
    with monkeypatch.context() as broken:
        broken.setattr(Folder, "read", failing)
        with pytest.raises(OutageError, match=f"{lost}: Input/output error: what is kept of images cannot be made"):
            batches(folder, 1, **settings)
    assert not list((tmp_path / "cache").iterdir())
    assert all(batch.usable.all() for batch in batches(folder, 8, **settings))


def test_another_order_is_another_cache(folder, tmp_path):
    """As many images, from the first to the last of before, but two of them have changed places."""
    settings = {"crop": 1.0, "cache": str(tmp_path / "cache")}
    batches(folder, 1, **settings)
    captions = folder / "captions.jsonl"
    swap = {"011.jpg": "012.jpg", "012.jpg": "011.jpg"}
    captions.write_text(re.sub("|".join(swap), lambda name: swap[name[0]], captions.read_text()))
    batches(folder, 1, **settings)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_cached_picture_is_as_large_as_the_smallest_crop_needs():
    image = Image.new("RGB", (300, 200))
    assert scaled(image, side(DataConfig(image_size=50, crop=0.25))).size == (150, 100)
    assert scaled(image, 400).size == (300, 200)


def test_a_cache_that_cannot_be_kept_is_said(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache"):
        batches(folder, 1, cache=str(tmp_path / "file"))


def test_a_damaged_image_weighs_nothing_and_is_named_once(folder, caplog):
    for i in range(30):
        if i % 3 == 0:
            (folder / f"{i:03}.jpg").write_bytes(b"junk")
    found = batches(folder, 12)
    for batch in found:
        assert (batch.tokens[~batch.usable] == PAD).all()
        assert (batch.tokens[batch.usable] != PAD).any(-1).all()
    assert sum((~b.usable).sum() for b in found) > 0
    named = [record.getMessage().split(":")[0] for record in caplog.records]
    assert len(named) == len(set(named)) > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_the_run_if_asked(folder, workers):
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"junk")
    with pytest.raises(UserError, match=r"--data\.on-error skip"):
        batches(folder, 1, on_error="stop", workers=workers)


def test_too_few_images_for_a_batch_is_said(folder):
    config = DataConfig(source="folder", path=str(folder))
    with pytest.raises(UserError, match=r"--train\.batch-size"):
        check_batches(load(config).train, config, TrainConfig(batch_size=64))


def test_captions_are_drawn_without_repeating_before_all_were():
    told = Told.of([("x",), ("a", "b", "c"), ("a b", "c d")], Tokenizer.train([("a b c d x",)], DataConfig()))
    rng = np.random.default_rng(0)
    assert sorted(draw_captions(told, 1, 3, rng)) == [1, 2, 3]
    assert sorted(draw_captions(told, 2, 4, rng)) == [4, 4, 5, 5]
    first = [draw_captions(told, 2, 1, rng)[0] for _ in range(200)]
    assert 60 < first.count(4) < 140


def test_left_and_right_forbid_the_mirror(folder):
    lines = [{"image": f"{i:03}.jpg", "caption": f"a dog on the {'left' if i % 2 else 'top'}"} for i in range(30)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    half = Image.new("RGB", (20, 20))
    half.paste((255, 255, 255), (0, 0, 10, 20))
    for i in range(30):
        half.save(folder / f"{i:03}.jpg")
    found = batches(folder, 30, crop=1.0, jitter=0.0, randaugment=0.0)
    mirrored = np.concatenate([b.images[:, 0, 0, 0] < 128 for b in found])
    sided = np.concatenate([b.tokens[:, 0, 5] for b in found])
    for word in set(sided):
        assert mirrored[sided == word].mean() == 0 or 0.3 < mirrored[sided == word].mean() < 0.7
    assert 0 < mirrored.mean() < 0.5


def test_where_all_captions_count_one_that_tells_sides_forbids_the_mirror(folder):
    lines = [{"image": f"{i:03}.jpg", "caption": caption} for i in range(30) for caption in ("a dog", "a dog left")]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    half = Image.new("RGB", (20, 20))
    half.paste((255, 255, 255), (0, 0, 10, 20))
    for i in range(30):
        half.save(folder / f"{i:03}.jpg")
    plain = {"crop": 1.0, "jitter": 0.0, "randaugment": 0.0, "buckets": (4,)}
    rewarded = dataclasses.replace(TRAIN, objective="self_critical")
    for train, expected in ((TRAIN, True), (rewarded, False)):
        found = batches(folder, 20, train=train, **plain)
        assert any((b.images[:, 0, 0, 0] < 128).any() for b in found) == expected
        assert any(b.tokens.shape[-1] == 5 for b in found) == expected


class Bare(Source):
    """Its second image has no captions."""

    def __len__(self):
        return 2

    def read(self, i):
        return Example(f"{i}.jpg", b"", () if i else ("a red wall",))


def test_an_image_without_captions_is_named(folder):
    tokenizer = Tokenizer.train([("a red wall",)], DataConfig())
    with pytest.raises(UserError, match="image 1 of the training split has no captions"):
        Told.of([("a red wall",), ()], tokenizer)
    with pytest.raises(UserError, match=r"1\.jpg has no captions"):
        next(evaluation_batches(Bare(), DataConfig(image_size=16), tokenizer, batch_size=2))
    with pytest.raises(UserError, match=r"1\.jpg \(test\) has no captions"):
        check_captions({"validation": load(DataConfig(source="folder", path=str(folder))).train, "test": Bare()})


@pytest.mark.slow
def test_workers_end_with_the_run_and_not_before(folder):
    """A signal to all processes of a run is for the run; where that is killed, nothing of it stays."""
    program = f"""
import multiprocessing, os, signal
from tests.data.test_pipeline import endless
if __name__ == "__main__":
    read = endless({str(folder)!r}, workers=1)
    next(read)
    (worker,) = [one.pid for one in multiprocessing.active_children()]
    os.kill(worker, signal.SIGTERM)
    os.kill(worker, signal.SIGINT)
    for _ in range(20):
        next(read)
    print(worker, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    worker = int(ended.stdout)
    end = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


def test_the_last_evaluation_batch_is_filled_with_nothing(folder):
    config = DataConfig(source="folder", path=str(folder), image_size=16, max_length=6)
    data = load(config)
    tokenizer = Tokenizer.train(data.train.captions(), config)
    (_, whole), (examples, last) = evaluation_batches(data.train, config, tokenizer, batch_size=20)
    assert whole.images.shape == last.images.shape
    assert last.usable.tolist() == [True] * len(examples) + [False] * (20 - len(examples))


@pytest.mark.parametrize("most_come_last", [False, True])
def test_all_captions_of_each_image_are_scored(folder, most_come_last):
    lines = [{"image": f"{i:03}.jpg", "caption": f"a wall {n}"} for i in range(9) for n in range(1 + 2 * (i % 3))]
    lines = sorted(lines, key=lambda line: int(line["image"][:3]) % 3, reverse=not most_come_last)
    lines = [
        line | {"split": "val" if line["image"] == "008.jpg" else "train"} for line in lines
    ]  # which keep the order
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = DataConfig(source="folder", path=str(folder), image_size=16, max_length=6)
    source = load(config).train
    tokenizer = Tokenizer.train(source.captions(), config)
    scored = [row for _, batch in evaluation_batches(source, config, tokenizer, batch_size=4) for row in batch.tokens]
    assert len(next(source.captions())) == (1 if most_come_last else 5)
    told = [tuple(tokenizer.decode(ids[1:]) for ids in row if ids[1] != PAD) for row in scored]
    assert told[: len(source)] == list(source.captions())


def test_another_seed_and_another_batch_draw_other_captions():
    captions = [tuple(f"a b {letter}" for letter in "cdefgh")] * 8
    told = Told.of(captions, Tokenizer.train(captions, DataConfig()))
    plans = [Plan(told, np.arange(10**5) % 8, 8, 1, (6,), seed) for seed in (0, 1)]
    drawn = {tuple(plan.batch(number).captions[:, 0] % 6) for plan in plans for number in range(6)}
    assert len(drawn) == 12


def test_no_two_rows_batches_or_seeds_are_changed_alike(folder):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    for file in folder.glob("*.jpg"):
        noise.save(file, quality=95)
    shown = [image.tobytes() for batch in batches(folder, 6) for image in batch.images]
    assert len(set(shown)) == 24
    others = batches(folder, 6, train=dataclasses.replace(TRAIN, seed=2))
    assert not {*shown} & {image.tobytes() for batch in others for image in batch.images}


def test_captions_and_changes_of_images_are_drawn_apart(folder, monkeypatch):
    drawn, make = [], np.random.default_rng

    def noted(seed):
        drawn.append(make(seed).random())
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", noted)
    batches(folder, 6, train=dataclasses.replace(TRAIN, seed=17))  # which no other test has drawn for
    assert len(set(drawn)) == len(drawn) >= 4 + 24


def test_one_of_several_captions_that_tells_sides_forbids_the_mirror(folder):
    half = Image.new("RGB", (20, 20))
    half.paste((255, 255, 255), (0, 0, 10, 20))
    files = sorted(folder.glob("*.jpg"))
    for file in files:
        half.save(file)
    lines = [{"image": file.name, "caption": caption} for file in files for caption in ("a dog", "a dog left")]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = batches(folder, 20, captions_per_image=2, crop=1.0, jitter=0.0, randaugment=0.0)
    assert not any((batch.images[:, 0, 0, 0] < 128).any() for batch in found)


def test_what_tells_sides():
    said = ["On the Left.", "the RIGHTMOST dog", "to its right", "a bright uprightness", "they destroy a castle"]
    others = ["ein Hund links", "à gauche", "a la derecha", "左边的狗"]
    told = Told.of([said, others], Tokenizer.train([said], DataConfig()))
    assert told.sided.tolist() == [True, True, True, False, False, *[True] * 4]


def test_how_much_of_captions_the_vocabulary_has():
    tokenizer = Tokenizer.train([("a dog runs",)], DataConfig())
    told = Told.of([("a dog", "a cat runs"), ("dog",)], tokenizer)
    assert told.unknown == 1 / 6
    assert [told.cut(length) for length in (1, 2, 3, 4)] == [1.0, 2 / 3, 1 / 3, 0.0]
    check_words(told)
    with pytest.raises(UserError, match=r"no word of the training captions: lower data\.min_count"):
        check_words(Told.of([("le chat", "le chien")], tokenizer))


def test_evaluation_shows_each_image_under_its_own_number(folder):
    config = DataConfig(source="folder", path=str(folder), image_size=16, max_length=6)
    source = load(config).train
    tokenizer = Tokenizer.train(source.captions(), config)
    found = list(evaluation_batches(source, config, tokenizer, batch_size=7))
    assert [int(n) for _, batch in found for n in batch.numbers[batch.usable]] == list(range(len(source)))


def test_another_crop_or_folder_is_another_cache(tmp_path):
    one, other = colour_folder(tmp_path / "one"), colour_folder(tmp_path / "other")
    for caches, (root, crop) in enumerate([(one, 1.0), (one, 0.3), (other, 0.3)], start=1):
        batches(root, 1, crop=crop, cache=str(tmp_path / "cache"))
        assert len(list((tmp_path / "cache").iterdir())) == caches
