"""Published weights brought to an encoder: what fits, what may be missing, and what is told where they do not fit."""

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from captioner_jax.config import EncoderConfig
from captioner_jax.data.images import DEVIATION, MEAN
from captioner_jax.errors import UserError
from captioner_jax.model.densenet import DenseNet
from captioner_jax.model.resnet import ResNet
from captioner_jax.pretrained import convolutional_names
from captioner_jax.pretrained.files import read_weights
from captioner_jax.pretrained.load import NORMALISATIONS, load_into

# A network of three stages, under our names.
STEM = {"stem.kernel": (2, 3), "stem.norm.variance": (3,)}
FIRST = {"blocks.0.0.kernel": (2, 2), "blocks.0.1.kernel": (2,)}
BETWEEN = {"transitions.0.conv.kernel": (1, 2), "transitions.0.norm.variance": (2,)}
SECOND = {"blocks.1.0.kernel": (4,), "blocks.1.10.kernel": (5,)}
THIRD = {"blocks.2.0.kernel": (6,)}
LAST = {"norm.scale": (2,), "norm.variance": (2,)}
WHOLE = STEM | FIRST | BETWEEN | SECOND | THIRD | LAST


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes weights of these names and shapes, under names that are ours already, and tells where."""
    monkeypatch.setattr(convolutional_names, "to_ours", lambda tensors, kind: dict(tensors))

    def file(shapes, metadata=None, dtype=np.float32) -> str:
        tensors = {name: values(name, shape).astype(dtype) for name, shape in shapes.items()}
        safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", metadata)
        return str(tmp_path / "model.safetensors")

    return file


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(len(name), len(name) + math.prod(shape), dtype=np.float32).reshape(shape)


def config(weights: str, **more) -> EncoderConfig:
    return EncoderConfig(**({"kind": "densenet121", "weights": weights} | more))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_weights_come_in_float32_under_the_names_wanted(file, dtype):
    loaded = load_into(config(file(WHOLE, dtype=dtype)), WHOLE, WHOLE)
    assert loaded.arrays.keys() == WHOLE.keys()
    for name, shape in WHOLE.items():
        np.testing.assert_array_equal(loaded.arrays[name], values(name, shape), strict=True)
    assert loaded.from_scratch == []
    assert loaded.origin.endswith("model.safetensors")


def test_later_stages_that_are_not_wanted_are_left_out(file):
    loaded = load_into(config(file(WHOLE)), STEM | FIRST, WHOLE)
    assert loaded.arrays.keys() == (STEM | FIRST).keys()
    assert loaded.from_scratch == []


@pytest.mark.parametrize(
    "missing", [THIRD | LAST, SECOND | THIRD | LAST, BETWEEN | SECOND | THIRD | LAST], ids=["one", "two", "between"]
)
def test_whole_stages_at_the_end_may_be_learnt_from_scratch(file, missing):
    given = {name: shape for name, shape in WHOLE.items() if name not in missing}
    loaded = load_into(config(file(given)), WHOLE, WHOLE)
    assert loaded.arrays.keys() == given.keys()
    assert set(loaded.from_scratch) == missing.keys()


@pytest.mark.parametrize(
    "missing",
    [
        STEM,
        FIRST,
        BETWEEN,
        SECOND,
        THIRD,
        LAST,
        FIRST | BETWEEN | SECOND | THIRD | LAST,
        WHOLE,
        {"blocks.1.10.kernel": ()} | THIRD | LAST,
        {"stem.kernel": ()} | THIRD | LAST,
    ],
    ids=lambda missing: " ".join(sorted({name.rpartition(".")[0] for name in missing})),
)
def test_what_else_is_missing_is_told_name_by_name(file, missing):
    given = {name: shape for name, shape in WHOLE.items() if name not in missing} or {"other": (1,)}
    with pytest.raises(UserError, match=f"{len(missing)} missing: ") as caught:
        load_into(config(file(given)), WHOLE, WHOLE)
    assert ", ".join(sorted(missing)[:10]) in str(caught.value)


def test_all_mistakes_are_told_at_once(file):
    given = {f"other.{i:02}": (1,) for i in range(12)} | WHOLE | {"stem.kernel": (3, 2), "norm.scale": ()}
    del given["blocks.1.0.kernel"]
    weights = file(given)
    with pytest.raises(UserError) as caught:
        load_into(config(weights), WHOLE, WHOLE)
    assert str(caught.value).splitlines() == [
        f"{weights} does not hold the weights of densenet121:",
        "1 missing: blocks.1.0.kernel",
        "12 not known: " + ", ".join(f"other.{i:02}" for i in range(10)) + " and 2 more",
        "2 of another shape: norm.scale scalar for 2, stem.kernel 3x2 for 2x3",
    ]


def test_another_epsilon_goes_into_the_variances(file):
    plain = load_into(config(file(WHOLE)), WHOLE, WHOLE).arrays
    other = load_into(config(file(WHOLE, {"bn_eps": "1e-3 as TensorFlow has it"})), WHOLE, WHOLE).arrays
    for name in WHOLE:
        changed = 1e-3 - 1e-5 if name.endswith(".variance") else 0
        np.testing.assert_allclose(other[name], plain[name] + np.float32(changed), rtol=1e-7)


@pytest.mark.parametrize("told", ["small", "nan", "inf", "-1"])
def test_an_epsilon_that_is_none_is_told(file, told):
    with pytest.raises(UserError, match=f"bn_eps that is no number from 0 to 1: '{told}'"):
        load_into(config(file(WHOLE, {"bn_eps": told})), WHOLE, WHOLE)


@pytest.mark.parametrize(("version", "other"), [("1", "1.5"), ("1.5", "1")])
def test_strides_of_another_version_are_told(file, version, other):
    weights = file(WHOLE, {"stride": f"v{version}: as its paper has it"})
    with pytest.raises(UserError, match=rf"set --model\.encoder\.resnet-version {version}$"):
        load_into(config(weights, kind="resnet50", resnet_version=other), WHOLE, WHOLE)
    for right in ({"kind": "resnet50", "resnet_version": version}, {"kind": "resnet18"}):
        assert load_into(config(weights, **right), WHOLE, WHOLE).arrays.keys() == WHOLE.keys()


def test_there_are_no_weights_for_the_small_network(file):
    with pytest.raises(UserError, match="no weights are published for convnet"):
        load_into(config(file(WHOLE), kind="convnet"), WHOLE, WHOLE)


def test_imagenet_is_normalised_as_the_data_are():
    assert NORMALISATIONS["imagenet"] == (MEAN, DEVIATION)


def card(folder: str, mean, deviation) -> str:
    """The folder of a file, with what tells of its preprocessing."""
    told = {"image_mean": mean, "image_std": deviation}
    (Path(folder).parent / "preprocessor_config.json").write_text(json.dumps(told))
    return str(Path(folder).parent)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisation_is_as_it_stands_beside_the_weights(file, name):
    mean, deviation = NORMALISATIONS[name]
    folder = card(file(WHOLE), [value + 5e-4 for value in mean], list(deviation))
    assert load_into(config(folder), WHOLE, WHOLE).normalisation == name


@pytest.mark.parametrize("mean", [[0.5, 0.5, 0.502], [0.5], 0.5, "half", ["0.5"] * 3, {"r": 0.5}])
def test_a_normalisation_that_is_not_known_is_told_unless_one_is_set(file, mean):
    folder = card(file(WHOLE), mean, [0.5] * 3)
    with pytest.raises(UserError, match=r"none of imagenet, half, clip.*set --model\.encoder\.normalisation"):
        load_into(config(folder), WHOLE, WHOLE)
    assert load_into(config(folder, normalisation="clip"), WHOLE, WHOLE).normalisation == "clip"


@pytest.mark.parametrize(
    ("kind", "theirs", "usual"),
    [
        ("resnet50", "conv1.weight", "imagenet"),
        ("vgg16_bn", "features.0.weight", "imagenet"),
        ("vit_b16", "conv_proj.weight", "imagenet"),
        ("clip_b32", "vision_model.embeddings.patch_embedding.weight", "clip"),
    ],
)
def test_without_a_word_normalisation_is_as_usual_for_the_kind(file, monkeypatch, kind, theirs, usual):
    for module in ("convolutional_names", "vit_names"):
        monkeypatch.setattr(f"captioner_jax.pretrained.{module}.to_ours", lambda tensors, kind: {"a": np.ones(1)})
    loaded = load_into(config(file({theirs: (1,)}), kind=kind), {"a": (1,)}, {"a": (1,)})
    assert loaded.normalisation == usual


def test_without_a_word_transformers_of_names_that_many_use_are_refused(file, monkeypatch):
    """Google's and timm's are by half, DeiT's and DINO's by ImageNet's, under the same names."""
    monkeypatch.setattr("captioner_jax.pretrained.vit_names.to_ours", lambda tensors, kind: {"a": np.ones(1)})
    asked = config(file({"patch_embed.proj.weight": (1,)}), kind="vit_b16")
    with pytest.raises(UserError, match=r"no card beside it.* set --model\.encoder\.normalisation half"):
        load_into(asked, {"a": (1,)}, {"a": (1,)})
    told = dataclasses.replace(asked, normalisation="imagenet")
    assert load_into(told, {"a": (1,)}, {"a": (1,)}).normalisation == "imagenet"


