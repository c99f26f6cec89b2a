"""Files of published weights, and what stands beside them."""

import json
import shutil
import struct
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from captioner_jax.errors import UserError
from captioner_jax.pretrained.files import read_weights

SAMPLE = Path(__file__).with_name("sample.pth")
TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1, 2], np.float16),
    "brain": np.array([0.5, 3], jnp.bfloat16),
    "count": np.array(4),
}


@pytest.fixture
def model(tmp_path):
    """A folder with weights in it."""
    safetensors.numpy.save_file(TENSORS, tmp_path / "model.safetensors", {"bn_eps": "1.001e-5"})
    return tmp_path


def test_safetensors_are_read_with_types_and_metadata(model):
    weights = read_weights(str(model / "model.safetensors"))
    assert weights.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(weights.tensors[name], tensor, strict=True)
    assert weights.metadata == {"bn_eps": "1.001e-5"}
    assert weights.origin == str(model / "model.safetensors")
    assert weights.preprocessor is None


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_pytorch_files_are_read_by_any_of_their_suffixes(tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    shutil.copy(SAMPLE, file)
    weights = read_weights(str(file))
    assert weights.tensors["conv.weight"].shape == (4, 3, 3, 3)
    assert weights.metadata == {}


def test_a_home_folder_is_known(model, monkeypatch):
    monkeypatch.setenv("HOME", str(model))
    assert read_weights("~/model.safetensors").tensors.keys() == TENSORS.keys()


def test_of_a_folder_safetensors_are_preferred(model):
    shutil.copy(SAMPLE, model / "pytorch_model.bin")
    assert read_weights(str(model)).origin == str(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    assert read_weights(str(model)).origin == str(model / "pytorch_model.bin")
    (model / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"no weights: wanted is model.safetensors or pytorch_model.bin"):
        read_weights(str(model))


HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": False}


@pytest.mark.parametrize(
    ("cards", "told"),
    [
        ({"preprocessor_config.json": {**HALF, "size": 224}, "config.json": {"architectures": ["ViT"]}}, HALF),
        (
            {"config.json": {"pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}},
            {"image_mean": [0.1] * 3, "image_std": [0.2] * 3, "do_center_crop": False},
        ),
        ({"preprocessor_config.json": {"size": 224}, "config.json": {"mean": [0.5] * 3, "std": [0.5] * 3}}, HALF),
        ({"config.json": {"architectures": ["ViT"], "pretrained_cfg": None}}, None),
        ({}, None),
    ],
)
def test_normalisation_is_read_from_what_stands_beside(model, cards, told):
    for name, content in cards.items():
        (model / name).write_text(json.dumps(content))
    assert read_weights(str(model)).preprocessor == told
    assert read_weights(str(model / "model.safetensors")).preprocessor == told
    (model / "model.safetensors").rename(model / "mine.safetensors")
    assert read_weights(str(model / "mine.safetensors")).preprocessor is None


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff", "[" * 100_000])
def test_a_damaged_card_is_named(model, content):
    (model / "preprocessor_config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"preprocessor_config.json is damaged"):
        read_weights(str(model))


def header(told: dict) -> bytes:
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.safetensors", None, "No such file"),
        ("none.pth", None, "No such file"),
        ("a.safetensors", b"abc", "damaged, or no .safetensors"),
        ("a.safetensors", header({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}), "damaged"),
        ("a.safetensors", header({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}) + b"1", "a type"),
        ("a.pth", b"abc", "no file of weights of PyTorch's"),
        ("a.safetensors.index.json", b"{}", "in several files"),
        ("a.h5", b"abc", r"wanted are \.safetensors, \.pth, \.pt, \.bin"),
        ("a", b"abc", "wanted are"),
        ("a", None, "No such file"),
    ],
)
def test_mistakes_are_told_with_the_file(tmp_path, name, content, message):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_weights(str(file))
    assert str(file) in str(caught.value)


def test_a_folder_called_like_a_file_is_a_folder(tmp_path):
    (tmp_path / "a.pth").mkdir()
    with pytest.raises(UserError, match="holds no weights"):
        read_weights(str(tmp_path / "a.pth"))
