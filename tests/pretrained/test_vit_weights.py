"""Vision Transformers with weights made from names equal those of others, block by block."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.bundle import flat
from captioner_jax.config import EncoderConfig
from captioner_jax.model.vit import ViT
from captioner_jax.pretrained.vit_names import to_ours
from tests.pretrained.making import digest, images, made

GOLDEN = json.loads((Path(__file__).parent / "vit_golden.json").read_text())
slow = pytest.mark.slow


def tensors(case):
    return {name: made(name, tuple(shape)) for name, shape in GOLDEN[case]["shapes"].items()}


def shapes(kind):
    abstract = nnx.eval_shape(lambda: ViT(EncoderConfig(kind), rngs=nnx.Rngs(0)))
    return nnx.graphdef(abstract), nnx.to_pure_dict(nnx.state(abstract))


def assert_like(cells, expected):
    found = digest(np.asarray(cells))
    assert found["shape"] == expected["shape"]
    for name in ("mean", "size", "values"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-4 * expected["size"])


@pytest.mark.parametrize(
    "case",
    [
        "vit_s16 timm",
        "clip_b32 transformers",
        *(pytest.param(f"vit_b16 {whose}", marks=slow) for whose in ("timm", "torchvision", "transformers")),
        pytest.param("clip_b16 transformers", marks=slow),
    ],
)
def test_every_block_equals_theirs(case):
    kind = case.split()[0]
    graphdef, abstract = shapes(kind)
    ours = to_ours(tensors(case), kind)
    assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in flat(abstract).items()}
    variables = jax.tree.unflatten(jax.tree.structure(abstract), [jnp.asarray(ours[name]) for name in flat(abstract)])
    stages = nnx.merge(graphdef, variables).stages(jnp.asarray(images(224)))
    for block, expected in GOLDEN[case]["blocks"].items():
        if int(block) < len(stages) - 1:
            assert_like(stages[int(block)], expected)
    assert_like(stages[-1], GOLDEN[case]["end"])


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
    new = tensors("vit_b16 transformers")
    unused = {"classifier.weight": np.zeros((2, 768)), "vit.pooler.dense.bias": np.zeros(768)}
    old = {older(name): tensor for name, tensor in new.items()} | unused
    assert not old.keys() & new.keys()
    expected = to_ours(new, "vit_b16")
    found = to_ours(old, "vit_b16")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_whole_clip_gives_its_image_tower():
    tower = tensors("clip_b32 transformers")
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
