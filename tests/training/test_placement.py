"""Training on many devices is training on one."""

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from captioner_jax.config import Config, DevicesConfig, ModelConfig, TrainConfig
from captioner_jax.errors import UserError
from captioner_jax.training.placement import Axis, chosen, make_placement
from captioner_jax.training.sharding import DATA, Cut, partition


@pytest.fixture(scope="module")
def found(tmp_path_factory, pytestconfig):
    """What `on_eight_devices` found."""
    file = tmp_path_factory.mktemp("devices") / "found"
    program = [sys.executable, "-m", "tests.training.on_eight_devices", str(file)]
    done = subprocess.run(program, cwd=pytestconfig.rootpath, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pickle.loads(file.read_bytes())


FORMS = [
    ("data", "OnMesh"),
    ("fsdp", "OnMesh"),
    ("tensor", "OnMesh"),
    ("both", "OnMesh"),
    ("pmap", "ByPmap"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_every_form_is_the_step_of_one_device(found, form, kind):
    """Gradients (a trace of momentum holds them), parameters, and statistics of batch norms, which are global."""
    one, other = found["sgd"]["one"], found["sgd"][form]
    assert (one["placement"], other["placement"]) == ("OneDevice", kind)
    for (told, state), (other_told, other_state) in zip(one["steps"], other["steps"], strict=True):
        np.testing.assert_allclose(other_told.loss, told.loss, rtol=1e-6)
        np.testing.assert_allclose(other_told.gradient_norm, told.gradient_norm, rtol=1e-6)
        assert other_told.unusable == told.unusable == 2
        for (path, a), b in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(other_state), strict=True):
            # Sums in another order; a bias before a batch norm has a gradient of zero but for rounding.
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["both", "pmap"])
def test_every_form_computes_in_bfloat16_and_again(found, form):
    """Rounded in another order, and near what float32 finds: by 2^-9 of each number, a few times over."""
    for other in (found["lean"][form], found["sgd"]["one"]):
        for (told, _), (other_told, state) in zip(found["lean"]["one"]["steps"], other["steps"], strict=True):
            np.testing.assert_allclose(other_told.loss, told.loss, rtol=2**-8)
            np.testing.assert_allclose(other_told.gradient_norm, told.gradient_norm, rtol=2**-5)
            assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32", "int32"}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["muon", "self_critical", "taught"])
def test_what_is_cut_learns_the_same(found, objective):
    """Muon takes matrices apart that lie on several devices; self-critical training writes captions within the step;
    a teacher's cells are cut as its images are."""
    one, *others = found[objective].values()
    for (told, _), (other_told, _) in (
        pair for other in others for pair in zip(one["steps"], other["steps"], strict=True)
    ):
        np.testing.assert_allclose(other_told.loss, told.loss, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-5), told.told, other_told.told)


@pytest.mark.slow
def test_what_is_cut_takes_less_of_each_device(found):
    held = {form: result["held"] for form, result in found["sgd"].items()}
    assert held["data"] == held["pmap"] == held["one"]
    assert held["fsdp"] <= 1.01 * held["one"] / 8
    assert held["both"] < held["tensor"] < held["one"]


def test_heads_and_feed_forward_units_are_cut_along_model_and_the_longest_axis_left_along_data():
    block = "decoder.blocks.0.self_attention."
    assert partition(block + "w_q", (32, 2, 16), Cut(1, 2)) == PartitionSpec(None, "model", None)
    assert partition(block + "w_o", (2, 16, 32), Cut(1, 2)) == PartitionSpec("model", None, None)
    assert partition(".average." + block + "bias.k", (2, 16), Cut(8, 2)) == PartitionSpec("model", "data")
    assert partition("decoder.blocks.0.mlp.linear_1.kernel", (32, 64), Cut(4, 2)) == PartitionSpec("data", "model")
    assert partition("decoder.blocks.0.mlp.linear_2.kernel", (64, 32), Cut(1, 2)) == PartitionSpec("model", None)
    assert partition("decoder.embed.embedding", (9, 32), Cut(8, 2)) == PartitionSpec(None, "data")
    assert partition("encoder.stem.kernel", (3, 3, 3, 5), Cut(8, 2)) == PartitionSpec(None, None, None, None)
    assert partition(".step", (), Cut(8, 2)) == PartitionSpec()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": DevicesConfig(data=2, model=3)}, "data 2 x model 3 are more than the 2 devices"),
        ({"train": TrainConfig(batch_size=10, accumulate=4)}, "10 images do not divide among 2 devices .* in 4 parts"),
        ({"model": ModelConfig(heads=3, width=12), "devices": DevicesConfig(model=2)}, "do not divide into 2 shares"),
        ({"devices": DevicesConfig(parallel="pmap", fsdp=True)}, "model and fsdp are for jit"),
    ],
)
def test_what_cannot_be_placed_is_said(settings, message, monkeypatch):
    there = jax.devices() * 2
    monkeypatch.setattr(jax, "devices", lambda: there)
    with pytest.raises(UserError, match=message):
        make_placement(Config(**settings))


def test_devices_that_step_by_themselves_drop_others():
    keys = jax.vmap(lambda _: jax.random.key_data(Axis().own_key(jax.random.key(0))), axis_name=DATA)(jnp.arange(4))
    assert len({tuple(key.tolist()) for key in keys}) == 4


@pytest.mark.parametrize(
    ("config", "hosts", "message"),
    [
        (
            Config(devices=DevicesConfig(model=2), train=TrainConfig(batch_size=6)),
            [0, 0, 0, 1, 1, 1],
            "the 3 of a host",
        ),
        (Config(model=ModelConfig(feed_forward=9), devices=DevicesConfig(model=2)), [0, 0], "do not divide into 2"),
    ],
)
def test_what_does_not_divide_is_refused(config, hosts, message):
    with pytest.raises(UserError, match=message):
        chosen(config, [SimpleNamespace(process_index=host) for host in hosts])
