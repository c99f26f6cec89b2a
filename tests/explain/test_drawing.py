"""Maps lie on the picture where the captioner saw what they tell of."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from captioner_jax.data.images import seen_of, to_square
from captioner_jax.explain import drawing
from captioner_jax.explain.drawing import DARKEST, GAP, TEXT, TILE, font_for, overlaid, sheet


def photograph(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(100, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("framing", ["middle", "whole"])
@pytest.mark.parametrize("size", [(120, 80), (80, 120), (81, 120), (100, 100)])
def test_the_square_is_what_the_captioner_sees(size, framing):
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    left, top, width, height = seen_of(*size, framing)
    seen = picture.resize((40, 40), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    np.testing.assert_allclose(np.asarray(seen, int), to_square(picture, 40, framing), atol=2)


@pytest.mark.parametrize(
    ("size", "framing", "centre", "dark"),
    [  # the first of 4 x 4 cells, and what lies just beside it
        ((160, 80), "middle", (50, 10), (0, 0)),
        ((80, 160), "middle", (10, 50), (0, 0)),
        ((160, 80), "whole", (20, 10), (20, 45)),
        ((80, 160), "whole", (10, 20), (45, 20)),
    ],
)
def test_the_cell_that_is_looked_at_is_in_full_colour_and_the_rest_dark(size, framing, centre, dark):
    picture, map_ = photograph(*size), np.zeros((4, 4), np.float32)
    map_[0, 0] = 0.5
    before, after = np.asarray(picture, int), np.asarray(overlaid(picture, map_, framing), int)
    x, y = centre
    np.testing.assert_allclose(after[y, x], before[y, x], atol=30)
    grey = DARKEST * np.asarray(picture.convert("L"), float)
    for place in (dark[::-1], (size[1] - 1, size[0] - 1), (size[1] // 2 + 30, size[0] // 2 + 30)):
        np.testing.assert_allclose(after[place], grey[place], atol=1)


def test_a_map_that_is_the_same_everywhere_leaves_the_picture_as_it_is():
    picture = photograph(50, 50)
    np.testing.assert_array_equal(overlaid(picture, np.full((3, 3), 0.1), "middle"), picture)


def test_a_sheet_has_a_tile_for_each_word():
    picture = photograph(60, 30)
    one = sheet(picture, ["a"] * 4, [np.ones((2, 2))] * 4, "note", "middle")
    two = sheet(picture, ["a"] * 5, [np.ones((2, 2))] * 5, "note", "middle")
    assert two.width == one.width
    assert two.height > one.height  # six tiles take a second row


def test_letters_are_drawn_by_a_font_that_has_them(monkeypatch):
    monkeypatch.setattr(drawing, "FONTS", ("none.ttf", "DejaVuSans.ttf"))
    try:
        has_letters = ImageFont.truetype("DejaVuSans.ttf", 17).getname()
    except OSError:
        pytest.skip("DejaVu Sans is not installed here")
    assert font_for("ein Bär läuft über die Straße", 17).getname() == has_letters
    assert font_for("a bear", 17).getname() != has_letters


def test_each_map_stands_under_its_word_the_right_way_round(monkeypatch):
    """Of the i-th word row i is bright; the first tile is the picture."""
    titles = {}
    noted = lambda self, place, text, *_, **__: titles.__setitem__(text, place)
    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, "text", noted)
    maps = [np.eye(4)[i][:, None] * np.ones(4) for i in range(3)]
    page = sheet(Image.new("RGB", (TILE, TILE), "white"), ["a", "b", "c"], maps, "-", "middle")
    page = np.asarray(page.convert("L"), float)
    assert titles[""] == (GAP, GAP)
    for i, word in enumerate("abc"):
        left, top = titles[word]
        column = page[top + TEXT : top + TEXT + TILE, left + TILE // 2]
        assert column.reshape(4, -1).mean(1).argmax() == i
