"""A description goes into an image file, is read by others, and changes nothing else."""

import errno
import os
import shutil
import stat
import struct
import xml.etree.ElementTree as ET
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageSequence, TiffTags
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from captioner_jax.data.images import ImageError
from captioner_jax.frames import SUBIFDS
from captioner_jax.metadata import describe, is_described
from tests.data.making import encoded, picture

pyexiv2 = pytest.importorskip("pyexiv2", reason="descriptions need the extra `metadata`")
CAPTION = "a dog says “woof” <& more> 狗 😀"
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
ALTERNATIVE = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}AltTextAccessibility"
ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
IMAGE_DESCRIPTION, ORIENTATION, XMP_TAG = 0x010E, 0x0112, 0x02BC
EXIF_IFD, USER_COMMENT, XP_COMMENT = 0x8769, 0x9286, 0x9C9C


def noise(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_others_read_it_and_the_pixels_stay(tmp_path, kind):
    file = tmp_path / f"狗 a.{kind.lower()}"
    file.write_bytes(encoded(noise(), kind))
    before = np.asarray(Image.open(file))
    assert not is_described(file)
    describe(file, CAPTION)
    assert is_described(file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    with Image.open(file) as after:
        np.testing.assert_array_equal(np.asarray(after), before)
        xmp = ET.fromstring(after.info["xmp"].strip(b"\0"))
        for tag in (DESCRIPTION, ALTERNATIVE):
            assert [item.text for item in next(xmp.iter(tag)).iter(ITEM)] == [CAPTION]
        assert after.getexif()[IMAGE_DESCRIPTION].encode("latin-1").decode() == CAPTION


def test_what_was_there_besides_stays_and_another_description_takes_its_place(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(noise(), "JPEG", exif=exif))
    with pyexiv2.Image(str(file)) as inside:
        inside.modify_xmp({"Xmp.xmp.Rating": "5"})
    for caption in (CAPTION, "another"):
        describe(file, caption)
        with pyexiv2.Image(str(file)) as inside:
            assert inside.read_xmp()["Xmp.xmp.Rating"] == "5"
            assert inside.read_xmp()["Xmp.dc.description"] == {'lang="x-default"': caption}
            assert inside.read_exif()["Exif.Image.Orientation"] == "6"


def test_an_older_standard_does_not_go_on_telling_what_was_said(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(noise(), "JPEG"))
    with pyexiv2.Image(str(file)) as inside:
        inside.modify_iptc({"Iptc.Application2.Caption": "old", "Iptc.Application2.Byline": ["me"]})
    assert is_described(file)
    describe(file, "new")
    with pyexiv2.Image(str(file)) as inside:
        assert inside.read_iptc() == {"Iptc.Application2.Byline": ["me"]}


def test_somebody_elses_description_is_seen(tmp_path):
    by_cameras = ["OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "DCIM\\100MEDIA\\DJI_0001.JPG", "default"]
    nothing = [(text, False) for text in ["  ", *by_cameras]]
    for description, expected in [("mine", True), ("a digital camera on a table", True), *nothing]:
        exif = Image.Exif()
        exif[IMAGE_DESCRIPTION] = description
        (tmp_path / "a.jpg").write_bytes(encoded(noise(), "JPEG", exif=exif))
        assert is_described(tmp_path / "a.jpg") == expected


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (b"ASCII\0\0\0mine", True),
        (b"\0" * 8 + b"mine", True),
        (b"UNICODE\0" + "狗".encode("utf-16-be"), True),
        (b"ASCII\0\0\0" + b"  \0" * 9, False),
        (b"UNICODE\0" + b"\0" * 10, False),
        (b"\0" * 30, False),
        (b"ASCII\0\0\0", False),
        (b"", False),
    ],
)
@pytest.mark.parametrize("type", [1, 7], ids=["bytes", "undefined"])
def test_a_comment_is_a_description_if_it_says_something(tmp_path, comment, expected, type):
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    head = struct.pack(">H", USER_COMMENT)
    file = encoded(noise(), "JPEG", exif=exif).replace(head + b"\0\1", head + struct.pack(">H", type))
    (tmp_path / "a.jpg").write_bytes(file)
    assert is_described(tmp_path / "a.jpg") == expected


@pytest.mark.parametrize(("comment", "expected"), [("mine", True), ("狗", True), ("", False), (" \0", False)])
def test_so_is_a_comment_of_windows(tmp_path, comment, expected):
    exif = Image.Exif()
    exif[XP_COMMENT] = f"{comment}\0".encode("utf-16-le")
    (tmp_path / "a.jpg").write_bytes(encoded(noise(), "JPEG", exif=exif))
    assert is_described(tmp_path / "a.jpg") == expected


@pytest.mark.parametrize("letters", ["utf-8", "latin-1"])
def test_so_is_a_caption_for_the_press(tmp_path, letters):
    (tmp_path / "a.jpg").write_bytes(encoded(noise(), "JPEG"))
    with pyexiv2.Image(str(tmp_path / "a.jpg")) as inside:
        inside.modify_iptc({"Iptc.Application2.Byline": "Müller"}, letters)
    assert not is_described(tmp_path / "a.jpg")
    with pyexiv2.Image(str(tmp_path / "a.jpg")) as inside:
        inside.modify_iptc({"Iptc.Application2.Caption": "Größe"}, letters)
    assert is_described(tmp_path / "a.jpg")


def with_xmp(kind, packet):
    """A file that holds this packet, be it XMP or not."""
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode("utf-8", "surrogateescape"))
        return encoded(noise(), kind, pnginfo=info)
    return encoded(noise(), kind, **({"tiffinfo": {XMP_TAG: packet}} if kind == "TIFF" else {"xmp": packet}))


