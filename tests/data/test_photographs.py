"""Flickr8k as people hold it: set CAPTIONER_JAX_FLICKR8K to its folder (token file, split lists, images.tar)."""

import os
from pathlib import Path

import pytest

from captioner_jax.config import DataConfig, from_command_line
from captioner_jax.data import check, flickr_files
from captioner_jax.data.images import open_image, to_square
from captioner_jax.data.load import load

FOLDER = os.environ.get("CAPTIONER_JAX_FLICKR8K", "")
pytestmark = pytest.mark.skipif(
    not (Path(FOLDER) / "Flickr8k.token.txt").is_file(), reason="CAPTIONER_JAX_FLICKR8K names no folder with Flickr8k"
)


@pytest.mark.slow
def test_the_official_splits_are_whole(pytestconfig, tmp_path):
    recipe = str(pytestconfig.rootpath / "configs" / "flickr8k_scratch.toml")
    config, *_ = from_command_line([recipe, "--data.path", FOLDER, "--data.data-dir", str(tmp_path)])
    data = load(config.data)
    splits = [data.train, *data.validation.values(), *data.test.values()]
    assert [len(split) for split in splits] == [6000, 1000, 1000]
    assert not data.problems
    for split in splits:
        assert all(len(captions) == 5 for captions in split.captions())
        for i in range(0, len(split), 250):
            pixels = to_square(open_image(split[i].image, 96), 96, "middle")
            assert pixels.shape == (96, 96, 3)
            assert pixels.std() > 5


@pytest.mark.slow
def test_the_builder_makes_the_same_of_them(tmp_path):
    """Without path the second time, as on a machine that has only the prepared copy."""
    data_dir = str(tmp_path)
    for path in (FOLDER, None):
        data = load(DataConfig(source="flickr8k", path=path, data_dir=data_dir))
        files = flickr_files.load(DataConfig(source="flickr8k", path=FOLDER))
        assert "official splits" in data.about
        assert not data.problems
        for split, source in data.splits.items():
            assert sorted(source) == sorted(files.splits[split])


@pytest.mark.slow
def test_check_finds_nothing_unusable():
    findings = check.check(DataConfig(source="flickr8k", path=FOLDER), workers=2)
    assert not findings.unusable
    assert findings.kinds == {"JPEG RGB": 8_000}
    assert [row.captions for row in findings.rows] == [30_000, 5_000, 5_000]
    assert not [problem for problem in findings.remarkable if "LEAK" in problem]
