"""Tar shards in the WebDataset layout, whole and damaged."""

import io
import json
import os
import pickle
import tarfile

import pytest

from captioner_jax.config import DataConfig
from captioner_jax.data import remembered, shards
from captioner_jax.data.load import load
from captioner_jax.errors import UserError
from tests.data.making import encoded, picture


def png(i):
    return encoded(picture((i, 100, i)))


def write(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def example(i, stem="{:05}"):
    stem = stem.format(i)
    return [(f"{stem}.png", png(i)), (f"{stem}.txt", f"a picture\tof {i}\n\n一只猫 🐈 {i}\n".encode())]


def read(root, **settings):
    return load(DataConfig(source="shards", path=str(root), **settings))


def everything(data):
    return {e.name: (e.image, e.captions) for source in data.splits.values() for e in source}


def expected(i):
    return png(i), (f"a picture of {i}", f"一只猫 🐈 {i}")


def test_members_of_one_stem_are_one_example(tmp_path):
    for shard in range(3):
        write(tmp_path / f"{shard:06}.tar", [m for i in range(4) for m in example(4 * shard + i, "some dir/a b {}")])
    data = read(tmp_path, held_out=0.25)
    assert [len(source) for source in data.splits.values()] == [6, 3, 3]
    assert everything(data) == {f"{i // 4:06}.tar/some dir/a b {i}": expected(i) for i in range(12)}
    assert not data.problems
    assert everything(read(tmp_path, held_out=0.25)) == everything(data)
    assert "3 images drawn" in data.about


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ({"caption": "a dog"}, ("a dog",)),
        ({"caption": ["a dog", " "]}, ("a dog",)),
        ({"captions": ["a\ndog", "the “dog”"]}, ("a dog", "the “dog”")),
        ({"width": 3}, ("from the text",)),
    ],
)
def test_captions_in_json_come_before_those_in_txt(tmp_path, content, captions):
    for i in range(3):
        told = [(f"{i}.json", json.dumps(content).encode()), (f"{i}.txt", b"from the text"), (f"{i}.cls", b"7")]
        write(tmp_path / f"{['train', 'val', 'test'][i]}.tar", [(f"{i}.0.seg.png", b""), (f"{i}.JPG", png(i)), *told])
    assert [e.captions for source in read(tmp_path).splits.values() for e in source] == [captions] * 3


@pytest.mark.parametrize(
    "shards",
    [
        ("train/0.tar", "validation/0.tar", "test/0.tar"),
        ("Train-0.tar", "val_0.tar", "test.0.tar"),
        ("a/train0.tar", "b/dev/0.tar", "test/training.tar"),
        ("training-0.TAR", "validation/0.tar", "testing/0.tar"),
    ],
)
def test_splits_by_folder_or_name(tmp_path, shards):
    for i, shard in enumerate(shards):
        write(tmp_path / shard, example(i))
    assert [[e.image for e in source] for source in read(tmp_path).splits.values()] == [[png(0)], [png(1)], [png(2)]]


def test_shards_in_folders_that_are_links_are_found_once(tmp_path):
    write(tmp_path / "far" / "train-0.tar", example(0))
    here = tmp_path / "here"
    write(here / "val-0.tar", example(1))
    write(here / "test-0.tar", example(2))
    (here / "train").symlink_to(tmp_path / "far")
    (here / "train-again").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(here)
    data = read(here)
    assert [[e.name for e in source] for source in data.splits.values()] == [
        ["train/train-0.tar/00000"],
        ["val-0.tar/00001"],
        ["test-0.tar/00002"],
    ]


def test_a_shard_has_its_own_name_whatever_links_lead_to_it(tmp_path):
    write(tmp_path / "m" / "real" / "s.tar", example(0))
    for link, to in (("a", "m/real"), ("z", "m"), ("m/b", "real")):
        (tmp_path / link).symlink_to(tmp_path / "m" / "real" if to == "real" else tmp_path / to)
        assert shards.shard_files(tmp_path) == [tmp_path / "m" / "real" / "s.tar"]


def test_a_member_whose_name_is_no_text_is_named(tmp_path):
    write(tmp_path / "0.tar", [m for i in range(6) for m in example(i)])
    with tarfile.open(tmp_path / "0.tar", "a", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("caf\udce9.png"))
    data = read(tmp_path, held_out=0.2)
    assert ["caf\\udce9.png" in problem for problem in data.problems] == [True]
    assert "no UTF-8" in data.problems[0]


def test_shards_of_some_splits_only_are_refused(tmp_path):
    for shard in ("train-0.tar", "train-1.tar", "test-0.tar"):
        write(tmp_path / shard, example(0))
    with pytest.raises(UserError, match="no shards for validation"):
        read(tmp_path)


def test_shards_for_a_test_may_be_missing(tmp_path):
    for number, shard in enumerate(("train-0.tar", "train-1.tar", "validation-0.tar")):
        write(tmp_path / shard, example(number))
    data = read(tmp_path)
    assert [len(data.train), len(data.validation["validation"]), data.test] == [2, 1, {}]
    assert data.about.endswith("; no image is kept for a test")


