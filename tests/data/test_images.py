"""Whatever Pillow opens becomes an upright RGB square; whatever it does not is refused in words."""

import io
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from captioner_jax.data.images import ImageError, Preprocessing, normalise, open_image, to_square, upright
from tests.data.making import encoded, picture

RED = (200, 30, 30)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("RGBA", "WEBP")],
)
def test_colour_survives_every_mode(mode, kind):
    image = open_image(encoded(picture(RED, mode=mode), kind), 16)
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image).mean((0, 1)), RED, atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "I", "F"])
def test_grey_survives_every_mode(mode):
    values = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode)
    if values:
        ramp = np.tile(np.linspace(0, 1 if mode == "F" else 65535, 16), (16, 1)).astype(values)
        data = encoded(Image.fromarray(ramp), "TIFF")
    else:
        data = encoded(Image.fromarray(np.tile(np.arange(0, 256, 16, np.uint8), (16, 1))).convert(mode))
    grey = np.asarray(open_image(data, 16)).astype(int)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert grey[:, :4].mean() < 80 < 170 < grey[:, -4:].mean()


@pytest.mark.parametrize(
    "ramp",
    [
        np.linspace(0, 255, 16).astype(np.int32),
        np.where(np.arange(16) == 3, np.nan, np.linspace(0, 1, 16)).astype(np.float32),
    ],
)
def test_grey_of_small_numbers_and_of_none_is_not_black(ramp):
    grey = np.asarray(open_image(encoded(Image.fromarray(np.tile(ramp, (16, 1))), "TIFF"), 16)).astype(int)
    assert grey[:, :4].mean() < 80 < 170 < grey[:, -4:].mean()


def test_transparent_is_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert np.asarray(open_image(encoded(clear), 8)).min() == 255


def test_exif_orientation_is_followed():
    image = picture((0, 0, 0), (20, 10))
    image.paste((255, 255, 255), (0, 0, 20, 5))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the white half comes to lie on the right
    turned = np.asarray(open_image(encoded(image, "PNG", exif=exif), 8))
    assert turned.shape == (20, 10, 3)
    assert turned[:, 6:].min() == 255
    assert turned[:, :4].max() == 0


def test_what_breaks_pillow_is_an_image_that_cannot_be_used():
    """It turns this picture, and cannot write a width that is told as text."""
    tag = lambda number, kind, value: struct.pack("<HHI", number, kind, 1) + value
    turned, width = tag(274, 3, struct.pack("<HH", 6, 0)), tag(257, 2, b"7\0\0\0")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + width + turned + bytes(4)
    with pytest.raises(ImageError, match="the image is damaged"):
        open_image(encoded(picture(RED), "JPEG", exif=exif), 16)


def test_warnings_of_others_stay_as_they_are():
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: open_image(data, 16), [encoded(picture(RED), "JPEG")] * 64))
    assert warnings.filters == before


def test_the_first_frame_of_an_animation():
    frames = [picture((0, 0, 0)), picture((255, 255, 255))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(open_image(data, 8)).max() == 0


def odd_dds():
    """Of a kind of pixels that Pillow does not know."""
    data = bytearray(encoded(picture(), "DDS"))
    data[80:88] = (4).to_bytes(4, "little") + b"ODD?"
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty, gone or unreadable"),
        (odd_dds(), "of a kind that Pillow cannot read: Unimplemented"),
        (b"hello, I am text", "not an image"),
        (encoded(picture(), "EPS"), "EPS, which is a program, and not run here"),
        (b"\xc5\xd0\xd3\xc6" + bytes(26) + encoded(picture(), "EPS"), "EPS, which is a program"),
        (encoded(picture(size=(300, 300)), "JPEG")[:400], "damaged"),
        (encoded(picture(size=(300, 300)), "PNG")[:200], "damaged"),
        (b"\xff\xd8\xff\xe0 fake", "not an image|damaged"),
    ],
)
def test_what_is_no_whole_image_is_refused(data, message):
    with pytest.raises(ImageError, match=message):
        open_image(data, 32)


def test_heic_is_read_where_it_can_be_and_else_said_to_be_heic(monkeypatch):
    pytest.importorskip("pillow_heif", reason="HEIC takes the extra heic")
    data = encoded(picture(RED, size=(64, 64)), "HEIF")
    assert data[4:8] == b"ftyp"
    np.testing.assert_allclose(np.asarray(open_image(data, 16)).mean((0, 1)), RED, atol=6)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(ImageError, match="HEIC, which pip install 'captioner-jax"):
        open_image(data, 16)


@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_a_damaged_picture_that_was_opened_elsewhere_is_refused(keep):
    data = encoded(Image.effect_noise((300, 300), 50), "PNG")
    with Image.open(io.BytesIO(data[: int(keep * len(data))])) as image, pytest.raises(ImageError, match="damaged"):
        upright(image)


def test_a_jpeg_may_be_of_a_telephone_with_200_million_pixels():
    def of(side):
        """So large by its header; of the rest a decoder makes what it can."""
        data = bytearray(encoded(picture(size=(64, 64)), "JPEG"))
        place = data.index(b"\xff\xc0") + 5  # of height and width, in the header of the frame
        data[place : place + 4] = side.to_bytes(2) * 2
        return bytes(data)

    assert open_image(of(14_100), 224).size == (1763, 1763)  # an eighth of its sides
    for side, smallest in ((14_100, 14_100), (20_100, 224)):
        with pytest.raises(ImageError, match="179 million pixels; JPEGs may have 400 million"):
            open_image(of(side), smallest)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="pixels"):
        open_image(encoded(picture(size=(30, 30))), 8)


@pytest.mark.parametrize("framing", ["middle", "whole"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 3), (17, 16)])
def test_any_size_becomes_the_square(size, framing):
    square = to_square(picture(RED, size), 16, framing)
    assert square.shape == (16, 16, 3)
    np.testing.assert_allclose(square.mean((0, 1)), RED, atol=1)


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
def test_the_middle_is_in_shape_and_the_whole_has_the_edges(size):
    """A red square in the middle of something blue, three times as long as it."""
    blue, red = (0, 0, 255), (255, 0, 0)
    image = Image.new("RGB", size, blue)
    corner = np.subtract(size, 32) // 2
    image.paste(red, (*corner.tolist(), *(corner + 32).tolist()))
    middle, whole = (to_square(image, 24, framing) for framing in ("middle", "whole"))
    assert (middle[2:-2, 2:-2] == red).all()  # at its edges the next pixels are heard
    for start, colour in ((0, blue), (10, red), (20, blue)):
        part = whole[:, start : start + 4] if size[0] > size[1] else whole[start : start + 4]
        assert (part == colour).all()


def test_normalisation_from_its_formula():
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), dtype=np.uint8))
    how = Preprocessing(4, mean=(0.1, 0.2, 0.3), deviation=(0.5, 0.25, 2.0))
    expected = (np.asarray(pixels, np.float64) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    np.testing.assert_allclose(normalise(pixels, how), expected, rtol=1e-5, atol=1e-6)
