"""A captioner that keeps its training photographs, and writes with what people wrote of similar ones in mind."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from captioner_jax import bundle, evaluate, neighbours
from captioner_jax.bundle import PHOTOGRAPHS, rounded
from captioner_jax.captioning import Captioner
from captioner_jax.config import DataConfig
from captioner_jax.data.features import make_sight
from captioner_jax.data.images import open_image, to_square
from captioner_jax.data.load import load
from captioner_jax.errors import UserError
from captioner_jax.generation.neighbours import Photographs
from captioner_jax.generation.settings import Generation
from captioner_jax.text.special import PAD, START
from captioner_jax.together import together
from tests.data.making import colour_folder
from tests.making import untrained


@pytest.fixture
def photographs(tmp_path):
    return colour_folder(tmp_path / "photographs", images=30)


@pytest.fixture
def asked(tmp_path, photographs):
    untrained().save(tmp_path / "captioner")
    return [str(tmp_path / "captioner"), "--data.source", "folder", "--data.path", str(photographs)]


def config(photographs, **settings):
    return DataConfig(source="folder", path=str(photographs), **settings)


def test_they_are_kept_with_it_and_captions_are_chosen_by_them(asked, tmp_path, photographs, capsys):
    train = load(config(photographs)).train
    (photographs / train[3].name).write_bytes(b"no image")
    assert neighbours.main([*asked, "--batch-size", "7"]) == 0
    out = capsys.readouterr().out
    assert "keeps 23 photographs" in out
    assert "1 images could not be used and are not kept" in out
    kept = bundle.load(tmp_path / "captioner").photographs
    rows = [
        untrained().tokenizer.encode(caption, 9) for i, one in enumerate(train) if i != 3 for caption in one.captions
    ]
    assert {row[0] for row in rows} == {START}
    np.testing.assert_array_equal(kept.captions.reshape(-1, 9), [row[1:] for row in rows])
    assert kept.seen.shape == (23, 32)
    assert evaluate.main([*asked, "--beam", "4", "--consensus", "8", "--neighbours", "5"]) == 0
    assert "search:beam4-consensus8-neighbours5" in capsys.readouterr().out


def test_all_that_people_wrote_is_kept_whatever_the_first_has(photographs):
    first = load(config(photographs)).train[0].name
    lines = (photographs / "captions.jsonl").read_text().splitlines(keepends=True)
    of_first = next(line for line in lines if first in line)
    (photographs / "captions.jsonl").write_text("".join(line for line in lines if line != of_first))
    train = load(config(photographs)).train
    assert [len(one.captions) for one in train][:2] == [1, 2]
    kept = neighbours.look(untrained(), train, config(photographs), 8).captions
    assert [int((of_one[:, 0] != PAD).sum()) for of_one in kept] == [len(one.captions) for one in train]


def test_all_else_in_its_directory_stays_as_it_is(asked, tmp_path):
    """A released captioner's weights have 16 bits, and its licence is told by whoever passes it on."""
    folder = tmp_path / "captioner"
    rounded(untrained()).save(folder)
    (folder / "README.md").write_text("# Mine\n\nMIT, but for the photographs.\n")
    (folder / "notes.txt").write_text("mine")
    files = ("weights.safetensors", "tokenizer.json", "notes.txt")
    before = [(folder / file).read_bytes() for file in files]
    bundle.keep(folder, Photographs(np.zeros((1_300, 32), np.float16), np.ones((1_300, 1, 9), np.int16)))
    assert "1,300 photographs." in (folder / "README.md").read_text()
    assert neighbours.main(asked) == 0
    assert [(folder / file).read_bytes() for file in files] == before
    assert (folder / "README.md").read_text().startswith("# Mine\n\nMIT, but for the photographs.\n\nThis folder holds")
    assert (folder / "README.md").read_text().count("what people wrote of") == 1
    assert len(bundle.load(folder).photographs.seen) == 24


def test_what_was_kept_of_them_for_training_is_what_is_seen(photographs, tmp_path):
    captioner, train = untrained(), load(config(photographs)).train
    from_pixels = neighbours.look(captioner, train, config(photographs), 8)
    kept = config(photographs, features=str(tmp_path / "features"), image_size=16)
    from_features = neighbours.look(captioner, train, kept, 8)
    np.testing.assert_allclose(from_features.seen, from_pixels.seen, rtol=2e-3, atol=2e-3)  # cells are kept in 16 bits
    np.testing.assert_array_equal(from_features.captions, from_pixels.captions)


def keeping(photographs, **settings):
    captioner = untrained(**settings)
    known = neighbours.look(captioner, load(config(photographs)).train, config(photographs), 8)
    return dataclasses.replace(captioner, photographs=known)


