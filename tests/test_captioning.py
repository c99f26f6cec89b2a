"""Pictures are captioned as captioners are scored, though in another form."""

import dataclasses
import io
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from captioner_jax import captioning
from captioner_jax.captioning import BATCH, FEW, Captioner
from captioner_jax.config import EncoderConfig
from captioner_jax.data.images import ImageError
from captioner_jax.devices import device_count
from captioner_jax.explain.drawing import GAP, TEXT, TILE
from captioner_jax.generation.neighbours import Photographs, index
from captioner_jax.generation.search import Found
from captioner_jax.generation.settings import Generation
from captioner_jax.generation.writing import make_writer
from captioner_jax.showing import show
from captioner_jax.text.special import END
from captioner_jax.text.tokenizer import train_bpe
from tests.data.making import encoded, picture
from tests.making import FUSIONS, untrained


def test_batch_norms_are_folded_and_captions_are_those_of_the_captioner_as_it_was_trained():
    whole = untrained(image_size=32, encoder=EncoderConfig("resnet18", ends_after=1))
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda x: x + rng.uniform(0, 0.2, x.shape).astype(x.dtype), whole.parameters["encoder"])
    whole = dataclasses.replace(whole, parameters=whole.parameters | {"encoder": moved})  # not the norms of the start
    pixels = rng.integers(0, 255, (4, 32, 32, 3), np.uint8)
    write = make_writer(whole.graphdef, whole.preprocessing, length=whole.max_length, beams=3)
    expected = write(whole.parameters, pixels)
    found = Captioner(whole).captions([Image.fromarray(picture) for picture in pixels], beam=3, good_ending=False)
    assert found == Captioner(whole).captions(list(jax.numpy.asarray(pixels)), beam=3, good_ending=False)
    assert [one.text for one, *_ in found] == [whole.tokenizer.decode(ids) for ids in np.asarray(expected.tokens[:, 0])]
    np.testing.assert_allclose([one.log_p for one, *_ in found], expected.log_p[:, 0], rtol=1e-4)
    assert len({one.log_p for one, *_ in found}) == 4  # each picture is seen


def test_who_sees_the_whole_writes_of_a_picture_what_it_writes_of_it_squeezed():
    rng = np.random.default_rng(0)
    wide = Image.fromarray(rng.integers(0, 255, (16, 64, 3), np.uint8).astype(np.uint8))
    whole, middle = (Captioner(untrained(framing=framing)) for framing in ("whole", "middle"))
    asked = {"beam": 3, "num_captions": 3}
    squeezed = wide.resize((16, 16), Image.Resampling.BICUBIC)
    cut = wide.crop((24, 0, 40, 16))
    assert whole.captions([wide], **asked) == middle.captions([squeezed], **asked)
    assert middle.captions([wide], **asked) == middle.captions([cut], **asked) != whole.captions([wide], **asked)


@pytest.mark.parametrize("framing", ["whole", "middle"])
def test_what_it_did_not_see_of_a_picture_is_dark(framing, tmp_path):
    red = encoded(Image.new("RGB", (90, 30), (200, 0, 0)))
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    show(Captioner(untrained(framing=framing)), red, "red.png", Generation(beam=2), sheet, page)
    seen = re.search(r'"seen": \[(.*?)\]', page.read_text()).group(1)
    np.testing.assert_allclose(json.loads(f"[{seen}]"), [0, 0, 1, 1] if framing == "whole" else [1 / 3, 0, 1 / 3, 1])
    left = Image.open(sheet).getpixel((GAP + TILE + GAP + 4, GAP + TEXT + 30))  # of the first word's picture
    assert (left[0] > left[1]) == (framing == "whole")


def test_parameters_are_put_on_the_device_once_and_not_at_every_call():
    whole = untrained()
    in_files = dataclasses.replace(whole, parameters=jax.tree.map(np.asarray, whole.parameters))
    (model,) = Captioner(in_files)._models
    assert {isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(model.parameters)} == {True}


PICTURE = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_bfloat16_finds_words_as_likely_and_looks_where_float32_does_but_for_rounding(fusion):
    """Told of the same caption by both: 8 bits of precision are a few parts in a hundred after two blocks."""
    precise, rounded = (Captioner(untrained(fusion), precision=kind) for kind in ("float32", "bfloat16"))
    written = rounded.written(PICTURE, Generation())
    expected, found = (one.explained(written) for one in (precise, rounded))
    assert not np.array_equal(found.probabilities, expected.probabilities)
    np.testing.assert_allclose(np.log(found.probabilities), np.log(expected.probabilities), atol=0.1)
    np.testing.assert_allclose(found.looks, expected.looks, atol=0.02)


def test_a_precision_that_does_not_exist_is_said():
    """In a process of its own: here annotations are checked first."""
    ask = "from captioner_jax import Captioner; Captioner.load(precision='bf16')"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stderr
    assert "UserError: precision 'bf16': there are float32 and bfloat16" in said


