"""Whether a copy of an image file, in which metadata have changed, still shows all that the file shows."""

from pathlib import Path

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from captioner_jax.data.images import ImageError

SUBIFDS = 330
# What Exiv2 keeps of a TIFF: pages, and pictures within the first page; of those within others it keeps none.
PAGES, WITHIN = 4, 9


def check_copy(image: Path, copy: Path) -> None:
    """Raises ImageError where the copy shows something else, or may lack what Pillow does not see."""
    try:
        with Image.open(image) as before, Image.open(copy) as after:
            if isinstance(before, TiffImageFile):
                _check_pages(before)
            same = _frames(before) == _frames(after) and all(
                _is_same(before, after, number) for number in range(_frames(before))
            )
    except ImageError:
        raise
    except Exception as error:  # of whatever kind: Pillow has many for damaged files
        raise ImageError("not all of its pictures can be read, and they might be lost") from error
    if not same:
        raise ImageError("its pictures would not stay as they are")


def _check_pages(image: TiffImageFile) -> None:
    if image.n_frames > PAGES:
        raise ImageError(f"of its {image.n_frames} pages only {PAGES} would be left")
    for page in range(image.n_frames):
        image.seek(page)
        if _within(image) > (0 if page else WITHIN):
            raise ImageError("it has smaller pictures within its pages, which would be lost")


def _within(page: TiffImageFile) -> int:
    """How many pictures hang on this page, such as smaller forms of it."""
    found = page.tag_v2.get(SUBIFDS, ())
    return len(found) if isinstance(found, tuple) else 1


def _frames(image: Image.Image) -> int:
    return getattr(image, "n_frames", 1)


def _is_same(before: Image.Image, after: Image.Image, number: int) -> bool:
    before.seek(number)
    after.seek(number)
    alike = [(image.mode, image.size, image.getpalette()) for image in (before, after)]
    return alike[0] == alike[1] and before.tobytes() == after.tobytes()