def shapes(kind: type[nnx.Module], config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    network = nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0)))
    return {".".join(map(str, path)): leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(network))}


def published(name: str) -> str:
    """A file in the folder that CAPTIONER_JAX_WEIGHTS names."""
    folder = os.environ.get("CAPTIONER_JAX_WEIGHTS")
    if not folder:
        pytest.skip("CAPTIONER_JAX_WEIGHTS names no folder of published weights")
    return str(Path(folder) / name)


def test_a_published_resnet_without_its_last_stage():
    where = published("resnet50_c4_imagenet_fp16.safetensors")
    ours = EncoderConfig("resnet50", resnet_version="1", weights=where)
    names = shapes(ResNet, ours)
    loaded = load_into(ours, names, names)
    assert {name.split(".")[1] for name in loaded.from_scratch} == {"3"}
    assert loaded.arrays.keys() | set(loaded.from_scratch) == names.keys()
    theirs = read_weights(where).tensors
    variance = theirs["bn1.running_var"] + np.float32(1.001e-5 - 1e-5)
    np.testing.assert_allclose(loaded.arrays["stem.norm.variance"], variance, rtol=1e-6)
    stem = theirs["conv1.weight"].astype(np.float32)
    np.testing.assert_array_equal(loaded.arrays["stem.kernel"][1, 2], stem[:, :, 1, 2].T)
    assert loaded.normalisation == "imagenet"


def test_a_published_densenet():
    ours = EncoderConfig("densenet169", weights=published("densenet169_imagenet_fp16.safetensors"))
    names = shapes(DenseNet, ours)
    loaded = load_into(ours, names, names)
    assert loaded.from_scratch == []
    assert {name: array.shape for name, array in loaded.arrays.items()} == names
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in loaded.arrays.values())


@pytest.mark.parametrize("kind", ["resnet50", "resnet101", "resnet18"])
def test_published_weights_of_another_encoder_are_refused(kind):
    ours = EncoderConfig(kind, weights=published("mobilenet_v2_imagenet_fp16.safetensors"))
    names = shapes(ResNet, ours)
    with pytest.raises(
        UserError, match=rf"does not hold the weights of {kind}:\n{len(names)} missing: .*\n260 not known: "
    ):
        load_into(ours, names, names)
