"""Captions inside image files, where picture managers look for a description; the pixels stay as they are.

What would not stay is refused. XMP dc:description and IPTC's alternative text, and EXIF's ImageDescription, by Exiv2.
"""

import shutil
from pathlib import Path
from types import ModuleType

from captioner_jax.data.images import ImageError
from captioner_jax.errors import UserError
from captioner_jax.files import beside
from captioner_jax.frames import check_copy

XMP = ("Xmp.dc.description", "Xmp.iptc.AltTextAccessibility")
EXIF = "Exif.Image.ImageDescription"


def is_described(image: Path) -> bool:
    """Has the file a description already? Raises ImageError where it cannot be read."""
    exiv2 = _exiv2()
    try:
        with exiv2.Image(str(image)) as file:
            described = file.read_xmp().keys() & set(XMP) or file.read_exif().get(EXIF, "").strip()
            return bool(described)
    except (RuntimeError, UnicodeError) as error:
        raise ImageError(f"its description cannot be read: {_reason(error)}") from error


def describe(image: Path, caption: str) -> None:
    """Writes the caption into the file, which is there whole at any time.

    Raises ImageError where this kind of file takes none, where something else would be lost, and where it cannot be
    written.
    """
    exiv2 = _exiv2()
    image = image.resolve()  # a link stays one
    partial = beside(image)
    try:
        shutil.copy2(image, partial)
        with exiv2.Image(str(partial)) as file:
            file.modify_xmp({key: {'lang="x-default"': caption} for key in XMP})
            file.modify_exif({EXIF: caption})
        check_copy(image, partial)
        partial.replace(image)
    except (RuntimeError, OSError, UnicodeError, ImageError) as error:
        raise ImageError(f"its description cannot be written: {_reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


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
