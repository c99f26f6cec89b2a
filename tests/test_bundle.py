"""A captioner directory gives back what was put in, and damage does not pass unseen."""

import dataclasses
import functools
import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from captioner_jax import bundle, release
from captioner_jax.bundle import CARD, TOKENIZER, WEIGHTS, Bundle
from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.tokenizer import train_words
from tests.making import untrained

MODEL = ModelConfig(width=16, heads=2, feed_forward=32, layers=2, encoder=EncoderConfig("convnet", 4, (16, 32), (1, 1)))


@pytest.fixture
def saved(tmp_path):
    tokenizer = train_words(["a red dog"], 1)
    captioner = Captioner(MODEL, len(tokenizer), rngs=nnx.Rngs(0))
    parameters = nnx.to_pure_dict(nnx.state(captioner))
    whole = Bundle(MODEL, Preprocessing(16), 6, tokenizer, parameters, {"loss": 1.5}, {"step": 3})
    whole.save(tmp_path / "run" / "captioner")
    return whole, tmp_path / "run" / "captioner"


def test_what_is_saved_is_loaded(saved):
    whole, directory = saved
    again = bundle.load(directory)
    jax.tree.map(np.testing.assert_array_equal, again.parameters, whole.parameters)
    assert (again.model, again.preprocessing, again.max_length) == (MODEL, Preprocessing(16), 6)
    assert (again.scores, again.training) == ({"loss": 1.5}, {"step": 3})
    assert again.tokenizer.encode("a red dog", 6).tolist() == whole.tokenizer.encode("a red dog", 6).tolist()
    assert again.graphdef == nnx.graphdef(Captioner(MODEL, len(whole.tokenizer), rngs=nnx.Rngs(1)))


def test_another_takes_its_place_and_nothing_is_left_over(saved):
    whole, directory = saved
    whole.save(directory)
    assert [path.name for path in directory.parent.iterdir()] == ["captioner"]
    assert len({path.stat().st_mode for path in directory.iterdir()}) == 1  # whoever may read one may read all


def test_a_released_one_is_half_as_large_and_computes_with_32_bits(saved, tmp_path):
    whole, directory = saved
    assert release.main([str(directory), str(tmp_path / "half")]) == 0
    full, half = (
        sum(x.nbytes for x in safetensors.numpy.load_file(folder / WEIGHTS).values())
        for folder in (directory, tmp_path / "half")
    )
    assert full == 2 * half
    again = bundle.load(tmp_path / "half").parameters
    assert {x.dtype for x in jax.tree.leaves(again)} == {np.dtype(np.float32)}
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2**-8), again, whole.parameters)


