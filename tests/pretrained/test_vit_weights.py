"""Vision Transformers with weights made from names equal those of others, block by block."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig
from captioner_jax.model.names import flat
from captioner_jax.model.vit import ViT
from captioner_jax.pretrained.vit_names import to_ours
from tests.pretrained.making import digest, images, made

GOLDEN = json.loads((Path(__file__).parent / "vit_golden.json").read_text())
AFTER_THE_FIRST_BLOCK = r"\blayers\.[1-9]"  # as transformers writes it
slow = pytest.mark.slow


def tensors(case):
    return {name: made(name, tuple(shape)) for name, shape in GOLDEN[case]["shapes"].items()}


def first_tensors(case):
    """Those of a network that ends after its first block."""
    shapes = GOLDEN[case]["shapes"].items()
    return {name: made(name, tuple(shape)) for name, shape in shapes if not re.search(AFTER_THE_FIRST_BLOCK, name)}


def cells(config, theirs):
    """What each block of ours gives with their tensors, which are neither too few nor too many."""
    abstract = nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0)))
    variables = nnx.to_pure_dict(nnx.state(abstract))
    ours = to_ours(theirs, config.kind)
    assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in flat(variables).items()}
    filled = jax.tree.unflatten(jax.tree.structure(variables), [jnp.asarray(ours[name]) for name in flat(variables)])
    return nnx.merge(nnx.graphdef(abstract), filled).stages(jnp.asarray(images(224)))


def assert_like(cells, expected):
    found = digest(np.asarray(cells))
    assert found["shape"] == expected["shape"]
    for name in ("mean", "size", "values"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-4 * expected["size"])


@pytest.mark.parametrize(
    "case",
    [
        "vit_s16 timm",
        pytest.param("clip_b32 transformers", marks=slow),
        *(pytest.param(f"vit_b16 {whose}", marks=slow) for whose in ("timm", "torchvision", "transformers")),
        pytest.param("clip_b16 transformers", marks=slow),
    ],
)
def test_every_block_equals_theirs(case):
    stages = cells(EncoderConfig(case.split()[0]), tensors(case))
    for block, expected in GOLDEN[case]["blocks"].items():
        if int(block) < len(stages) - 1:
            assert_like(stages[int(block)], expected)
    assert_like(stages[-1], GOLDEN[case]["end"])


def test_the_first_block_of_clip_equals_theirs():
    (first,) = cells(EncoderConfig("clip_b32", ends_after=1), first_tensors("clip_b32 transformers"))
    assert_like(first, GOLDEN["clip_b32 transformers"]["blocks"]["0"])


@pytest.mark.parametrize("case", ["vit_s16 timm", "vit_b16 torchvision", "clip_b32 transformers"])
def test_norms_add_what_theirs_add(case):
    """Too little to be seen in cells. (The ViT of transformers adds 1e-12, where the others add 1e-6.)"""
    net = nnx.eval_shape(lambda: ViT(EncoderConfig(case.split()[0]), rngs=nnx.Rngs(0)))
    ours = {module.epsilon for _, module in nnx.iter_modules(net) if isinstance(module, nnx.LayerNorm)}
    assert ours == set(GOLDEN[case]["epsilons"])


def older(name):
    """As transformers before version 5 wrote it, which is how the files lie on the hub."""
    for new, old in (
        ("layers.", "encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        name = name.replace(new, old)
    return "vit." + name


def test_older_names_lead_to_the_same_places():
    new = first_tensors("vit_b16 transformers")
    unused = {"classifier.weight": np.zeros((2, 768)), "vit.pooler.dense.bias": np.zeros(768)}
    old = {older(name): tensor for name, tensor in new.items()} | unused
    assert not old.keys() & new.keys()
    expected = to_ours(new, "vit_b16")
    found = to_ours(old, "vit_b16")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_torchvisions_older_names_of_the_mlp_lead_to_the_same_places():
    first, second = made("first", (2, 3)), made("second", (3, 2))
    for names in (("0", "3"), ("linear_1", "linear_2")):
        theirs = [f"encoder.layers.encoder_layer_3.mlp.{name}.weight" for name in names]
        found = to_ours(dict(zip(theirs, (first, second), strict=True)), "vit_b16")
        assert found.keys() == {"blocks.3.linear_1.kernel", "blocks.3.linear_2.kernel"}
        np.testing.assert_array_equal(found["blocks.3.linear_1.kernel"], first.T)
        np.testing.assert_array_equal(found["blocks.3.linear_2.kernel"], second.T)


def test_a_whole_clip_gives_its_image_tower():
    tower = first_tensors("clip_b32 transformers")
    whole = {f"vision_model.{name}": tensor for name, tensor in tower.items()}
    whole |= {"logit_scale": np.zeros(()), "text_model.final_layer_norm.bias": np.zeros(512)}
    whole |= {
        "visual_projection.weight": np.zeros((512, 768)),
        "vision_model.embeddings.position_ids": np.zeros((1, 50)),
    }
    assert to_ours(whole, "clip_b32").keys() == to_ours(tower, "clip_b32").keys()


def test_what_is_not_known_is_handed_back():
    odd = {"blocks.0.gamma": np.zeros(3), "blocks.0.attn.qkv.weight": np.zeros((7, 5))}
    assert to_ours(odd, "vit_s16").keys() == odd.keys()