def test_programs_choose_by_them_too(photographs):
    captioner = keeping(photographs)
    images = [str(photographs / f"{i:03}.jpg") for i in range(12)]
    settings = {"beam": 6, "consensus": 20, "neighbours": 3, "good_ending": False}
    chosen = Captioner(captioner).captions(images, **settings)
    alone = Captioner(captioner).captions(images, **settings | {"neighbours": 0})
    assert all(one.score != other.score for (one, *_), (other, *_) in zip(chosen, alone, strict=True))


@pytest.mark.parametrize(
    ("count", "message"),
    [(3, "keeps no photographs among which neighbours could be found"), (24, "keeps 24 photographs")],
)
def test_what_is_not_kept_cannot_be_found(photographs, count, message):
    captioner = keeping(photographs) if count > 3 else untrained()
    with pytest.raises(UserError, match=message):
        Captioner(captioner).check(Generation(beam=4, consensus=8, neighbours=count + (count > 3)))
    with pytest.raises(UserError, match=message):
        together([captioner], beams=4, consensus=8, neighbours=count + (count > 3))


def test_captioners_of_an_ensemble_keep_the_same(photographs):
    one, other = keeping(photographs), keeping(photographs, seed=4)
    together([one, other], beams=4, consensus=8, neighbours=3)
    fewer = other.photographs._replace(captions=other.photographs.captions[1:], seen=other.photographs.seen[1:])
    with pytest.raises(UserError, match="must keep the same photographs"):
        together([one, dataclasses.replace(other, photographs=fewer)], beams=4, consensus=8, neighbours=3)


def test_captions_too_long_to_be_compared_are_refused(photographs):
    captioner = keeping(photographs)
    long = np.pad(captioner.photographs.captions, [(0, 0), (0, 0), (0, 128)])
    captioner = dataclasses.replace(captioner, photographs=captioner.photographs._replace(captions=long))
    with pytest.raises(UserError, match="captions of up to 127 tokens"):
        Captioner(captioner).check(Generation(beam=4, consensus=8, neighbours=3))


def test_neighbours_need_a_consensus(asked, capsys):
    assert evaluate.main([*asked, "--neighbours", "3"]) == 1
    assert "--neighbours helps to choose by --consensus" in capsys.readouterr().err
    with pytest.raises(UserError, match="neighbours help to choose by consensus"):
        Captioner(untrained()).check(Generation(neighbours=3))


def test_they_are_saved_whole_and_damage_is_seen(photographs, tmp_path):
    captioner = keeping(photographs)
    captioner.save(tmp_path / "captioner")
    again = bundle.load(tmp_path / "captioner").photographs
    for mine, theirs in zip(captioner.photographs, again, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert "holds what people wrote of 24 photographs" in (tmp_path / "captioner" / "README.md").read_text()
    file = tmp_path / "captioner" / PHOTOGRAPHS
    file.write_bytes(file.read_bytes()[:-1] + b"\7")
    with pytest.raises(UserError, match="damaged"):
        bundle.load(tmp_path / "captioner")
    assert bundle.between(captioner, captioner, 0.5).photographs is None  # other weights see otherwise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hf://owner/name"], "only a captioner on this disk can keep photographs"),
        (["--data.path", "photographs", "captioner"], "name a captioner before all options"),
        ([], "name a captioner before all options"),
    ],
)
def test_which_captioner_is_told_first(arguments, message, capsys):
    assert neighbours.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_without_a_captioner_it_says_so(tmp_path, capsys):
    assert neighbours.main([str(tmp_path), "--data.path", str(tmp_path)]) == 1
    assert "is no captioner" in capsys.readouterr().err


@pytest.mark.parametrize("framing", ["middle", "whole"])
def test_what_is_seen_of_a_photograph_is_the_mean_of_its_cells(photographs, framing):
    for number, file in enumerate(sorted(photographs.glob("*.jpg"))):
        Image.linear_gradient("L").rotate(90 * (number % 4)).resize((60, 20)).save(file)
    captioner, train = untrained(framing=framing), load(config(photographs)).train
    size = captioner.preprocessing.image_size
    pixels = np.stack([to_square(open_image(one.image, size), size, framing) for one in train])
    cells = make_sight(captioner.graphdef, captioner.preprocessing)(captioner.parameters, pixels)
    seen = neighbours.look(captioner, train, config(photographs), 8).seen
    np.testing.assert_allclose(seen, np.asarray(cells).mean((1, 2)), rtol=5e-3, atol=5e-3)


def test_at_no_moment_a_captioner_is_damaged(tmp_path, monkeypatch):
    folder = tmp_path / "captioner"
    untrained().save(folder)
    some = lambda n: Photographs(np.zeros((n, 32), np.float16), np.ones((n, 1, 9), np.int16))
    bundle.keep(folder, some(3))
    for name in ("write_bytes_whole", "write_whole"):
        write = getattr(bundle, name)

        def watched(path, content, write=write):
            bundle.load(folder)
            write(path, content)
            bundle.load(folder)

        monkeypatch.setattr(bundle, name, watched)
    bundle.keep(folder, some(4))
    assert len(bundle.load(folder).photographs.seen) == 4