def test_what_lies_between_two_has_a_share_of_each(saved, tmp_path, capsys):
    one, directory = saved
    encoder = dataclasses.replace(one.model.encoder, normalisation="imagenet")  # which the numbers are by, anyhow
    other = dataclasses.replace(
        one,
        model=dataclasses.replace(one.model, encoder=encoder),
        parameters=jax.tree.map(lambda x: x + 1, one.parameters),
        training={"run": "first"},
    )
    other.save(tmp_path / "other")
    between = ["--between", str(tmp_path / "other")]
    assert release.main([str(directory), str(tmp_path / "mean"), *between, "--share", "0.25"]) == 0
    mean = bundle.load(tmp_path / "mean")
    expected = jax.tree.map(lambda x: np.asarray(x) + 0.25, one.parameters)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2**-8, atol=2**-8), mean.parameters, expected)
    assert (mean.scores, mean.training["between"]) == ({}, {"run": "first", "share": 0.25})
    assert release.main([str(directory), str(tmp_path / "none"), *between, "--share", "2"]) == 1
    for half in (between, ["--share", "0.25"]):
        assert release.main([str(directory), str(tmp_path / "none"), *half]) == 1
        assert "give both, or neither" in capsys.readouterr().err
    otherwise = dataclasses.replace(one.model, position_scale=1.0)
    dataclasses.replace(one, model=otherwise).save(tmp_path / "otherwise")
    between[1] = str(tmp_path / "otherwise")
    assert release.main([str(directory), str(tmp_path / "none"), *between, "--share", "0.25"]) == 1
    assert "these are of two" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_release_replaces_nothing(saved, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert release.main([str(saved[1]), str(tmp_path / "there")]) != 0
    assert "is there already" in capsys.readouterr().err
    assert not list((tmp_path / "there").iterdir())


def test_a_release_that_cannot_be_written_is_said(saved, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert release.main([str(saved[1]), str(tmp_path / "file" / "half")]) == 1
    assert f"error: {tmp_path}/file/half: Not a directory" in capsys.readouterr().err


def test_the_model_card_tells_what_is_known_and_is_free_to_change(saved):
    whole, directory = saved
    told = (directory / "README.md").read_text()
    assert "| loss | 1.500 |" in told
    assert "for 3 steps" in told
    assert f"| parameters | {sum(leaf.size for leaf in jax.tree.leaves(whole.parameters)):,} |" in told
    assert "convnet, pictures of 16 x 16" in told
    assert all(f"## {part}\n" in told for part in ("Data", "Scores", "Licence", "Limits"))
    assert "whoever trained the captioner should say" in told
    (directory / "README.md").write_text("mine")
    bundle.load(directory)


def test_what_is_seen_of_pictures_is_told_and_stays(saved):
    _, directory = saved
    assert "the middle square of a picture" in (directory / "README.md").read_text()
    untrained(framing="whole").save(directory)
    assert "squeezed into the square" in (directory / "README.md").read_text()
    again = bundle.load(directory)
    assert (again.preprocessing.framing, again.trained_on.framing) == ("whole", "whole")


def test_the_model_card_tells_all_of_the_training(saved):
    whole, directory = saved
    start = {"run": "second", "step": 50, "start": {"run": "first", "step": 900}}
    between = {"run": "second", "share": 0.7}
    dataclasses.replace(whole, training={"step": 7, "start": start, "between": between}).save(directory)
    told = (directory / "README.md").read_text()
    assert "for 7 steps, after `second` for 50 steps, after `first` for 900 steps. Its weights lie" in told
    assert "between these and those of `second`, of which they have a share of 0.7." in told


@pytest.mark.parametrize(
    ("tokenizer", "told"), [("words", lambda n: f"{n - 4} words and 4 marks"), ("bpe", lambda n: f"{n} entries")]
)
def test_the_model_card_takes_no_mark_for_a_word(saved, tokenizer, told):
    whole, directory = saved
    dataclasses.replace(whole, training={"data": {"tokenizer": tokenizer}, "step": 1}).save(directory)
    assert f"| vocabulary | {told(len(whole.tokenizer))} |" in (directory / "README.md").read_text()


@pytest.mark.parametrize(
    ("data", "terms"),
    [
        ({"source": "flickr8k"}, "not for commerce"),
        ({"source": "tfds", "tfds": {"name": "coco_captions"}}, "CC BY 4.0"),
        ({"source": "tfds", "tfds": {"name": "coco_captions/2014:1.1.0"}}, "CC BY 4.0"),
        ({"source": "tfds", "tfds": {"name": "mine"}}, "whoever trained"),
        ({"source": "shapes", "tfds": {"name": "coco_captions"}}, "no terms attached"),
    ],
)
def test_the_model_card_names_the_terms_of_the_data(saved, data, terms):
    whole, directory = saved
    dataclasses.replace(whole, scores={}, training={"data": data, "step": 1}).save(directory)
    told = (directory / "README.md").read_text()
    assert terms in told
    assert "None were measured." in told


@pytest.mark.parametrize("file", [WEIGHTS, TOKENIZER])
def test_a_changed_byte_is_seen(saved, file):
    _, directory = saved
    content = bytearray((directory / file).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{file} is damaged: its checksum"):
        bundle.load(directory)


def card(directory, **changes):
    content = json.loads((directory / CARD).read_text())
    (directory / CARD).write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"model": {"width": 32}}, "weights are not those of its model"),
        ({"model": {"wide": 32}}, "damaged"),
        ({"sha256": {"../../etc/passwd": "", WEIGHTS: "", TOKENIZER: ""}}, "names ../../etc/passwd, which is none"),
        ({"preprocessing": {}}, "damaged"),
        ({"sha256": []}, "damaged"),
        ({"max_length": "9"}, "damaged"),
        ({"max_length": True}, "damaged"),
        ({"max_length": 0}, "damaged"),
        ({"max_length": 10**9}, "damaged"),
        ({"preprocessing": {"image_size": 10**9}}, "damaged"),
        ({"scores": None}, "damaged"),
        ({"scores": {"test/cider_d": "good"}}, "damaged"),
        ({"sha256": {}}, "has no checksums"),
        ({"preprocessing": {"image_size": 0}}, "damaged"),
        ({"preprocessing": {"image_size": 16, "framing": "half"}}, "damaged"),
        ({"preprocessing": {"image_size": 16, "of_later": 1}}, "damaged"),
        ({"preprocessing": {"image_size": 16, "deviation": [0, 0, 0]}}, "damaged"),
    ],
)
def test_a_card_of_other_content_is_refused(saved, changes, message):
    card(saved[1], **changes)
    with pytest.raises(UserError, match=message):
        bundle.load(saved[1])


def test_what_is_no_captioner_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no captioner"):
        bundle.load(tmp_path)


def test_a_run_is_told_where_its_captioner_is(tmp_path):
    untrained().save(tmp_path / "captioner")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=rf"No such file or directory\. That of this run is {tmp_path}/captioner$"):
        bundle.load(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, TOKENIZER])
def test_a_card_without_a_checksum_of_each_is_refused(tmp_path, name):
    untrained().save(tmp_path / "captioner")
    file = tmp_path / "captioner" / CARD
    card = json.loads(file.read_text())
    del card["sha256"][name]
    file.write_text(json.dumps(card))
    with pytest.raises(UserError, match="no checksums"):
        bundle.load(file.parent)


def test_a_card_names_no_file_elsewhere(tmp_path):
    untrained().save(tmp_path / "captioner")
    (tmp_path / "outside").write_bytes(b"x")
    file = tmp_path / "captioner" / CARD
    card = json.loads(file.read_text())
    card["sha256"]["../outside"] = hashlib.sha256(b"x").hexdigest()
    file.write_text(json.dumps(card))
    with pytest.raises(UserError, match="outside, which is none"):
        bundle.load(file.parent)


def test_nothing_is_between_captioners_that_see_otherwise():
    one = untrained()
    other = dataclasses.replace(one, preprocessing=dataclasses.replace(one.preprocessing, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(UserError, match="of two"):
        bundle.between(one, other, 0.5)
