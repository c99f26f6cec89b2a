"""Captions inside image files, where picture managers look for a description; the pixels stay as they are.

What would not stay is refused. XMP dc:description and IPTC's alternative text, and EXIF's ImageDescription, by Exiv2.
"""

import contextlib
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from captioner_jax.data.images import ImageError
from captioner_jax.errors import FULL, UserError
from captioner_jax.files import beside, take_place
from captioner_jax.frames import check_copy

XMP = ("Xmp.dc.description", "Xmp.iptc.AltTextAccessibility")
EXIF = "Exif.Image.ImageDescription"
# Where others keep one, too.
XP_COMMENT, USER_COMMENT, IPTC = "Exif.Image.XPComment", "Exif.Photo.UserComment", "Iptc.Application2.Caption"
ANY = "latin-1"  # takes any bytes: it is asked whether there is text, not which
# Descriptions that cameras and telephones write into every picture, besides paths that begin with DCIM.
_BY_CAMERAS = {
    *("olympus digital camera", "minolta digital camera", "konica minolta digital camera", "samsung digital camera"),
    *("kodak digital still camera", "digital still camera", "digital camera", "sony dsc", "exif_jpeg_picture"),
    *("default", "screenshot", "untitled"),
}
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def is_described(image: Path) -> bool:
    """Has the file a description already? Raises ImageError where it cannot be read."""
    try:
        with _inside(image) as file:
            return bool(file.read_xmp().keys() & set(XMP)) or any(map(_says_something, _texts(file)))
    except (RuntimeError, UnicodeError, ImageError) as error:
        raise ImageError(f"its description cannot be read: {_reason(error)}") from error


def describe(image: Path, caption: str) -> None:
    """Writes the caption into the file, which is there whole at any time.

    Raises ImageError where this kind of file takes none, where something else would be lost, and where it cannot be
    written; and OSError where there is no room.
    """
    image = image.resolve()  # a link stays one
    partial = beside(image)
    try:
        before = _state(image)
        shutil.copy2(image, partial)
        with _inside(partial) as file:
            file.modify_xmp({key: {'lang="x-default"': caption} for key in XMP})
            file.modify_exif({EXIF: caption})
            if IPTC in file.read_iptc(ANY):
                file.modify_iptc({IPTC: None})  # the same by an older standard, which would go on telling what was said
        check_copy(image, partial)
        if _state(image) != before:
            raise ImageError("it has changed meanwhile, and stays as it is now")
        take_place(partial, image)
    except (RuntimeError, OSError, UnicodeError, ImageError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise ImageError(f"its description cannot be written: {_reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def _state(image: Path) -> tuple[int, ...]:
    """By which a file is known from another in its place, or from itself when it was written into."""
    told = image.stat()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


@contextlib.contextmanager
def _inside(image: Path) -> Iterator[Any]:
    """Its metadata. Raises ImageError for XMP that Exiv2 does not understand, and would leave out of what it writes."""
    with _exiv2().Image(str(image)) as file:
        if not file.read_xmp() and not _is_empty(_packet(file)):
            raise ImageError("its XMP cannot be read, and would be lost")
        yield file


def _packet(file: Any) -> str:
    """All its XMP, each byte a letter; a TIFF has it, if it is not understood, among its EXIF."""
    return (file.read_raw_xmp(ANY) or _told(file.read_exif(ANY).get("Exif.Image.XMLPacket", ""))).strip()


def _is_empty(packet: str) -> bool:
    """Is there no XMP, or does it hold nothing?"""
    if not packet:
        return True
    try:
        rdf = next(ET.fromstring(packet).iter(f"{RDF}RDF"), None)
    except ET.ParseError:
        return False
    return rdf is not None and all(not len(one) and {*one.keys()} <= {f"{RDF}about"} for one in rdf)


def _texts(file: Any) -> Iterator[str]:
    exif = file.read_exif(ANY)
    yield from (exif.get(EXIF, ""), exif.get(XP_COMMENT, ""), _user_comment(exif.get(USER_COMMENT, "")))
    yield file.read_iptc(ANY).get(IPTC, "")


def _user_comment(value: str) -> str:
    """Without the name of its letters, which is the first eight bytes or a word."""
    told = _told(value)
    return told[8:] if told else re.sub(r"^charset=\w+ ", "", value)


def _told(value: str) -> str:
    """The letters of bytes that Exiv2 tells as numbers; none if it does not."""
    numbers = value.split()
    if all(re.fullmatch(r"\d{1,3}", number) and int(number) < 256 for number in numbers):
        return bytes(map(int, numbers)).decode("latin-1")
    return ""


def _says_something(text: str) -> bool:
    """Is there a text, and none that cameras write by themselves?"""
    said = text.replace("\0", "").strip().casefold()
    return bool(said) and said not in _BY_CAMERAS and not said.startswith("dcim")


def _reason(error: Exception) -> str:
    """Without the file's name, with which Exiv2 begins and the system ends."""
    return getattr(error, "strerror", None) or str(error).rpartition(": ")[2]


def _exiv2() -> ModuleType:
    try:
        import pyexiv2
    except ImportError as error:
        raise UserError("descriptions in image files need pip install 'captioner-jax[metadata]'") from error
    pyexiv2.set_log_level(4)  # nothing: what is wrong is raised
    return pyexiv2
