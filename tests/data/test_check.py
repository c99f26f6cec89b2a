"""`check` names everything that a long run would stumble over, once, and counts the rest."""

import io
import itertools
import re
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from captioner_jax.config import DataConfig, SplitFiles
from captioner_jax.data import check
from captioner_jax.data.command import main
from captioner_jax.data.images import ImageError, open_image
from tests.data.making import close, colour_folder, encoded, picture


def bomb(side=20_000):
    """A PNG of `side` x `side` pixels of one bit, written without ever holding them."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    squeeze = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    pixels = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    header = side.to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), "JPEG", exif=exif)


def sixteen_bits():
    return encoded(Image.fromarray(np.full((20, 20), 40_000, np.uint16)))


def animation():
    frames = [picture((i, 0, 0)) for i in (0, 100, 200)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


BLACK_AND_WHITE = Image.linear_gradient("L").resize((30, 30))
GOOD = {
    "plain.jpg": encoded(picture((1, 2, 3)), "JPEG"),
    "for print.jpg": encoded(picture(mode="CMYK"), "JPEG"),
    "grey.jpg": encoded(BLACK_AND_WHITE, "JPEG"),
    "deep.png": sixteen_bits(),
    "palette.png": encoded(picture(mode="P")),
    "alpha.png": encoded(Image.new("RGBA", (20, 20), (1, 2, 3, 40))),
    "animated.gif": animation(),
    "one pixel.png": encoded(picture(size=(1, 1))),
    "turned.jpg": turned(),
}
BAD = {
    "cut.jpg": encoded(picture(size=(300, 300)), "JPEG")[:500],
    "cut.png": encoded(picture(size=(300, 300)))[:200],
    "page.jpg": b"<html><body>404 Not Found</body></html>",
    "fake.jpg": b"\xff\xd8\xff\xe0 fake",
    "empty.jpg": b"",
    "bomb.png": bomb(),
}


@pytest.fixture
def folder(tmp_path):
    """All of these, and lines with mistakes."""
    root = tmp_path / "my pictures"
    root.mkdir()
    for name, content in (GOOD | BAD).items():
        (root / name).write_bytes(content)
    (tmp_path / "secret.jpg").write_bytes(GOOD["plain.jpg"])
    rows = [(name, f"a picture, {name}") for name in GOOD | BAD]
    rows += [("plain.jpg", 'it is "plain"\n\tand 很好 🐈'), ("grey.jpg", "a picture, grey.jpg")]
    rows += [("gone.jpg", "a dog"), ("../secret.jpg", "a dog"), (f"{'long' * 100}.jpg", "a dog"), ("plain.jpg", " ")]
    quoted = [[field.replace('"', '""') for field in row] for row in rows]
    text = "image,caption\n" + "".join(f'"{image}","{caption}"\n' for image, caption in quoted)
    (root / "captions.csv").write_bytes(text.encode() + "plain.jpg,ein Bär\n".encode("latin-1"))
    return root


def found(root, workers=0, **settings):
    return check.check(DataConfig(**{"source": "folder", "path": str(root), "held_out": 0.2} | settings), workers)


def where(problems):
    return sorted(problem.partition(":")[0] for problem in problems)


def test_what_cannot_be_used_is_named_and_nothing_else_is(folder):
    findings = found(folder)
    long = f"{'long' * 100}.jpg"
    first = len(GOOD) + len(BAD) + 2  # the header's line is 1
    lines = [f"captions.csv line {number}" for number in (first + 6, first + 7)]
    assert where(findings.unusable) == sorted([*BAD, "gone.jpg", "../secret.jpg", long, *lines])
    (bomb,) = (problem for problem in findings.unusable if problem.startswith("bomb"))
    assert "179 million pixels" in bomb


def test_a_folder_that_may_not_be_read_is_left_out_of_a_guess(folder, monkeypatch):
    (folder / "closed").mkdir()
    close(folder / "closed", monkeypatch)
    assert check.guess(folder) == "folder"


def test_so_many_processes_as_there_cannot_be_are_refused(folder, capsys):
    assert main(["check", str(folder), "--workers", "-3"]) == 1
    assert "error: --workers -3" in capsys.readouterr().err


def test_every_kind_of_image_is_counted(folder):
    assert found(folder).kinds == {
        **{"JPEG RGB": 2, "JPEG CMYK": 1, "JPEG L": 1, "PNG I;16": 1, "PNG P": 1, "PNG RGBA": 1, "GIF P": 1},
        **{"PNG RGB": 1, "animated; the first frame is taken": 1, "transparent; laid over white": 1},
        **{"turned upright by EXIF": 1, "a side below 16 pixels": 1},
    }


def test_splits_captions_and_words_are_counted(folder):
    rows = {row.split: row for row in found(folder).rows}
    assert [rows[split].images for split in ("train", "validation", "test")] == [9, 3, 3]
    assert sum(row.captions for row in rows.values()) == len(GOOD | BAD) + 2
    assert min(row.least for row in rows.values()) == 4
    assert max(row.most for row in rows.values()) == 5


def test_repeated_captions_and_images_are_worth_knowing(folder):
    colour_folder(folder)
    (folder / "captions.csv").unlink()
    for split, names in {"train": range(20), "validation": range(20, 25), "test": range(25, 30)}.items():
        (folder / f"{split}.txt").write_text("".join(f"{i:03}.jpg\n" for i in names))
    for copy in (1, 27):
        (folder / f"{copy:03}.jpg").write_bytes((folder / "000.jpg").read_bytes())
    with open(folder / "captions.jsonl", "a") as file:
        file.write('{"image": "022.jpg", "caption": "the wall  is green"}\n')
    findings = found(folder, splits=SplitFiles("train.txt", "validation.txt", "test.txt"))
    assert not findings.unusable
    kinds = [problem.kind for problem in findings.remarkable]
    assert "LEAK: the same image in train and test" in kinds
    assert where(p for p in findings.remarkable if "LEAK" in p) == ["000.jpg, 001.jpg, 027.jpg"]


def test_processes_find_the_same(folder):
    alone, together = found(folder), found(folder, workers=2)
    assert alone == together


def test_a_bomb_is_refused_by_its_size_alone():
    """Decoded, it would take 50 MB as bits and 1.2 GB in RGB."""
    data = bomb()
    assert Image.open(io.BytesIO(bomb(160))).size == (160, 160)  # smaller, it is an image like any other
    open_image(bomb(160), 64)
    assert len(data) < 100_000
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(ImageError, match="179 million pixels"):
        open_image(data, 64)
    assert time.perf_counter() - begin < 0.5
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_the_table_counts_by_kind_and_the_report_holds_all(folder, capsys, tmp_path):
    for i in range(5):
        (folder / f"junk {i}.jpg").write_bytes(bytes([i]) * 9)
        with open(folder / "captions.csv", "a") as file:
            file.write(f"junk {i}.jpg,a picture\n")
    report = tmp_path / "report.txt"
    assert main(["check", str(folder), "--workers", "0", "--report", str(report)]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"^ +[67]  not an image", out, re.MULTILINE)
    assert len(re.findall(r"junk \d\.jpg", out)) <= 3
    assert set(re.findall(r"junk \d\.jpg", report.read_text())) == {f"junk {i}.jpg" for i in range(5)}
    assert "source: folder" in out
    assert not err
    assert not list(tmp_path.glob("*.partial"))


def test_a_sound_folder_is_fine(tmp_path, capsys):
    assert main(["check", str(colour_folder(tmp_path)), "--workers", "0"]) == 0
    assert "cannot be used: nothing" in capsys.readouterr().out


@pytest.mark.parametrize("in_tar", [False, True])
def test_images_that_nothing_is_said_of_are_worth_knowing(tmp_path, capsys, in_tar):
    root = colour_folder(tmp_path / "data")
    (root / "sub").mkdir()
    (root / "sub" / "more.PNG").write_bytes(b"x")
    options = []
    if in_tar:
        with tarfile.open(root / "all.tar", "w") as archive:
            for file in (*sorted(root.glob("*.jpg")), root / "sub" / "more.PNG"):
                archive.add(file, f"deep/{file.relative_to(root)}")
        options = ["--images", "all.tar"]
    assert main(["check", str(root), "--workers", "0", *options]) == 0
    found = capsys.readouterr().out
    assert "can be used, but note: 1\n         1  an image that nothing is said of\n" in found
    assert "sub/more.PNG" in found


@pytest.mark.parametrize(
    ("files", "source"),
    [
        (["annotations/captions_train2014.json"], "coco"),
        (["dataset_coco.json"], "coco"),
        (["Flickr8k.token.txt"], "flickr8k"),
        (["text/Flickr_8k.trainImages.txt", "captions.txt"], "flickr8k"),
        (["dataset_flickr30k.json"], "flickr30k"),
        (["captions.txt", "Images/a.jpg"], "flickr8k"),
        (["results.csv", "flickr30k_images/a.jpg"], "flickr30k"),
        (["results_20130124.token", "flickr30k-images/a.jpg"], "flickr30k"),
        (["captions.txt", "a.jpg"], "folder"),
        (["captions.csv", "a.jpg"], "folder"),
        ([], "folder"),
    ],
)
def test_the_source_is_told_by_what_lies_there(tmp_path, files, source):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    assert check.guess(tmp_path) == source


def test_a_mistake_is_one_line(tmp_path, capsys):
    folder = str(colour_folder(tmp_path / "data"))
    for arguments in (["/none/here"], [str(tmp_path)], [folder, "--captions", "none.csv"]):
        assert main(["check", *arguments]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_splits_are_those_of_training(tmp_path, capsys):
    """Leaks are looked for between these."""
    folder = colour_folder(tmp_path, images=20)
    names = sorted(path.name for path in folder.glob("*.jpg"))
    for split, some in (("train", names[:12]), ("validation", names[12:15]), ("test", names[15:])):
        (folder / f"{split}.txt").write_text("\n".join(some))
    lists = [word for split in ("train", "validation", "test") for word in (f"--splits.{split}", f"{split}.txt")]
    for options, sizes in ((lists, [12, 3, 5]), (["--held-out", "0.25"], [10, 5, 5])):
        main(["check", str(folder), "--workers", "0", *options])
        rows = re.findall(r"^(?:train|validation|test) +(\d+)", capsys.readouterr().out, re.MULTILINE)
        assert list(map(int, rows)) == sizes
    assert main(["check", str(folder), "--held-out", "0.5"]) == 1
    assert "below 0.5" in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_program(folder, pytestconfig):
    program = [sys.executable, "-m", "captioner_jax.data", "check", str(folder), "--workers", "2"]
    done = subprocess.run(program, cwd=pytestconfig.rootpath, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    lines = list(itertools.dropwhile(lambda line: not line.startswith("cannot be used"), done.stdout.splitlines()))
    assert lines[0] == f"cannot be used: {len(BAD) + 5}"
