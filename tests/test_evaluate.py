"""Where a captioner that is scored comes from, and what is refused before anything is computed."""

import dataclasses

import pytest

from captioner_jax import bundle, evaluate
from captioner_jax.errors import UserError
from captioner_jax.together import together
from tests.data.making import colour_folder
from tests.making import untrained


@pytest.fixture
def asked(tmp_path):
    """A captioner that knows nothing of its training, and photographs."""
    untrained().save(tmp_path / "captioner")
    photographs = colour_folder(tmp_path / "photographs", images=30)
    return [str(tmp_path / "captioner"), "--data.source", "folder", "--data.path", str(photographs)]


def test_a_captioner_that_tells_nothing_of_its_training_can_be_scored(asked, capsys):
    assert evaluate.main([*asked, "--split", "exam"]) == 1
    assert "there are train, validation, test" in capsys.readouterr().err


def test_a_captioner_may_come_from_the_hub(asked, tmp_path, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(bundle, "found", lambda address: found.append(address) or tmp_path / "captioner")
    arguments = ["hf://owner/name", *asked[1:], "--ensemble", "hf://owner/other", "--split", "exam"]
    assert evaluate.main(arguments) == 1
    assert "name a folder by --output" in capsys.readouterr().err
    assert evaluate.main([*arguments, "--output", str(tmp_path / "scores")]) == 1
    assert "there are train, validation, test" in capsys.readouterr().err
    assert found[1:] == ["hf://owner/name", "hf://owner/other"]


def test_a_consensus_needs_captions_to_choose_from(asked, capsys):
    assert evaluate.main([*asked, "--split", "test", "--consensus", "10", "--beam", "1"]) == 1
    assert "a beam of 1 has one" in capsys.readouterr().err


def test_captions_too_long_to_be_compared_are_refused():
    long = dataclasses.replace(untrained(), max_length=200)
    with pytest.raises(UserError, match="captions of up to 127 tokens"):
        together([long], beams=2, consensus=2)


def test_scores_that_have_no_place_are_refused_before_anything_is_computed(asked, tmp_path, capsys):
    (tmp_path / "taken").touch()
    assert evaluate.main([*asked, "--split", "test", "--output", str(tmp_path / "taken")]) == 1
    assert (
        capsys.readouterr().err == f"error: {tmp_path}/taken: File exists: name a folder for the scores by --output\n"
    )


@pytest.mark.parametrize("option", ["beam", "batch-size", "data.max-length"])
def test_a_number_out_of_its_range_is_refused(option, asked, capsys):
    assert evaluate.main([*asked, f"--{option}", "0"]) == 1
    assert f"command line: {option.replace('-', '_')} = 0: input should be greater than" in capsys.readouterr().err
