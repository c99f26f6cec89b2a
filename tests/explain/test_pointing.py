"""The pointing game on a scene whose truth is known."""

import numpy as np

from captioner_jax.data.shapes.scene import PICTURE, Scene, Thing
from captioner_jax.explain.pointing import cells_on, hits, pointers

RED = Thing("circle", "red", "plain", "large", 16.0, 16.0, 14.0)
BLUE = Thing("square", "blue", "plain", "small", 48.0, 44.0, 9.0)
SCENE = Scene((RED, BLUE), "dark")


def peak(y, x):
    return np.eye(64)[8 * y + x].reshape(8, 8)


def test_the_cells_on_a_thing_are_those_in_its_box():
    on = cells_on([RED], (8, 8))
    assert [*on.any(0)] == [*on.any(1)] == [True] * 4 + [False] * 4  # centres at 4, 12, 20, 28: 2 to 30
    fine = cells_on([RED], (320, 320)).mean()
    np.testing.assert_allclose(fine, (2 * RED.radius / PICTURE) ** 2, rtol=0.01)
    both = cells_on([RED, BLUE], (16, 8))
    np.testing.assert_array_equal(both, cells_on([RED], (16, 8)) | cells_on([BLUE], (16, 8)))


def test_colour_and_shape_words_of_true_captions_point_at_their_things():
    found = pointers(["a", "red", "circle", "above", "a", "small", "blue", "box"], SCENE, (8, 8))
    assert [(one.place, one.is_colour) for one in found if one.targets[2, 2]] == [(1, True), (2, False)]
    assert [(one.place, one.is_colour) for one in found if one.targets[5, 5]] == [(6, True), (7, False)]
    assert pointers(["a", "red", "circle", "above", "a", "large", "blue", "box"], SCENE, (8, 8)) == []  # it is small


def test_hits_are_counted_by_kind_of_word_and_chance_is_the_share_of_the_cells():
    found = pointers(["a", "red", "circle", "and", "a", "blue", "square"], SCENE, (8, 8))
    right, wrong = [peak(1, 1), peak(1, 1), peak(5, 5), peak(5, 5)], [peak(7, 0)] * 4
    counted = hits(found, {"right": right, "wrong": wrong, "half": [*right[:2], *wrong[2:]]})
    assert counted["right"] == (1, 1)
    assert counted["wrong"] == (0, 0)
    assert counted["half"] == (0.5, 0.5)
    expected = (cells_on([RED], (8, 8)).mean() + cells_on([BLUE], (8, 8)).mean()) / 2
    np.testing.assert_allclose(counted["chance"], expected)


def test_of_words_that_are_not_there_nothing_is_told():
    found = [one for one in pointers(["a", "red", "circle"], SCENE, (8, 8)) if one.is_colour]
    assert hits(found, {"right": [peak(1, 1)]})["right"] == (1, None)


def test_cells_are_counted_from_the_top_left():
    thing = Thing("circle", "red", "plain", "large", 0.75 * PICTURE, 0.25 * PICTURE, PICTURE / 8)
    on = cells_on([thing], (4, 8))
    assert on[1, 6]
    assert not on[3, 2]
