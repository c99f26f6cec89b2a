"""Flickr8k as people hold it: set CAPTIONER_JAX_FLICKR8K to its folder (token file, split lists, images.tar)."""

import os
from pathlib import Path

import pytest

from captioner_jax.config import from_command_line
from captioner_jax.data.folder import load
from captioner_jax.data.images import open_image, to_square

FOLDER = os.environ.get("CAPTIONER_JAX_FLICKR8K", "")
pytestmark = pytest.mark.skipif(
    not (Path(FOLDER) / "Flickr8k.token.txt").is_file(), reason="CAPTIONER_JAX_FLICKR8K names no folder with Flickr8k"
)


def test_the_official_splits_are_whole(pytestconfig):
    recipe = str(pytestconfig.rootpath / "configs" / "flickr8k_scratch.toml")
    config, _ = from_command_line([recipe, "--data.path", FOLDER])
    data = load(config.data)
    splits = [data.train, *data.validation.values(), *data.test.values()]
    assert [len(split) for split in splits] == [6000, 1000, 1000]
    assert not data.problems
    for split in splits:
        assert all(len(captions) == 5 for captions in split.captions())
        for i in range(0, len(split), 250):
            pixels = to_square(open_image(split[i].image, 96), 96)
            assert pixels.shape == (96, 96, 3)
            assert pixels.std() > 5
