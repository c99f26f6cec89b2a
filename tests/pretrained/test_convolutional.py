"""The convolutional encoders against torchvision's and transformers' (golden file: make_convolutional_golden.py).

Set CAPTIONER_JAX_WEIGHTS to a folder with published weights, and CAPTIONER_JAX_FLICKR8K to Flickr8k's with images.tar,
for what is tested on photographs.
"""

import functools
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from captioner_jax.config import EncoderConfig
from captioner_jax.model.convolutions import EPSILON, MOMENTUM
from captioner_jax.model.densenet import DenseNet
from captioner_jax.model.resnet import ResNet
from captioner_jax.model.vgg import VGG
from captioner_jax.pretrained.convolutional_names import to_ours
from tests.pretrained.make_convolutional_golden import (
    DENSENETS,
    GOLDEN,
    KERAS_EPSILON,
    REAL,
    RESNETS,
    SIZE,
    VGGS,
    made_weights,
    photographs,
)
from tests.pretrained.making import digest, images

SLOW = ("resnet101", "resnet152", "densenet169", "densenet201")
KINDS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in RESNETS + VGGS + DENSENETS]

WEIGHTS = Path(os.environ.get("CAPTIONER_JAX_WEIGHTS", "nowhere"))
FLICKR8K = Path(os.environ.get("CAPTIONER_JAX_FLICKR8K", "nowhere"))
on_photographs = pytest.mark.skipif(
    not (all((WEIGHTS / name).is_file() for name in REAL.values()) and (FLICKR8K / "images.tar").is_file()),
    reason="CAPTIONER_JAX_WEIGHTS or CAPTIONER_JAX_FLICKR8K names no folder with the files",
)


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


def dotted(path):
    return ".".join(str(key.key) for key in path)


def abstract(config):
    """A network's structure, and its state as shapes."""
    family = {"resnet": ResNet, "vgg": VGG, "densenet": DenseNet}[config.kind.split("_")[0].rstrip("0123456789")]
    graphdef, state = nnx.split(nnx.eval_shape(lambda: family(config, rngs=nnx.Rngs(0))))
    return graphdef, nnx.to_pure_dict(state)


