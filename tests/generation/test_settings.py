"""What people ask for is what they get, and what cannot be had is refused in words."""

import jax
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.generation.settings import Generation, make_search
from captioner_jax.generation.writing import Untrained, halves, image_keys, make_asked_writer
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.special import END
from captioner_jax.text.tokenizer import train_bpe, train_words

TOKENIZER = train_words(["a photo of the red dog with one ball", "two dogs run and run on grass"], 1)
MODEL = ModelConfig(width=16, heads=2, feed_forward=32, layers=1, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1)))


def captions(asked, seed=0):
    graphdef, variables = nnx.split(Captioner(MODEL, len(TOKENIZER), rngs=nnx.Rngs(3)))
    write = make_asked_writer([Untrained(graphdef, Preprocessing(16))], make_search(asked, TOKENIZER, 8))
    images = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    found = write([nnx.to_pure_dict(variables)], images, np.arange(2, dtype=np.uint32), halves(seed))
    assert np.isfinite(found.scores).all()
    return [[TOKENIZER.decode(ids) for ids in of_image] for of_image in np.asarray(found.tokens)]


def test_a_search_keeps_to_what_is_asked():
    asked = Generation(
        beam=4, num_captions=3, prefix="a photo", must_say=("ball",), banned=("red",), no_repeat_ngram=2, min_length=5
    )
    for of_image in captions(asked):
        assert len(set(of_image)) == 3
        for caption in of_image:
            words = caption.split()
            assert caption.startswith("a photo")
            assert 5 <= len(words) <= 7
            assert "ball" in words
            assert "red" not in words
            assert words[-1] not in {"a", "of", "the", "with", "and", "on"}


def test_what_must_be_said_and_cannot_come_last_comes_before():
    """With words drawn at random, which lead nowhere by themselves; told twice, a word is asked for once."""
    for seed in range(5):
        asked = Generation(must_say=("of", "the", "of"), temperature=3.0, max_length=4)
        for (caption,) in captions(asked, seed):
            words = caption.split()
            assert {"of", "the"} <= set(words)
            assert words[-1] not in {"of", "the"}


def test_draws_differ_from_each_other_and_between_seeds():
    asked = Generation(temperature=1.5, top_p=0.95, num_captions=4, max_length=5, seed=1)
    first, again, other = captions(asked), captions(asked), captions(asked, seed=1)
    assert first == again != other
    for of_image in first:
        assert len(set(of_image)) == 4
        assert all(len(caption.split()) <= 5 for caption in of_image)


def test_consensus_chooses_among_the_beam():
    beam = captions(Generation(beam=6, num_captions=6, prefix="a", banned=("red",)))
    asked = Generation(beam=6, num_captions=6, prefix="a", banned=("red",), consensus=40)
    chosen, again = captions(asked), captions(asked)
    assert chosen == again != beam
    assert [sorted(of_image) for of_image in chosen] == [sorted(of_image) for of_image in beam]
    best_alone = captions(Generation(beam=6, prefix="a", banned=("red",), consensus=40))
    assert best_alone == [of_image[:1] for of_image in chosen]


def test_what_is_drawn_for_a_consensus_is_drawn_as_asked():
    hot, cold = (captions(Generation(beam=6, consensus=40, temperature=tau)) for tau in (9.0, 0.01))
    assert hot != cold
    assert cold == captions(Generation(beam=6, consensus=1, top_k=1))