@pytest.mark.parametrize("asked", [{}, {"beam": 6, "consensus": 8, "neighbours": 3}, {"temperature": 1.0}])
def test_in_bfloat16_captioners_take_half_the_room_and_can_do_all_that_they_can(asked):
    rng = np.random.default_rng(0)
    seen, captions = rng.normal(size=(12, 32)).astype(np.float16), rng.integers(4, 12, (12, 1, 9)).astype(np.int16)
    whole, other = (dataclasses.replace(untrained(seed=n), photographs=Photographs(seen, captions)) for n in (3, 4))
    precise, rounded = (Captioner(whole, precision=kind) for kind in ("float32", "bfloat16"))
    held = [sum(x.nbytes for x in jax.tree.leaves(one._models[0].parameters)) for one in (precise, rounded)]
    assert held[1] < 0.6 * held[0]
    assert rounded.caption(PICTURE, **asked)[0]
    assert Captioner(whole, other, precision="bfloat16").caption(PICTURE, **asked)[0]
    written = rounded.written(PICTURE, Generation())
    assert all(np.isfinite(x).all() for x in rounded.grounded(written))
    assert rounded.searched(written, Generation())


def test_kept_photographs_are_indexed_once_however_captions_are_asked_for(monkeypatch):
    rng, indexed = np.random.default_rng(0), []
    seen, captions = rng.normal(size=(12, 32)).astype(np.float16), rng.integers(4, 12, (12, 1, 9)).astype(np.int16)
    captioner = Captioner(dataclasses.replace(untrained(), photographs=Photographs(seen, captions)))
    monkeypatch.setattr(captioning, "index", lambda kept: indexed.append(kept) or index(kept))
    for beam in (2, 3):
        captioner.caption(PICTURE, beam=beam, consensus=2, neighbours=3)
    assert len(indexed) == 1


@pytest.mark.parametrize("pictures", [None, 3, io.StringIO("a.jpg")])
def test_what_are_no_pictures_at_all_is_said(pictures):
    with pytest.raises(ImageError, match="wanted a picture, or a list of them"):
        captioning._several(pictures)  # types are looked at before, in tests


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature = -1"),
        ({"top_p": 5.0}, "top_p = 5"),
        ({"num_captions": 0}, "num_captions = 0"),
        ({"beam": "3"}, "beam = '3'"),
        ({"seed": -1}, "seed = -1"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_settings_that_are_made_by_hand_are_looked_at_too(settings, message):
    ask = (
        "from captioner_jax import Captioner\n"
        "from captioner_jax.generation.settings import Generation\n"
        f"[*Captioner.load().stream(['a.jpg'], Generation(**{settings!r}))]"
    )
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stderr
    assert "UserError: settings: " + message in said


def test_any_number_of_pictures_takes_three_programs():
    """One for a picture by itself, one for some, and one for many."""
    captioner, rows = Captioner(untrained()), set()

    def write(parameters, pixels, numbers, seed):
        rows.add(len(pixels))
        return Found(np.full((len(pixels), 1, 9), END), *np.zeros((2, len(pixels), 1), np.float32))

    captioner._compiled = lambda asked: write
    few, many = FEW * device_count(), BATCH * device_count()
    for count in (1, 2, 3, many - 1, many, many + 2):
        assert len(captioner.captions([np.zeros((16, 16, 3), np.uint8)] * count)) == count
    assert rows == {1, few, many}


def test_captions_of_a_picture_that_read_the_same_are_one():
    """Pairs of bytes spell a word in several ways."""
    tokenizer = train_bpe(["a dog on the grass", "the dog on a ball"] * 3, 300)
    captioner = Captioner(untrained(tokenizer=tokenizer))
    letters = np.asarray([*(tokenizer.encode_all([letter])[0][0] for letter in " the dog"), END])
    tokens = np.stack([tokenizer.encode(" the dog", len(letters))[1:], letters])
    found = captioner._captions(tokens, np.asarray([-1.0, -2.0]), np.asarray([0.5, 0.4]))
    assert [(one.text, one.log_p) for one in found] == [("the dog", -1.0)]


def test_a_picture_may_be_bytes_of_any_kind_or_a_file_that_is_open(tmp_path):
    captioner = Captioner(untrained())
    content = encoded(picture(size=(20, 16)))
    (tmp_path / "a.png").write_bytes(content)
    with open(tmp_path / "a.png", "rb") as file:
        pictures = [content, bytearray(content), file, io.BytesIO(content), tmp_path / "a.png"]
        assert len(set(captioner.caption(pictures, beam=np.int64(2)))) == 1
        file.seek(0)
        assert len(captioner.caption(file, beam=2)) == 1
    ((_, error),) = captioner.stream([None], Generation(beam=2))
    assert str(error) == "wanted an image, an array, bytes or a path, not NoneType"


def test_a_name_that_no_file_can_have_is_no_picture():
    with pytest.raises(ImageError, match="null"):
        Captioner(untrained()).captions("a\0b")
