"""sample.py as a tool: what it finds, where captions go, how it goes on after it was stopped."""

import csv
import errno
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies

import sample
from captioner_jax import bundle
from captioner_jax.captioning import Caption, content_of, most_rows
from captioner_jax.data.images import ImageError
from captioner_jax.errors import UserError, for_people
from captioner_jax.fetching import Address
from captioner_jax.files import write_whole
from captioner_jax.listing import arrivals, find, is_long
from captioner_jax.results import head, lines_of, open_results, sidecar
from tests.data.making import encoded, picture

ROOT = Path(__file__).parent.parent
LETTERS = strategies.characters(exclude_categories=["Cs"])
NAMES = ["a.png", "b c.png", 'c, "d".png', "sub/e.png", "sub/deep/f.PNG", "übung.png"]


class Fake:
    """Captions a picture by its name."""

    asked: list

    def __init__(self):
        self.asked = []

    def check(self, asked):
        if asked.prefix:
            raise UserError("does not know that")

    def stream(self, pictures, asked, batch_size, read=lambda picture: picture):
        for path in pictures:
            try:
                read(path)
            except ImageError as error:
                yield path, error
                continue
            name = Path(str(path)).name
            self.asked.append(name)
            yield path, [Caption(f"a picture of {name}", -1.5, -3.0), Caption("a picture", -2.0, -2.5)]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(picture()))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


@pytest.fixture
def captioner(monkeypatch):
    fake = Fake()
    monkeypatch.setattr(sample.Captioner, "load", lambda *_, **__: fake)
    return fake


def run(*arguments):
    return sample.main([*map(str, arguments), "--captioner", "any"])


def test_files_folders_patterns_and_lists_are_found(photos):
    listed = [str(path.relative_to(photos)) for path in find([str(photos)], True, [])]
    assert listed == sorted(NAMES)
    top = [name for name in sorted(NAMES) if "/" not in name]
    assert [path.name for path in find([str(photos)], False, [])] == top
    assert [path.name for path in find([str(photos / "**/*.PNG")], False, [])] == ["f.PNG"]
    lines = ["photos/a.png\n", "\n", "no such.png\r\n"]
    assert [str(path) for path in find(["-"], False, lines)] == ["photos/a.png", "no such.png"]


def test_a_picture_that_is_meant_twice_comes_once(photos):
    lines = ["photos/a.png\n", "photos/sub/../b c.png\n", "new.png\n"]
    names = ["photos/a.png", "photos", str(photos), "photos/*.png", "-"]
    found = [str(path) for path in find(names, False, lines)]
    assert found == [*(f"photos/{name}" for name in sorted(NAMES) if "/" not in name), "new.png"]