def filled(shapes, weights):
    """The state with these weights; none may be missing, left over, or of another shape."""
    wanted = {dotted(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(shapes)}
    assert {name: tensor.shape for name, tensor in weights.items()} == wanted
    return jax.tree.map_with_path(lambda path, leaf: weights[dotted(path)].astype(leaf.dtype), shapes)


def cells_of(config, weights, pixels):
    """What each stage makes of the pixels. Compiled without care: it runs once."""
    graphdef, shapes = abstract(config)
    run = jax.jit(
        lambda state, pixels: nnx.merge(graphdef, state).stages(pixels),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return run(filled(shapes, weights), pixels)


def outline(config, size):
    """The channels that a network says it gives, the shapes of what its stages give, and its number of arrays."""
    graphdef, state = abstract(config)
    pixels = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    cells = jax.eval_shape(lambda state, pixels: nnx.merge(graphdef, state).stages(pixels), state, pixels)
    return nnx.merge(graphdef, state).channels, [x.shape for x in cells], len(jax.tree.leaves(state))


def assert_digests(cells, digests):
    assert len(cells) == len(digests)
    for ours, theirs in zip(map(digest, map(np.asarray, cells)), digests, strict=True):
        assert ours["shape"] == theirs["shape"]
        for key in ("mean", "size", "values"):
            np.testing.assert_allclose(ours[key], theirs[key], rtol=0, atol=1e-4 * theirs["size"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_equals_torchvisions(golden, kind):
    network = golden["torchvision"][kind]
    weights = to_ours(made_weights(network["modules"], biased=kind.startswith("vgg")), kind)
    assert_digests(cells_of(EncoderConfig(kind), weights, images(SIZE)), network["stages"])


@pytest.mark.parametrize("version", ["1", "1.5"])
def test_a_resnets_version_says_where_it_strides(golden, version):
    network = golden["version 1"]
    weights = to_ours(made_weights(network["modules"], biased=False), "resnet50")
    cells = cells_of(EncoderConfig("resnet50", resnet_version=version), weights, images(SIZE))
    assert_digests(cells[:1], network["stages"][:1])  # its first stage does not stride
    if version == "1":
        assert_digests(cells, network["stages"])
    else:
        with pytest.raises(AssertionError):
            assert_digests(cells[1:2], network["stages"][1:2])


@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_every_stage_equals_hugging_faces(golden, kind):
    network = golden["Hugging Face"][kind]
    weights = to_ours(made_weights(network["modules"], biased=False), kind)
    assert_digests(cells_of(EncoderConfig(kind), weights, images(SIZE)), network["stages"])


def test_hugging_faces_prefix_may_be_absent(golden):
    theirs = made_weights(golden["Hugging Face"]["resnet18"]["modules"], biased=False)
    bare = {name.removeprefix("resnet."): tensor for name, tensor in theirs.items()}
    assert to_ours(bare, "resnet18").keys() == to_ours(theirs, "resnet18").keys()


def test_old_names_of_densenet_mean_the_same():
    new = {
        f"features.denseblock2.denselayer12.{part}": np.full(1, i, np.float32)
        for i, part in enumerate(["norm1.weight", "conv1.weight", "norm2.running_mean", "conv2.weight"])
    }
    old = {name.replace("norm", "norm.").replace("conv", "conv."): tensor for name, tensor in new.items()}
    assert old.keys().isdisjoint(new)
    assert to_ours(old, "densenet121") == to_ours(new, "densenet121")


def test_classifiers_are_left_out_and_what_is_unknown_stays():
    number = np.zeros(1, np.float32)
    left_out = ["fc.weight", "classifier.6.bias", "pre_logits.fc1.weight", "bn1.num_batches_tracked"]
    unknown = ["layer1.0.se.weight", "conv1.scales", "bn1.eps", "layer1.conv1.weight"]
    ours = to_ours(dict.fromkeys([*left_out, *unknown, "bn1.weight"], number), "resnet18")
    assert set(ours) == {*unknown, "stem.norm.scale"}


def test_kernels_are_turned():
    theirs = np.arange(2 * 3 * 5 * 7, dtype=np.float32).reshape(2, 3, 5, 7)
    ours = to_ours({"conv1.weight": theirs}, "resnet18")["stem.kernel"]
    assert ours.shape == (5, 7, 3, 2)
    assert ours[4, 6, 2, 1] == theirs[1, 2, 4, 6]


@pytest.mark.parametrize(("kind", "cells"), [("resnet50", 7), ("vgg16", 14), ("densenet169", 7)])
def test_the_grid_of_an_image_of_224_pixels(kind, cells):
    channels, shapes, _ = outline(EncoderConfig(kind), 224)
    assert shapes[-1] == (1, cells, cells, channels)


@pytest.mark.parametrize(("kind", "stages"), [("resnet18", 4), ("vgg13_bn", 5), ("densenet121", 4)])
def test_a_network_that_ends_earlier_has_the_first_stages_alone(kind, stages):
    channels, shapes, arrays = zip(
        *(outline(EncoderConfig(kind, ends_after=n), 64) for n in [*range(1, stages), None]), strict=True
    )
    whole = shapes[-1]
    assert list(shapes) == [whole[:n] for n in range(1, stages + 1)]
    assert list(channels) == [shape[-1] for shape in whole]
    assert sorted(set(arrays)) == list(arrays)  # what lies beyond is not there
    with pytest.raises(ValueError, match=f"{kind} has {stages} stages and cannot end after {stages + 1}"):
        abstract(EncoderConfig(kind, ends_after=stages + 1))


@pytest.mark.parametrize("kind", ["resnet18", "resnet50", "vgg11", "vgg11_bn", "densenet121"])
def test_all_is_parameters_and_running_statistics(kind):
    encoder = nnx.merge(*abstract(EncoderConfig(kind)))
    _, _, statistics = nnx.split(encoder, nnx.Param, nnx.BatchStat)  # raises if anything is left over
    assert bool(jax.tree.leaves(statistics)) == (kind != "vgg11")


def real(kind, batch_norm="frozen"):
    """The configuration of published weights, and these; their larger epsilon is made up for in the variances."""
    if kind == "resnet50":
        config = EncoderConfig(kind, ends_after=3, resnet_version="1", batch_norm=batch_norm)
    else:
        config = EncoderConfig(kind, batch_norm=batch_norm)
    weights = to_ours(safetensors.numpy.load_file(WEIGHTS / REAL[kind]), config.kind)
    for name in weights:
        if name.endswith(".variance"):
            weights[name] = weights[name] + np.float32(KERAS_EPSILON - EPSILON)
    return config, weights


@on_photographs
@pytest.mark.slow
@pytest.mark.parametrize("kind", REAL)
def test_photographs_look_as_they_do_to_torchvision(golden, kind):
    cells = cells_of(*real(kind), photographs(FLICKR8K, 4))
    assert_digests(cells, golden["photographs"][kind]["stages"])


def norms_of_a_batch(config, pixels):
    """What batch norms come to hold, as a function of the weights, after one batch in training."""
    graphdef, shapes = abstract(config)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(state, pixels):
        encoder = nnx.merge(graphdef, state)
        encoder(pixels, nnx.Rngs(0))
        return nnx.to_pure_dict(nnx.state(encoder, nnx.BatchStat))

    def held(weights):
        leaves = jax.tree.leaves_with_path(run(filled(shapes, weights), pixels))
        return {dotted(path): np.asarray(leaf) for path, leaf in leaves}

    return held


def misplaced(before, after):
    """How far the means of each batch norm's inputs lie from the running ones, in running deviations: the median.

    As the batch was normalised by its own statistics on its way, one wrong layer does not spoil those after it.
    """
    return np.array(
        [
            np.median(np.abs(mean - before[name]) / MOMENTUM / np.sqrt(before[name.replace(".mean", ".variance")]))
            for name, mean in after.items()
            if name.endswith(".mean")
        ]
    )


@on_photographs
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "norms"), [("resnet50", 43), ("densenet169", 169)])
def test_batch_norms_meet_on_photographs_what_they_have_met(kind, norms):
    """Every norm's inputs have the stored means, as they do not if each kernel takes its channels in another order."""
    config, weights = real(kind, "trained")
    rng = np.random.default_rng(0)
    shuffled = {n: rng.permutation(x, axis=2) if n.endswith("kernel") else x for n, x in weights.items()}
    held = norms_of_a_batch(config, photographs(FLICKR8K, 16))
    right, wrong = (misplaced(before, held(before)) for before in (weights, shuffled))
    assert right.shape == (norms,)
    assert right.max() < 0.12  # 0.07 in either network
    assert np.median(wrong) > 0.2  # 0.26 and 0.27