def test_a_good_ending_is_a_choice():
    likely = Generation(temperature=100.0, num_captions=30, max_length=2, good_ending=False)
    bad = {"a", "of", "the", "with", "and", "on"}
    assert bad & {caption.split()[-1] for of_image in captions(likely) for caption in of_image if caption}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Generation(prefix="a zebra, tutu, zebra"), "prefix: the captioner's vocabulary does not have 'zebra', 'tutu'"),
        (Generation(banned=("zebra",)), "banned"),
        (Generation(must_say=("red dog",)), "'red dog' is 2 tokens"),
        (Generation(max_length=8), "writes up to 7 words"),
        (Generation(min_length=8), "min_length 8 is more than the 7"),
        (Generation(max_length=3, prefix="a photo", must_say=("red", "dog")), "more than the 3 words"),
        (Generation(beam=2, num_captions=3), "takes a beam at least as wide"),
        (Generation(beam=1, consensus=10), "a beam of 1 has one"),
        (Generation(beam=4, groups=3), "does not divide into 3 groups"),
        (Generation(beam=4, groups=2, top_k=3), "groups are for beams"),
        (Generation(beam=4, groups=2, must_say=("dog",)), "cannot be had together"),
        (Generation(beam=4, diversity=1.0), "diversity keeps groups of beams apart"),
        (Generation(banned=("dog",), must_say=("dog",)), "banned: 'dog' is in prefix or must_say, too"),
        (Generation(banned=("photo",), prefix="a photo"), "banned: 'photo' is in prefix"),
        (Generation(max_length=3, prefix="a photo of"), "would end with it, and badly"),
        (Generation(max_length=3, prefix="red dog", must_say=("of",)), "must_say: in 3 words it would be"),
    ],
)
def test_what_cannot_be_had_is_refused(asked, message):
    with pytest.raises(UserError, match=message):
        make_search(asked, TOKENIZER, 8)


def test_captions_too_long_to_be_compared_are_refused():
    make_search(Generation(), TOKENIZER, 200)
    make_search(Generation(consensus=10, max_length=126), TOKENIZER, 200)
    with pytest.raises(UserError, match="consensus compares captions of up to 127 tokens, and these may have 200"):
        make_search(Generation(consensus=10), TOKENIZER, 200)


def test_pairs_of_bytes_end_well_and_are_asked_for_no_words():
    """Inside a caption "the" has a space before it, which belongs to the token."""
    tokenizer = train_bpe(["a dog on the grass", "the dog on a ball"] * 3, 300)
    (the,) = tokenizer.encode_all([" the"])[0]
    prefix = tokenizer.encode_all(["a dog on the"])[0]
    graphdef, variables = nnx.split(Captioner(MODEL, len(tokenizer), rngs=nnx.Rngs(3)))
    images = np.random.default_rng(0).integers(0, 255, (1, 16, 16, 3), dtype=np.uint8)
    assert prefix[-1] == the

    def follow(**asked):
        """All that may come after the prefix, where there is room for one token more."""
        asked = Generation(beam=len(tokenizer), num_captions=len(tokenizer), prefix="a dog on the", **asked)
        search = make_search(asked, tokenizer, len(prefix) + 2)
        write = make_asked_writer([Untrained(graphdef, Preprocessing(16))], search)
        found = write([nnx.to_pure_dict(variables)], images, np.zeros(1, np.uint32), halves(0))
        return set(np.asarray(found.tokens)[0, np.isfinite(found.scores[0]), len(prefix)].tolist())

    assert END in follow(good_ending=False)
    assert END not in follow()
    for asked in ({"banned": ("dog",)}, {"must_say": ("dog",)}):
        with pytest.raises(UserError, match="takes a captioner that writes whole words"):
            make_search(Generation(**asked), tokenizer, 8)


def test_large_seeds_draw_otherwise_than_small_ones():
    numbers = np.zeros(1, np.uint32)
    keys = [jax.random.key_data(image_keys(halves(seed), numbers)).tolist() for seed in (5, 5 + 2**32, 5 + 2**33)]
    assert keys[0] != keys[1] != keys[2] != keys[0]


@pytest.mark.parametrize("seed", [0, 5, 2**31 + 1, 2**32 - 1, 5 + 2**33])
def test_keys_are_those_of_jax_by_the_seed_and_the_number(seed):
    of_seed = jax.random.key(seed % 2**32)
    of_seed = of_seed if seed < 2**32 else jax.random.fold_in(of_seed, seed // 2**32)
    keys = image_keys(halves(seed), np.array([7, 2**32 - 1], np.uint32))
    for key, number in zip(keys, (7, 2**32 - 1), strict=True):
        assert key == jax.random.fold_in(of_seed, number)
