"""Scenes, what is said of them, and the checker of truth."""

import dataclasses
import re

import numpy as np
import pytest

from captioner_jax.data.shapes.captions import captions
from captioner_jax.data.shapes.scene import HELD_OUT, Scene, Thing, draw, make_scene
from captioner_jax.data.shapes.truth import judge, namings, read


def scene(seed, held_out=False):
    return make_scene(np.random.default_rng(seed), held_out=held_out)


RED = Thing("circle", "red", "striped", "small", 15.0, 15.0, 7.0)
BLUE = Thing("square", "blue", "plain", "large", 45.0, 15.0, 12.0)
TWO = Scene((RED, BLUE), "dark")


@pytest.mark.parametrize("held_out", [False, True])
def test_every_caption_is_true_and_names_everything(held_out):
    for seed in range(300):
        facts = scene(seed, held_out)
        told = captions(facts, np.random.default_rng(seed), 5)
        assert len(set(told)) == 5
        for caption in told:
            assert judge(caption, facts) == judge(caption.upper(), facts)
            assert judge(caption, facts).complete, (caption, facts)


def test_things_alike_in_colour_and_shape_are_counted():
    alike = dataclasses.replace(RED, x=45.0, size="large", radius=12.0)
    for things in ((RED, alike), (RED, alike, dataclasses.replace(BLUE, y=45.0))):
        told = captions(Scene(things, "dark"), np.random.default_rng(0), 5)
        assert len(set(told)) == 5
        assert all("two red" in caption for caption in told)


def test_the_two_sides_of_a_comparison_are_told_alike():
    told = [caption for seed in range(200) for caption in captions(TWO, np.random.default_rng(seed), 5)]
    smaller, larger = (sum(f"{word} than" in caption for caption in told) for word in ("smaller", "larger"))
    assert smaller + larger > 100
    assert 0.8 < smaller / larger < 1.25


def test_held_out_pairs_are_in_all_held_out_scenes_and_in_no_other():
    for seed in range(300):
        for held_out in (False, True):
            pairs = {(thing.colour, thing.shape) for thing in scene(seed, held_out).things}
            assert bool(pairs & HELD_OUT) == held_out


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle left of a blue square",
        "right of a red disc there is a big box",
        "a small striped red circle and a blue square",
        "there are two shapes, a red circle with stripes and a large square",
        "a blue square larger than a red circle",
        "from left to right, a red circle and a blue square",
        "a red circle at the top left",
        "one circle",
        "a red circle on a dark background",
        "on a dark background there are a red circle and a blue square",
    ],
)
def test_true_captions(caption):
    assert judge(caption, TWO).true


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle right of a blue square",
        "a red circle above a blue square",
        "a dotted red circle",
        "a red square",
        "two circles",
        "three shapes, a red circle and a blue square",
        "two shapes",
        "a red circle and a red circle",
        "a red circle larger than a blue square",
        "from left to right, a blue square and a red circle",
        "a red circle in the middle",
        "a red circle on a light background",
        "on a light background there is a red circle",
        "on a dark background there is a red circle on a light background",
        "a red circle of",
        "circle red a",
        "",
    ],
)
def test_false_captions(caption):
    assert not judge(caption, TWO).true


def test_a_number_is_exact_where_an_article_is_not():
    three = Scene((RED, dataclasses.replace(RED, y=35.0), dataclasses.replace(RED, y=55.0)), "dark")
    assert judge("three red circles", three).complete
    assert judge("a red circle", three).true
    assert not judge("two red circles", three).true


def test_what_cannot_be_read_is_said():
    with pytest.raises(ValueError, match="dog"):
        read("a red dog")


def test_the_same_seed_draws_the_same_pixels():
    facts = scene(1)
    first, again = (np.asarray(draw(facts, np.random.default_rng(5))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert Scene.from_json(facts.to_json()) == facts


def test_words_are_traced_to_the_things_that_they_name():
    circle = Thing("circle", "red", "plain", "large", 16.0, 16.0, 14.0)
    square = Thing("square", "blue", "striped", "small", 48.0, 48.0, 9.0)
    star = Thing("star", "blue", "plain", "small", 48.0, 16.0, 9.0)
    scene = Scene((circle, square, star), "dark")

    def told(caption, scene=scene):
        words = caption.split()
        return [(" ".join(words[i] for i in one.words), one.things) for one in namings(caption, scene)]

    assert told("a large red circle above a blue square with stripes") == [
        *(("a large red circle", {circle}), ("a blue square with stripes", {square}))
    ]
    assert told("on a dark background there is a blue star") == [("a blue star", {star})]
    assert told("a green circle above a blue square") == []
    twins = Scene((circle, dataclasses.replace(circle, x=48.0), square), "dark")
    assert told("two red circles and a blue square", twins) == [
        *(("two red circles", set(twins.things[:2])), ("a blue square", {square}))
    ]
    assert told("a red circle and a blue square", twins) == [("a blue square", {square})]  # which circle is open
    stars = Scene((star, dataclasses.replace(star, colour="pink", y=40.0)), "dark")
    assert told("two stars, one blue and one pink", stars) == [
        *(("one blue", {stars.things[0]}), ("and one pink", {stars.things[1]}))
    ]


def test_every_true_caption_of_different_things_is_traced_word_for_word():
    for i in range(60):
        scene = make_scene(np.random.default_rng(i), held_out=False)
        for caption in captions(scene, np.random.default_rng(i), 3):
            words = re.findall(r"\w+", caption)
            for one in namings(caption, scene):
                said = {words[j] for j in one.words}
                assert {thing.colour for thing in one.things} <= said