def packet(attributes="", elements=""):
    names = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    described = f'<rdf:Description rdf:about="" {attributes}>{elements}</rdf:Description>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {names}>{described}</rdf:RDF></x:xmpmeta>'.encode()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "unreadable",
    [
        packet('xmp:Rating="5" unknown:name="x"'),
        packet('xmp:Rating="5"')[:-20],
        packet('xmp:Rating="5" xmp:Label="Müller"').decode().encode("latin-1"),
    ],
    ids=["a name from nowhere", "cut", "latin-1"],
)
def test_xmp_that_cannot_be_read_is_not_lost(tmp_path, kind, unreadable):
    if kind == "PNG" and b"\xfc" in unreadable:
        pytest.skip("PNG's text is UTF-8")
    file = tmp_path / f"a.{kind.lower()}"
    file.write_bytes(before := with_xmp(kind, unreadable))
    with pytest.raises(ImageError, match="its XMP cannot be read, and would be lost"):
        is_described(file)
    with pytest.raises(ImageError, match="its XMP cannot be read, and would be lost"):
        describe(file, CAPTION)
    assert file.read_bytes() == before


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_empty_xmp_loses_nothing(tmp_path, kind):
    file = tmp_path / f"a.{kind.lower()}"
    file.write_bytes(with_xmp(kind, packet()))
    assert not is_described(file)
    describe(file, CAPTION)
    assert is_described(file)


@pytest.mark.parametrize("name", ["a.gif", "a.bmp"])
def test_a_kind_that_takes_none_is_said_and_left_as_it_was(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(encoded(picture(), file.suffix[1:].upper()))
    before = file.read_bytes()
    with pytest.raises(ImageError, match="cannot be written: "):
        describe(file, CAPTION)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def pages(count, **options):
    first, *others = map(noise, range(count))
    return encoded(first, "TIFF", save_all=True, append_images=others, **options)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_all_pages_stay_or_the_file_does(tmp_path, options):
    file = tmp_path / "scan.tif"
    for count in (1, 2, 4):
        file.write_bytes(pages(count, **options))
        with Image.open(file) as image:
            before = [np.asarray(page) for page in ImageSequence.Iterator(image)]
        describe(file, CAPTION)
        with Image.open(file) as image:
            np.testing.assert_array_equal([np.asarray(page) for page in ImageSequence.Iterator(image)], before)
    before = pages(9, **options)
    file.write_bytes(before)
    with pytest.raises(ImageError, match=r"cannot be written: of its 9 pages only 4 would be left$"):
        describe(file, CAPTION)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("count", "within"), [(2, 1), (1, 10)])
def test_pictures_within_pages_stay_or_the_file_does(tmp_path, count, within):
    info = ImageFileDirectory_v2()
    info.tagtype[SUBIFDS] = TiffTags.LONG
    info[SUBIFDS] = (8,) * within
    file = tmp_path / "pyramid.tif"
    file.write_bytes(before := pages(count, tiffinfo=info))
    with pytest.raises(ImageError, match="it has smaller pictures within its pages, which would be lost"):
        describe(file, CAPTION)
    assert file.read_bytes() == before


def test_a_picture_that_would_not_stay_does(tmp_path, monkeypatch):
    """Whatever is the matter with who writes into it."""
    file = tmp_path / "a.png"
    file.write_bytes(before := encoded(noise()))
    for other, reason in ((encoded(noise(1)), "would not stay as they are"), (before[:200], "can be read")):
        monkeypatch.setattr(shutil, "copy2", lambda _, copy, other=other: copy.write_bytes(other))
        monkeypatch.setattr(pyexiv2, "Image", mock.MagicMock())
        with pytest.raises(ImageError, match=reason):
            describe(file, CAPTION)
        assert file.read_bytes() == before


def test_a_link_stays_one(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise()))
    (tmp_path / "link.png").symlink_to("a.png")
    describe(tmp_path / "link.png", CAPTION)
    assert (tmp_path / "link.png").is_symlink()
    assert is_described(tmp_path / "a.png")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="files can be given away by root alone")
def test_whose_it_is_stays(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encoded(noise()))
    file.chmod(0o640)
    os.chown(file, 1234, 2345)
    describe(file, CAPTION)
    after = file.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, 1234, 2345)


def test_why_it_cannot_be_written_is_said(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied", str(target))

    monkeypatch.setattr(shutil, "copy2", refuse)
    (tmp_path / "a.png").write_bytes(encoded(noise()))
    with pytest.raises(ImageError, match=r"cannot be written: Permission denied$"):
        describe(tmp_path / "a.png", CAPTION)


@pytest.mark.parametrize("goes", [False, True])
def test_what_others_do_to_a_picture_meanwhile_is_not_undone(goes, tmp_path, monkeypatch):
    file, other = tmp_path / "a.png", encoded(noise(seed=1))
    file.write_bytes(encoded(noise()))

    def looking(image, partial):
        image.unlink()
        if not goes:
            image.write_bytes(other)

    monkeypatch.setattr("captioner_jax.metadata.check_copy", looking)
    with pytest.raises(ImageError, match="No such file" if goes else "it has changed meanwhile"):
        describe(file, CAPTION)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if goes else [other])


def test_what_is_no_image_is_said(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ImageError, match="cannot be read"):
        is_described(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="cannot be written"):
        describe(tmp_path / "a.jpg", CAPTION)
    with pytest.raises(ImageError, match="cannot be read"):
        is_described(tmp_path / "none.jpg")