def test_what_is_hidden_in_a_folder_is_passed_over_and_taken_where_it_is_named(photos):
    for name in ("._a.png", ".thumbnails/x.png", "@eaDir/a.png/SYNOPHOTO.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "a.png", photos / name)
    assert [str(path.relative_to(photos)) for path in find([str(photos)], True, [])] == sorted(NAMES)
    named = ["photos/._a.png", "photos/.thumbnails"]
    assert [path.name for path in find(named, False, [])] == ["._a.png", "x.png"]


def test_names_that_no_file_can_have_are_told_with_the_others(photos):
    names = ["x" * 5000, "photos/a.png/b.png"]
    assert [str(path) for path in find(["-"], False, [f"{name}\n" for name in names])] == names
    assert [str(path) for path in find(names, False, [])] == names


def test_a_name_in_a_folder_that_may_not_be_entered_is_told_with_the_others(photos, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refused)
    assert [str(path) for path in find(["photos/a.png"], False, [])] == ["photos/a.png"]


def test_what_is_no_picture_in_a_folder_is_left_alone(photos):
    for name in ("features.h5", "film.mpg", "ticket.pdf"):
        (photos / name).touch()
    assert {path.suffix.lower() for path in find([str(photos)], recursive=True, stdin=[])} == {".png"}


def test_kinds_that_cannot_be_read_are_counted(photos, captioner, capsys):
    for name in ("a.NEF", "b.nef", "sub/c.jxl", "film.mpg"):
        (photos / name).touch()
    assert run(photos, "photos", "--recursive") == 0
    told = "passed over, since Pillow cannot read them: 2 .nef, 1 .jxl; save them as JPEG or PNG\n"
    assert capsys.readouterr().err == told
    raws = photos.parent / "raws"
    raws.mkdir()
    (raws / "a.dng").touch()
    assert run(raws) == 1
    assert capsys.readouterr().err.splitlines()[1].startswith("passed over, since Pillow cannot read them: 1 .dng")


def test_names_in_a_list_may_end_with_zeros(photos):
    """As those of find -print0."""
    assert [path.name for path in find(["-"], False, ["photos/a.png\0photos/b c.png\0"])] == ["a.png", "b c.png"]


def test_a_list_is_long_if_names_for_several_batches_are_there():
    for names, expected in ((5, False), (500, True)):
        with piped(b"photos/a.png\n" * names) as stdin:
            assert is_long(stdin, 16) == expected
    assert not is_long([], 16)


@pytest.mark.parametrize(("names", "full"), [(5, False), (500, True)])
def test_a_long_list_is_captioned_in_full_batches(names, full, photos, captioner, monkeypatch):
    rows = []
    monkeypatch.setattr(sample, "rows_for", lambda pictures: rows.append(pictures) or 4)
    with piped(b"".join(b"photos/%03d.png\n" % number for number in range(names))) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("-") == 0
    assert rows == [most_rows() if full else 2]


def piped(content):
    """Standard input with this in it, as a program finds it."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return open(reader)


def test_names_may_hold_what_ends_others(photos):
    odd = ["line\nline.png", "\r.png", "cut\r", b"\xff.png"]
    odd = [os.fsencode(name) for name in odd]
    with piped(b"".join(name + b"\0" for name in odd)) as stdin:
        assert [os.fsencode(path) for path in find(["-"], False, stdin)] == odd
    with piped(b"a\rb.png\r\n\xff.png\n  \n\xc3\xbc.png") as stdin:
        assert [os.fsencode(path) for path in find(["-"], False, stdin)] == [b"a\rb.png", b"\xff.png", b"\xc3\xbc.png"]


@pytest.mark.parametrize("end", ["\0", "\n"])
def test_a_list_is_taken_as_it_comes(end, photos):
    reader, writer = os.pipe()
    with open(reader) as stdin:
        os.write(writer, f"photos/a.png{end}photos/ü".encode()[:-1])
        found = find(["-"], False, stdin)
        assert next(found) == Path("photos/a.png")
        os.write(writer, f"ü{end}".encode()[1:])
        assert next(found) == Path("photos/ü")
        os.close(writer)
        assert list(found) == []


def test_a_list_that_cannot_be_read_is_said(photos):
    class Folder(io.TextIOWrapper):
        def fileno(self):
            return folder

    folder = os.open(photos, os.O_RDONLY)
    with pytest.raises(UserError, match="standard input: Is a directory"):
        list(find(["-"], False, Folder(io.BytesIO())))
    os.close(folder)


def test_a_pattern_matches_folders_as_the_shells_do(photos):
    def found(pattern, recursive=False):
        return [str(path.relative_to(photos)) for path in find([str(photos / pattern)], recursive, [])]

    (photos / "empty").mkdir()
    top = [name for name in sorted([*NAMES, "notes.txt"]) if "/" not in name]
    assert found("s*") == ["sub/e.png"]
    assert found("s*", recursive=True) == ["sub/deep/f.PNG", "sub/e.png"]
    assert found("*") == sorted([*top, "sub/e.png"])
    assert found("em*") == []
    assert sorted(found("**")) == sorted(found("**", recursive=True)) == sorted([*NAMES, "notes.txt"])


def test_nobody_waits_at_a_pipe_in_a_folder(photos):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "link.jpg").symlink_to("gone.jpg")
    (photos / "round.jpg").symlink_to("round.jpg")
    (photos / "piped.jpg").symlink_to("pipe.jpg")
    (photos / "endless.jpg").symlink_to("/dev/zero")
    names = [str(path.relative_to(photos)) for path in find([str(photos)], True, [])]
    assert names == sorted([*NAMES, "link.jpg", "round.jpg"])


def test_a_device_is_not_read_to_its_end():
    with pytest.raises(ImageError, match="a device, and no picture"):
        content_of(Path("/dev/zero"))


def test_names_and_captions_do_not_steer_the_terminal(photos, captioner, capsys):
    (photos / "a\nb: \x1b[31mred.png").write_bytes(encoded(picture()))
    assert run(photos, "http://x/\x1b[31m\x9b.png") == 1
    out, err = capsys.readouterr()
    assert err.startswith("http://x/\\x1b[31m\\x9b.png: nothing is fetched")
    assert "a\\nb: \\x1b[31mred.png: a picture of a\\nb: \\x1b[31mred.png\n" in out
    assert not {"\x1b", "\x9b"} & {*out, *err}


def test_a_folder_that_may_not_be_read_is_told_with_the_pictures(photos, monkeypatch):
    (photos / "closed").mkdir()
    scandir = os.scandir

    def for_some(folder):
        if folder == photos / "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr("captioner_jax.listing.os.scandir", for_some)
    listed = [str(path.relative_to(photos)) for path in find([str(photos)], True, [])]
    assert listed == sorted([*NAMES, "closed"])


def test_a_list_comes_from_standard_input(photos, captioner, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("photos/a.png\nphotos/b c.png\n"))
    assert run("-") == 0
    assert capsys.readouterr().out.splitlines()[::2] == [
        *("photos/a.png: a picture of a.png", "photos/b c.png: a picture of b c.png")
    ]


def test_nothing_is_fetched_unasked(photos, captioner, monkeypatch, capsys):
    addresses = ["http://example.org/x.jpg", "https://example.org/y.jpg"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{addresses[1]}\n"))
    fetched = []
    monkeypatch.setattr(sample, "fetch", lambda address: fetched.append(address.url))
    asked = [photos / "a.png", addresses[0], "-"]
    assert run(*asked) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"{photos}/a.png: a picture of a.png"
    assert all(f"{address}: nothing is fetched from the web without --allow-urls" in err for address in addresses)
    assert "2 of 3 pictures could not be captioned" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{addresses[1]}\n"))
    assert run(*asked, "--allow-urls") == 0
    assert fetched == addresses
    assert [str(one) for one in find(addresses, False, [])] == addresses
    assert all(isinstance(one, Address) for one in find(addresses, False, []))


def test_an_address_has_no_file_beside_it(photos, captioner, monkeypatch, capsys):
    monkeypatch.setattr(sample, "fetch", lambda _: b"")
    assert run("http://example.org/x.jpg", "--allow-urls", "--write-sidecars") == 1
    assert "there are no files beside images on the web" in capsys.readouterr().err


def test_pictures_are_told_as_soon_as_they_are_at_rest(photos, monkeypatch):
    coming = photos / "new.jpg"

    def sleep(_):
        """Between two looks, somebody writes a file in pieces."""
        pieces = len(coming.read_bytes()) if coming.exists() else 0
        if pieces < 3:
            coming.write_bytes(b"x" * (pieces + 1))

    monkeypatch.setattr("captioner_jax.listing.time.sleep", sleep)
    looks = arrivals(photos, False, written_into=True)
    assert next(looks) == []
    assert [path.name for path in next(looks)] == [name for name in sorted(NAMES) if "/" not in name]
    assert [next(looks) for _ in range(3)] == [[], [], [coming]]
    coming.write_bytes(b"changed by who asked")
    assert next(looks) == []
    (photos / "a.png").write_bytes(b"changed by another")
    (photos / "b c.png").unlink()
    assert [next(looks), next(looks), next(looks)] == [[], [photos / "a.png"], []]


def test_a_file_that_ends_while_its_half_is_captioned_comes_again(photos, monkeypatch):
    monkeypatch.setattr("captioner_jax.listing.time.sleep", lambda _: None)
    looks = arrivals(photos, False, written_into=False)
    assert [next(looks), photos / "a.png" in next(looks)] == [[], True]
    (photos / "a.png").write_bytes(b"the other half has come")
    assert [next(looks), next(looks), next(looks)] == [[], [photos / "a.png"], []]


def test_that_a_watched_folder_has_gone_is_told(photos, captioner, monkeypatch, capsys):
    def comings(*_):
        yield []
        photos.rename("elsewhere")
        yield from [[], []]
        Path("elsewhere").rename(photos)
        yield []
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "arrivals", comings)
    assert run("--watch", photos) == 0
    _, gone, again = capsys.readouterr().err.splitlines()
    assert (gone, again) == (f"{photos} is gone; it may come back", f"{photos} is there again")


def test_a_folder_is_watched_until_it_is_enough(photos, captioner, monkeypatch, tmp_path, capsys):
    def comings(folder, recursive, written_into):
        assert (folder, recursive, written_into) == (photos, False, False)
        yield [photos / "a.png"]
        yield []
        yield [photos / "b c.png", photos / "übung.png"]
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "arrivals", comings)
    out = tmp_path / "captions"
    assert run("--watch", photos, "--output", out, "--format", "jsonl") == 0
    assert captioner.asked == ["a.png", "b c.png", "übung.png"]
    assert len(out.read_text().splitlines()) == 6
    assert run("--watch", photos, "--output", out, "--format", "jsonl", "--resume") == 0
    assert captioner.asked[3:] == []
    assert len(out.read_text().splitlines()) == 6


@pytest.mark.parametrize("kept", [["--output", "captions", "--format", "jsonl"], ["--write-sidecars"]])
def test_an_image_that_changes_is_captioned_again_where_it_goes_on(kept, photos, captioner, monkeypatch):
    assert run("photos/a.png", "photos/b c.png", "photos/übung.png", *kept) == 0
    captioner.asked.clear()

    def comings(*_):
        yield [Path("photos/a.png"), Path("photos/b c.png")]
        yield [Path("photos/a.png"), Path("photos/new.png")]
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "arrivals", comings)
    assert run("--watch", "photos", *kept, "--resume") == 0
    assert captioner.asked == ["a.png", "new.png"]


def test_descriptions_are_written_and_kept(photos, captioner, capsys):
    pyexiv2 = pytest.importorskip("pyexiv2", reason="descriptions need the extra `metadata`")

    def description(name):
        with pyexiv2.Image(str(photos / name)) as image:
            return image.read_xmp().get("Xmp.dc.description", {}).get('lang="x-default"')

    assert run(photos, "--write-descriptions") == 0
    assert description("b c.png") == "a picture of b c.png"
    with pyexiv2.Image(str(photos / "a.png")) as image:
        image.modify_xmp({"Xmp.dc.description": {'lang="x-default"': "mine"}})
    assert run(photos, "--write-descriptions") == 0
    assert "descriptions in images that were there already and stay: 4;" in capsys.readouterr().err
    assert description("a.png") == "mine"
    captioner.asked.clear()
    assert run(photos, "--recursive", "--write-descriptions", "--resume") == 0
    assert captioner.asked == ["f.PNG", "e.png"]
    assert run(photos, "--write-descriptions", "--force") == 0
    assert description("a.png") == "a picture of a.png"


def test_what_was_without_a_description_before_is_told_again(photos, captioner, capsys):
    pytest.importorskip("pyexiv2", reason="descriptions need the extra `metadata`")
    (photos / "bad.jpg").write_bytes(b"\xff\xd8 and no more")
    for more in ([], ["--resume"]):
        captioner.asked.clear()
        assert run(photos, "--write-descriptions", *more) == 1
        assert "bad.jpg: its description cannot be read" in capsys.readouterr().err
    assert captioner.asked == ["bad.jpg"]


def test_a_kind_that_takes_no_description_is_named_and_captioned(photos, captioner, capsys):
    pytest.importorskip("pyexiv2", reason="descriptions need the extra `metadata`")
    (photos / "moving.gif").write_bytes(encoded(picture(), "GIF"))
    assert run(photos, "--write-descriptions") == 1
    out, err = capsys.readouterr()
    assert f"{photos}/moving.gif: a picture of moving.gif" in out
    assert "moving.gif: its description cannot be read: The file contains" in err
    assert "1 of 5 pictures could not be captioned as asked" in err


def test_every_format_can_be_read_again(photos, captioner, capsys):
    assert run(photos, "--recursive", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert run(photos, "--recursive", "--format", "jsonl") == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == [one["image"] for one in objects]
    assert [Path(row["image"]).name for row in rows[::2]] == [Path(name).name for name in sorted(NAMES)]
    assert {float(row["score"]) for row in rows} == {-1.5, -2.0}
    assert objects[0] == {"image": str(photos / "a.png"), "caption": "a picture of a.png", "score": -1.5, "log_p": -3.0}


@pytest.mark.parametrize("format", ["jsonl", "csv"])
@given(
    names=strategies.lists(
        strategies.text(strategies.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, unique=True
    )
)
def test_what_is_kept_of_a_file_is_as_it_was_whatever_images_are_called(format, names, tmp_path_factory):
    file = tmp_path_factory.mktemp("names") / "captions"
    lines = [lines_of(Address(name), [Caption('a "dog",\r a cat', -1.0, -2.0)], format) for name in names]
    write_whole(file, head(format) + "".join(lines))
    kept = open_results(file, format, resume=True, force=False, captions=2)
    kept.file.close()
    assert kept.images == {*names}
    assert file.read_bytes().decode() == head(format) + "".join(lines)
    file.write_bytes(file.read_bytes()[:-1])
    kept = open_results(file, format, resume=True, force=False, captions=1)
    with kept.file as rest:
        rest.write(lines[-1])
    assert kept.images == {*names[:-1]}
    assert file.read_bytes().decode() == head(format) + "".join(lines)


@pytest.mark.parametrize("format", ["jsonl", "csv"])
@pytest.mark.parametrize("lost", [1, 30, 200])
def test_what_was_cut_short_goes_on(format, lost, photos, captioner, tmp_path):
    out = tmp_path / "captions"
    asked = [photos, "--recursive", "--format", format, "--output", out, "--num-captions", 2]
    assert run(*asked) == 0
    whole = out.read_bytes()
    out.write_bytes(whole[:-lost])
    captioner.asked.clear()
    assert run(*asked, "--resume") == 0
    assert out.read_bytes() == whole
    assert 1 <= len(captioner.asked) < len(NAMES)
    out.write_bytes(b"")
    assert run(*asked, "--resume") == 0
    assert out.read_bytes() == whole


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_what_other_pictures_are_told_of_stays_where_it_goes_on(format, photos, captioner, tmp_path):
    out = tmp_path / "captions"
    assert run(photos / "sub", "--recursive", "--format", format, "--output", out) == 0
    before = out.read_text()
    assert run(photos / "a.png", "--format", format, "--output", out, "--resume") == 0
    assert out.read_text().startswith(before)
    assert captioner.asked == ["f.PNG", "e.png", "a.png"]


def test_a_table_that_a_spreadsheet_has_written_goes_on(photos, captioner, tmp_path):
    out = tmp_path / "captions.csv"
    assert run(photos / "a.png", "--output", out) == 0
    out.write_bytes(b"\xef\xbb\xbf" + out.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert run(photos, "--output", out, "--resume") == 0
    assert captioner.asked.count("a.png") == 1
    assert len(list(csv.DictReader(io.StringIO(out.read_text())))) == 8


def test_rows_that_a_hand_has_changed_stay(photos, captioner, tmp_path):
    out = tmp_path / "captions.csv"
    out.write_text("image,caption,score,log_p\nx.jpg,a dog, running,-1,-2\ny.jpg,a cat,-1,-2\n")
    before = out.read_text()
    assert run(photos / "a.png", "--output", out, "--resume", "--num-captions", 3) == 0
    assert out.read_text().startswith(before)


def test_what_is_to_be_written_over_stays_until_there_is_something_in_its_place(photos, captioner, tmp_path, capsys):
    out = tmp_path / "captions.csv"
    out.write_text("dear, and longer than what comes in its place: " + "x" * 2000)
    before = out.read_text()
    assert run("http://nowhere.example/a.png", "--output", out, "--force") == 1
    assert out.read_text() == before
    assert run(photos / "a.png", "--output", out, "--force") == 0
    assert [row["image"] for row in csv.DictReader(io.StringIO(out.read_text()))] == [f"{photos}/a.png"] * 2


@pytest.mark.parametrize(
    ("name", "first"), [("c.jsonl", '{"image"'), ("c.CSV", "image,cap"), ("c.txt", "{photos}/a.png: ")]
)
def test_an_output_is_of_the_kind_that_it_is_named_like(name, first, photos, captioner, tmp_path):
    assert run(photos, "--output", tmp_path / name) == 0
    assert (tmp_path / name).read_text().startswith(first.replace("{photos}", str(photos)))


def test_files_beside_images_are_called_and_say_what_others_want(photos, captioner):
    asked = ["--sidecar-ending", ".caption", "--sidecar-text", "ohwx, {caption}, a photo"]
    assert run(photos / "a.png", "--write-sidecars", *asked) == 0
    assert (photos / "a.caption").read_text() == "ohwx, a picture of a.png, a photo\nohwx, a picture, a photo\n"
    assert not (photos / "a.txt").exists()
    captioner.asked.clear()
    assert run(photos, "--write-sidecars", *asked, "--resume") == 0
    assert "a.png" not in captioner.asked


def test_one_place_that_fails_does_not_stop_the_other(photos, captioner, capsys):
    pyexiv2 = pytest.importorskip("pyexiv2", reason="descriptions need the extra `metadata`")
    (photos / "a.jpg").write_bytes(encoded(picture(), "JPEG"))
    assert run(photos / "a.jpg", photos / "a.png", "--write-sidecars", "--write-descriptions") == 1
    assert f"{photos}/a.png: a.txt is already that of a.jpg" in capsys.readouterr().err
    with pyexiv2.Image(str(photos / "a.png")) as image:
        assert image.read_exif()["Exif.Image.ImageDescription"] == "a picture of a.png"


def test_an_output_is_not_written_over_unasked(photos, captioner, tmp_path, capsys):
    out = tmp_path / "captions"
    out.write_text("dear\n")
    assert run(photos, "--output", out) == 1
    assert f"{out} is there already: --force writes it anew" in capsys.readouterr().err
    assert run(photos, "--output", out, "--format", "csv") == 1
    assert "--resume goes on with it, --force writes it anew" in capsys.readouterr().err
    assert out.read_text() == "dear\n"
    assert run(photos, "--output", out, "--resume", "--format", "jsonl") == 1
    assert "holds no captions as jsonl" in capsys.readouterr().err
    assert run(photos, "--output", out, "--resume") == 1
    assert "goes on with --format jsonl or csv" in capsys.readouterr().err
    assert out.read_text() == "dear\n"
    assert run(photos, "--output", out, "--force") == 0
    assert out.read_text().startswith(f"{photos}/a.png: a picture of a.png\n")


@pytest.mark.parametrize("mistake", [["--prefix", "zzz"], ["photos/none"]])
def test_a_request_that_is_refused_leaves_an_output_as_it_was(mistake, photos, captioner, tmp_path, capsys):
    (photos / "none").mkdir()
    pictures = [] if mistake == ["photos/none"] else [photos]
    out = tmp_path / "captions"
    assert run(*pictures, *mistake, "--output", out) == 1
    assert not out.exists()
    out.write_text("dear\n")
    assert run(*pictures, *mistake, "--output", out, "--force") == 1
    assert out.read_text() == "dear\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_in_words(photos, captioner, capsys):
    assert run(photos, "--output", "/dev/full", "--force") == 1
    assert "/dev/full: No space left on device" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("format", ["text", "csv"])
def test_no_room_on_standard_output_is_one_too(format, photos, captioner, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(photos, "--format", format) == 1
    assert capsys.readouterr().err == "error: standard output: No space left on device\n"


def test_closed_streams_are_errors_in_words(photos, captioner, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert run("-") == 1
    assert capsys.readouterr().err == "error: - is a list on standard input, which is closed\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert run(photos) == 1
        assert capsys.readouterr().err == "error: standard output is closed: name a file with --output\n"
        assert run(photos, "--output", tmp_path / "captions") == 0
    assert captioner.asked == ["a.png", "b c.png", 'c, "d".png', "übung.png"]


def test_a_file_that_may_not_be_read_is_a_mistake_to_mend(capsys):
    @for_people
    def main(_):
        raise PermissionError(errno.EACCES, "Permission denied", "photos/captions.csv")

    assert main([]) == 1
    assert capsys.readouterr().err == "error: photos/captions.csv: Permission denied: this user may not use it\n"


def test_a_reader_who_has_had_enough_is_no_error():
    """As in `sample.py photos/ | head -1`."""
    code = """
import sys
from captioner_jax.errors import for_people

@for_people
def main(_):
    while True:
        print("a caption")

sys.exit(main([]))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"a caption\n"
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == 141


def test_files_beside_images_are_written_and_kept(photos, captioner, monkeypatch, capsys):
    sidecar(photos / "a.png").write_text("mine\n")
    assert run(photos, "--write-sidecars") == 0
    assert (photos / "a.txt").read_text() == "mine\n"
    assert (photos / "b c.txt").read_text() == "a picture of b c.png\na picture\n"
    assert "files beside images that were there already and stay: 1;" in capsys.readouterr().err
    captioner.asked.clear()
    (photos / "b c.txt").unlink()
    assert run(photos, "--write-sidecars", "--resume") == 0
    assert captioner.asked == ["b c.png"]
    assert run(photos, "--write-sidecars", "--resume") == 0
    assert "nothing is left to do" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", iter([f"{photos}/a.png\n"]))
    assert run("-", "--write-sidecars", "--resume") == 0
    assert "nothing is left to do" in capsys.readouterr().err
    assert run(photos, "--write-sidecars", "--force") == 0
    assert (photos / "a.txt").read_text().startswith("a picture of a.png")


@pytest.mark.parametrize("more", [[], ["--force"]])
def test_a_file_beside_two_images_is_the_first_ones(more, photos, captioner, capsys):
    shutil.copy(photos / "a.png", photos / "a.webp")
    for _ in range(2):
        assert run("photos/a.png", photos / "a.png", "photos/a.webp", "photos/b c.png", "--write-sidecars", *more) == 1
        err = capsys.readouterr().err
        assert "photos/a.webp: a.txt is already that of a.png" in err
        assert "1 of 3 pictures" in err
        assert (photos / "a.txt").read_text().startswith("a picture of a.png")
        assert (photos / "b c.txt").exists()
        (photos / "a.txt").unlink()


@pytest.mark.parametrize("more", [[], ["--force"], ["--resume"]])
def test_an_image_that_is_named_as_a_text_file_is_not_written_over(more, photos, captioner, capsys):
    image = shutil.copy(photos / "a.png", photos / "picture.txt")
    assert run(image, photos / "b c.png", "--write-sidecars", *more) == 1
    assert "picture.txt: its name is that of a text file" in capsys.readouterr().err
    assert image.read_bytes() == (photos / "a.png").read_bytes()
    assert captioner.asked == ["picture.txt", "b c.png"]
    assert [path.name for path in photos.glob("*.txt")].count("b c.txt") == 1


@pytest.mark.parametrize("more", [[], ["--force"], ["--resume"]])
def test_where_one_image_takes_no_file_beside_it_the_others_do(more, photos, captioner, monkeypatch, capsys):
    (photos / "a.txt").mkdir()
    long = "x" * 253 + ".b"
    monkeypatch.setattr("captioner_jax.results.write_whole", refusing(photos / "b c.txt", errno.EACCES))
    assert run("photos/a.png", f"photos/{long}", photos, "--write-sidecars", *more) == 1
    err = capsys.readouterr().err
    assert "photos/a.png: a.txt: Is a directory" in err
    assert f"{long[:-2]}.txt: File name too long" in err
    assert "b c.png: b c.txt: Permission denied" in err
    assert (photos / "übung.txt").exists()


def test_a_full_disk_ends_files_beside_images(photos, captioner, monkeypatch, capsys):
    monkeypatch.setattr("captioner_jax.results.write_whole", refusing(photos / "b c.txt", errno.ENOSPC))
    assert run(photos, "--write-sidecars") == 1
    assert f"error: {photos / 'b c.txt'}: No space left on device" in capsys.readouterr().err
    assert captioner.asked == ["a.png", "b c.png"]


def test_a_picture_without_its_file_is_not_done_where_it_goes_on(photos, captioner, monkeypatch, tmp_path):
    """An output names what is finished, so that nothing is left out that a full disk or a kill was in the way of."""
    asked = [photos, "--output", tmp_path / "out.jsonl", "--write-sidecars"]
    with monkeypatch.context() as full:
        full.setattr("captioner_jax.results.write_whole", refusing(photos / "b c.txt", errno.ENOSPC))
        assert run(*asked) == 1
    assert run(*asked, "--resume") == 0
    assert all((photos / name).with_suffix(".txt").exists() for name in NAMES if "/" not in name)


def test_two_do_not_write_into_one_output(photos, captioner, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert run(photos / "a.png", "--output", out) == 0
    whole = out.read_bytes()
    with open_results(out, "jsonl", True, False, 1).file:
        for more in ("--resume", "--force"):
            assert run(photos, "--output", out, more) == 1
            assert f"{out}: another process writes there" in capsys.readouterr().err
    assert out.read_bytes() == whole
    assert run(photos, "--output", out, "--resume") == 0
    with open_results(Path("/dev/null"), "jsonl", False, True, 1).file:  # which is everybody's
        assert run(photos, "--output", "/dev/null", "--force") == 0


def test_who_locks_an_output_that_was_replaced_meanwhile_has_none(photos, captioner, tmp_path, monkeypatch, capsys):
    out, lock = tmp_path / "out.jsonl", fcntl.flock
    assert run(photos / "a.png", "--output", out) == 0

    def late(file, how):
        write_whole(out, "another's\n")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert run(photos, "--output", out, "--resume") == 1
    assert "another process writes there" in capsys.readouterr().err
    assert out.read_text() == "another's\n"


def test_a_link_to_nothing_is_no_place_for_a_file_beside_an_image(photos, captioner, tmp_path):
    (photos / "a.txt").symlink_to(tmp_path / "elsewhere.txt")
    assert run(photos / "a.png", "--write-sidecars") == 0
    assert not (tmp_path / "elsewhere.txt").exists()


def test_a_full_disk_ends_descriptions(photos, captioner, monkeypatch, capsys):
    def copy(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr("captioner_jax.metadata.shutil.copy2", copy)
    assert run(photos, "--write-descriptions") == 1
    assert f"error: {photos / 'a.png'}: No space left on device" in capsys.readouterr().err
    assert captioner.asked == ["a.png"]


def test_the_output_is_no_file_beside_an_image(photos, captioner, capsys):
    assert run(photos / "a.png", "--output", photos / "a.txt", "--write-sidecars", "--force") == 1
    assert "a.txt is what all captions are written to" in capsys.readouterr().err
    assert (photos / "a.txt").read_text().startswith(f"{photos / 'a.png'}: a picture of a.png")


def refusing(file, number):
    """Writes whole files, but for this one."""

    def write(path, text):
        if path == file:
            raise OSError(number, os.strerror(number), str(path))
        write_whole(path, text)

    return write


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name images to caption"),
        (["photos", "--watch", "photos"], "name images to caption, or a folder to --watch"),
        (["photos", "--serve"], "or --serve a page"),
        (["--watch", "photos", "--serve"], "or --serve a page"),
        (["--serve", "--output", "captions"], "--serve writes nothing"),
        (["--serve", "--write-sidecars"], "--serve writes nothing"),
        (["photos", "--port", "8000"], "--host and --port say where --serve listens"),
        (["--watch", "photos", "--host", "0.0.0.0"], "--host and --port say where --serve listens"),
        (["photos/a.png", "--explore", "x.html", "--num-captions", "2"], "leave out --num-captions"),
        (["--watch", "no/such"], "--watch no/such: there is no such folder"),
        (["photos/a.png", "photos/b c.png", "--attention", "x.png"], "--attention and --explore show one image"),
        (["photos", "--explore", "x.html"], "show one image, and there are more in photos"),
        (["photos/none", "--explore", "x.html"], "no images in photos/none; --recursive looks into"),
        (["photos/none/empty", "--explore", "x.html"], "no images in photos/none/empty\n"),
        (["photos/a.png", "--explore", "x.html", "--resume", "--output", "x"], "leave out --resume"),
        (["photos/a.png", "--explore", "photos/b c.png"], "b c.png is there already; --force writes it anew"),
        (["photos/a.png", "--output", "x.csv", "--format", "text"], "x.csv is named like csv: leave out --format text"),
        (["photos/a.png", "--output", "x.JSONL", "--format", "csv"], "named like jsonl: leave out --format csv"),
        (["photos/a.png", "--sidecar-ending", ".caption"], "are of --write-sidecars: ask for that, too"),
        (["photos/a.png", "--write-sidecars", "--sidecar-ending", "caption"], "wanted is a dot and what follows it"),
        (["photos/a.png", "--write-sidecars", "--sidecar-ending", ""], "a dot and what follows it"),
        (["photos/a.png", "--write-sidecars", "--sidecar-ending", ".PNG"], "such as .caption, of no picture"),
        (["photos/a.png", "--write-sidecars", "--sidecar-text", "ohwx"], "wanted is a line with {caption} in it"),
        (["photos/a.png", "--output", "x.json"], "lines of JSON go into a file named .jsonl"),
        (["photos/a.png", "--output", "-"], "captions to standard output where no --output is named"),
        (["--serve", "--attention", "x.png"], "--serve writes nothing"),
        (["--serve", "--recursive"], "--serve takes pictures from its page: leave out --recursive"),
        (["photos/a.png", "--attention", "x.jpg"], "--attention x.jpg: it is a PNG"),
        (["--must-say", "dog", "photos/a.png"], "name images before --must-say and --banned"),
        (["photos/a.png", "--explore", "photos/sub/../a.png", "--force"], "files of their own"),
        (["photos/a.png", "--explore", "x", "--attention", "x"], "files of their own"),
        (["photos/a.png", "--explore", "x", "--output", "x"], "files of their own"),
        (["photos/a.png", "--output", "photos/a.png", "--force"], "files of their own"),
        (["photos/b c.png", "photos/a.png", "--output", "linked", "--force"], "files of their own"),
        (["photos", "--output", "photos/a.png", "--force"], "photos/a.png has the name of a picture"),
        (["photos/sub/deep", "--explore", "photos/sub/deep/f.PNG", "--force"], "files of their own"),
        (["photos", "--resume"], "goes on with an --output"),
        (["photos", "--resume", "--force", "--write-sidecars"], "take one of them"),
        (["photos/sub/deep", "--output", "no/such/folder/file"], "No such file or directory"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message, photos, captioner, capsys):
    (photos / "none" / "empty").mkdir(parents=True)
    Path("linked").symlink_to(photos / "a.png")
    assert run(*arguments) == 1
    assert message in capsys.readouterr().err
    assert {(photos / name).read_bytes() for name in NAMES} == {encoded(picture())}


def test_what_shows_one_image_reads_no_more_of_a_list(photos, captioner, monkeypatch, capsys):
    lines = iter(["photos/a.png\n"] * 5)
    monkeypatch.setattr(sys, "stdin", lines)
    assert run("-", "--attention", "x.png") == 1
    assert "show one image" in capsys.readouterr().err
    assert len(list(lines)) == 3


def test_a_name_that_is_no_utf_8_stays_as_it_is(photos, captioner, tmp_path):
    raw = os.fsencode(photos) + b"/\xff.png"
    shutil.copy(photos / "a.png", raw)
    for format in ("jsonl", "csv", "text"):
        out = tmp_path / format
        assert run(photos, "--format", format, "--output", out) == 0
        assert (b"/\\udcff.png" if format == "jsonl" else b"/\xff.png") in out.read_bytes()
    told = [json.loads(line)["image"] for line in (tmp_path / "jsonl").read_text(encoding="utf-8").splitlines()]
    assert os.fsdecode(raw) in told
    assert lines_of(Path(os.fsdecode(raw)), [Caption("a", 0.0, 0.0)], "text").startswith(str(photos))


def test_who_imports_the_program_keeps_a_garbage_collector():
    ask = "import gc; n = gc.get_freeze_count(); import sample; print(gc.isenabled(), gc.get_freeze_count() - n)"
    told = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "0"]


def test_captions_are_computed_in_what_is_asked_for(photos, captioner, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(sample.Captioner, "load", lambda *_, precision: asked.append(precision) or captioner)
    assert run(photos) == run(photos, "--precision", "bfloat16") == 0
    assert asked == ["float32", "bfloat16"]


def test_the_captioner_that_comes_with_the_package_captions_a_photograph(capsys):
    assert sample.main([str(ROOT / "docs" / "photographs" / "cat.jpg"), "--beam", "2"]) == 0
    file, caption = capsys.readouterr().out.strip().split(": ")
    assert file.endswith("cat.jpg")
    assert len(caption.split()) > 3


def test_what_comes_with_the_package_is_small_and_says_what_it_is():
    released = bundle.RELEASED
    assert sum(file.stat().st_size for file in released.parent.rglob("*")) < 40e6
    card = json.loads((released / bundle.CARD).read_text())
    assert card["training"]["data"]["source"] == "flickr8k"
    assert "test/cider_d" in card["scores"]
