"""Three tables from a captioner, of which nothing but its captions is set."""

import numpy as np
import pytest

from captioner_jax import bundle as bundles
from captioner_jax.data.shapes.builder import Drawing
from captioner_jax.errors import UserError
from captioner_jax.explain import __main__ as program
from captioner_jax.explain import measuring
from captioner_jax.explain.measuring import measure
from captioner_jax.generation.search import Found
from captioner_jax.text.special import END, PAD
from captioner_jax.text.tokenizer import train_bpe, train_words
from tests.making import untrained

SCENES = [Drawing("test")[i] for i in range(5)]


@pytest.fixture(scope="module")
def bundle():
    words = [caption for scene in SCENES for caption in scene.captions]
    return untrained(image_size=32, tokenizer=train_words(words, 1), layers=1)


def test_what_is_not_true_is_not_measured(bundle, tmp_path, capsys):
    bundle.save(tmp_path / "captioner")
    assert program.main([str(tmp_path / "captioner"), "--scenes", "5"]) == 1
    assert "of 5 captions none is true" in capsys.readouterr().err
    assert program.main([str(tmp_path / "captioner"), "--scenes", "5000"]) == 1
    assert "test has 1000 scenes, not 5000" in capsys.readouterr().err
    assert program.main([str(tmp_path / "captioner"), "--split", "tests"]) == 1
    assert "no split 'tests'; there are train, validation" in capsys.readouterr().err
    assert program.main([str(tmp_path / "captioner"), "--scenes", "0"]) == 1
    assert "command line: scenes = 0: input should be greater than 0" in capsys.readouterr().err


def test_what_writes_no_words_is_not_measured_by_words():
    with pytest.raises(UserError, match="this captioner writes parts of words"):
        measure(untrained(image_size=32, tokenizer=train_bpe(["a red circle"], 300)), Drawing("test"), 1, 0)


@pytest.mark.slow
def test_maps_of_true_captions_are_measured(bundle, monkeypatch):
    """Each scene with a caption of its own, in two batches of which the second is not full."""
    rows = iter(SCENES)

    def writer(*_, **__):
        def write(parameters, pixels):
            ids = [bundle.tokenizer.encode_all([next(rows).captions[0]])[0] for _ in pixels]
            tokens = np.array([[*row, END, *[PAD] * (15 - len(row))] for row in ids])
            return Found(tokens[:, None], np.zeros((len(ids), 1)), np.zeros((len(ids), 1)))

        return write

    monkeypatch.setattr(measuring, "make_writer", writer)
    monkeypatch.setattr(measuring, "BATCH", 3)
    found = measuring.measure(bundle, Drawing("test"), 5, seed=0)
    assert (found.scenes, found.true) == (5, 5)
    assert found.colours >= found.shapes >= 3
    assert {"layer 1, head 1", "layer 1, head 2", "rollout", "occlusion", "chance"} <= found.hits.keys()
    assert all(0 <= share <= 1 for one in (*found.hits.values(), *found.faith.values()) for share in one)
    assert all(-1 <= one <= 1 for one in found.sanity.values())
    assert f"| chance | {found.hits['chance'].colours:.1%} |" in measuring.tables(found)


def test_a_captioner_may_come_from_the_hub(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(bundles, "found", lambda address: found.append(address) or tmp_path)
    assert program.main(["hf://owner/name"]) == 1
    assert found == ["hf://owner/name"]


def test_a_captioner_that_is_none_is_refused(tmp_path, capsys):
    assert program.main([str(tmp_path)]) == 1
    assert "is no captioner" in capsys.readouterr().err


def test_what_is_measured_is_what_is_asked_for(bundle, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(program, "measure", lambda captioner, split, scenes, seed: asked.append((scenes, seed)))
    monkeypatch.setattr(program, "tables", str)
    bundle.save(tmp_path / "captioner")
    assert program.main([str(tmp_path / "captioner"), "--scenes", "7", "--seed", "3"]) == 0
    assert asked == [(7, 3)]