def test_mistakes_in_a_shard_are_named_and_the_rest_is_used(tmp_path):
    members = [
        *(("no image.txt", b"a dog"), ("no caption.png", png(1)), ("empty.png", png(2)), ("empty.txt", b" \n")),
        *(("latin.png", png(3)), ("latin.txt", "ein Bär".encode("latin-1"))),
        *(("bad.png", png(3)), ("bad.json", b"{"), ("number.png", png(3)), ("number.json", b'{"caption": 7}')),
        *(("deep.png", png(3)), ("deep.json", b"[" * 100_000), ("._1.png", b"by a Mac"), (".hidden", b"")),
        *(("nul.png", png(3)), ("nul.txt", b"a\0dog"), ("half.png", png(3)), ("half.json", b'{"caption": "\\ud800"}')),
        *(m for i in range(10) for m in example(i, "{}")),
        ("3.png", b"again"),
    ]
    write(tmp_path / "0.tar", members)
    data = read(tmp_path)
    assert everything(data) == {f"0.tar/{i}": expected(i) for i in range(10)}
    assert sorted(problem.partition(" (")[0] for problem in data.problems) == [
        "0.tar/bad: its captions cannot be read",
        "0.tar/deep: its captions cannot be read",
        "0.tar/empty: no captions",
        "0.tar/half: its captions cannot be read",
        "0.tar/latin: its captions cannot be read",
        "0.tar/no caption: no captions",
        "0.tar/no image: no image",
        "0.tar/nul: its captions cannot be read",
        "0.tar/number: its captions cannot be read",
        "0.tar: a member given before; the second is left out",
    ]


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def cut_within_a_caption(path):
    with tarfile.open(path) as archive:
        begin = archive.getmember("15.txt").offset_data
    path.write_bytes(path.read_bytes()[: begin + 4])


def overwritten(path):
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        begin = archive.getmember("15.png").offset
    content[begin : begin + 512] = b"\x07" * 512
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [lambda path: cut(path, 0.7), cut_within_a_caption, overwritten])
def test_of_a_damaged_shard_the_examples_before_the_damage_are_used(tmp_path, damage):
    """A header overwritten in the middle looks to tarfile like the end."""
    write(tmp_path / "0.tar", [m for i in range(20) for m in example(i, "{}")])
    write(tmp_path / "1.tar", [m for i in range(20, 40) for m in example(i, "{}")])
    damage(tmp_path / "0.tar")
    data = read(tmp_path)
    found = everything(data)
    of_damaged = [name for name in found if name.startswith("0.tar")]
    assert 10 <= len(of_damaged) <= 17
    assert {name: found[name] for name in of_damaged} == {f"0.tar/{i}": expected(i) for i in range(len(of_damaged))}
    assert len(found) - len(of_damaged) == 20
    assert [problem for problem in data.problems if problem.startswith("0.tar: the shard is damaged")]


def test_what_is_no_tar_is_named(tmp_path):
    write(tmp_path / "0.tar", [m for i in range(10) for m in example(i)])
    (tmp_path / "1.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "2.tar").write_bytes(b"")
    assert [problem.split(":")[0] for problem in read(tmp_path).problems] == ["1.tar", "2.tar"]


def test_nothing_to_use_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no shards"):
        read(tmp_path)
    write(tmp_path / "0.tar", [("a.png", png(0))])
    with pytest.raises(UserError, match="no image with a caption"):
        read(tmp_path)


def test_shards_go_to_worker_processes(tmp_path):
    write(tmp_path / "0.tar", [m for i in range(10) for m in example(i)])
    data = read(tmp_path)
    assert list(pickle.loads(pickle.dumps(data.train))) == list(data.train)


def test_unchanged_shards_are_listed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "FOLDER", tmp_path / "kept")
    monkeypatch.setattr(remembered, "WORTH", 0.0)
    root = tmp_path / "shards"
    write(root / "0.tar", [m for i in range(10) for m in example(i)])
    write(root / "1.tar", [("alone.png", png(1))])
    first = read(root)
    with monkeypatch.context() as patch:
        patch.delattr(shards, "_list")
        again = read(root)
    assert everything(again) == everything(first)
    assert again.problems == first.problems
    assert [problem.kind for problem in again.problems] == ["no captions"]
    write(root / "1.tar", [m for i in range(10, 20) for m in example(i)])
    assert len(everything(read(root))) == 20


def test_the_shard_of_each_example_is_known(tmp_path):
    for shard in range(3):
        write(tmp_path / f"a.tar/{shard}.tar", [m for i in range(4) for m in example(4 * shard + i)])
    for source in read(tmp_path, held_out=0.25).splits.values():
        assert source.shards() == [f"a.tar/{int(e.name[-5:]) // 4}.tar" for e in source]


def test_a_shard_that_changed_and_is_as_large_is_listed_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "FOLDER", tmp_path / "kept")
    monkeypatch.setattr(remembered, "WORTH", 0.0)
    file = tmp_path / "s" / "0.tar"
    write(file, [member for i in range(10) for member in example(i)])
    before, listed = file.stat(), everything(read(file.parent))
    file.write_bytes(file.read_bytes().replace(b"a picture", b"A Picture"))
    os.utime(file, ns=(before.st_mtime_ns + 10**9,) * 2)
    assert file.stat().st_size == before.st_size
    again = everything(read(file.parent))
    assert again != listed
    assert all("A Picture" in captions[0] for _, captions in again.values())
