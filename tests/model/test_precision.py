"""In bfloat16 everything is bfloat16, but for what must not be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend import core

from captioner_jax import bundle
from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.model.attention import attention_weights
from captioner_jax.model.convolutions import BatchNorm
from captioner_jax.model.precision import in_bfloat16
from captioner_jax.training.loss import token_losses

KINDS = [
    ("convnet", None, "cross"),
    ("resnet50", 1, "concat"),
    ("vgg11_bn", 1, "weighted"),
    ("densenet121", 1, "sigmoid"),
    ("vit_s16", 1, "cross"),
    ("clip_b32", 1, "cross"),
]


@pytest.fixture(params=KINDS, ids=[kind for kind, _, _ in KINDS])
def rounded(request):
    """A captioner's structure, and its variables as shapes in bfloat16."""
    kind, ends_after, fusion = request.param
    encoder = EncoderConfig(kind, 4, (16, 32), (0, 1), ends_after=ends_after, batch_norm="trained")
    model = ModelConfig(width=16, heads=2, feed_forward=32, layers=1, fusion=fusion, dropout=0.1, encoder=encoder)
    graphdef, variables = bundle.abstract(model, 20)
    return graphdef, jax.eval_shape(in_bfloat16, variables)


def operations(program):
    """Each operation on floats in a program and those that it calls, with the types that it takes."""
    for equation in program.eqns:
        types = {x.aval.dtype.name for x in equation.invars if jnp.issubdtype(x.aval.dtype, jnp.floating)}
        if types:
            yield equation.primitive.name, tuple(sorted(types))
        for inner in jax.tree.leaves(list(equation.params.values())):
            if isinstance(inner, core.ClosedJaxpr | core.Jaxpr):
                yield from operations(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)


def test_products_take_bfloat16_and_sums_exponentials_and_roots_float32(rounded):
    """Traced, in training: the sums are those of softmax and normalisation."""
    graphdef, variables = rounded

    def logits(variables, images, ids):
        return nnx.merge(graphdef, variables)(images, ids, ids != 0, nnx.Rngs(dropout=jax.random.key(0)))

    program = jax.make_jaxpr(logits)(variables, jnp.zeros((2, 64, 64, 3)), jnp.zeros((2, 5), jnp.int32))
    found = set(operations(program.jaxpr))
    assert {types for name, types in found if name in ("dot_general", "conv_general_dilated")} == {("bfloat16",)}
    precise = {"exp", "rsqrt", "reduce_sum", "reduce_max"}
    assert {one for one in found if one[0] in precise} == {(name, ("float32",)) for name in precise}
    assert [out.dtype for out in program.out_avals] == [jnp.float32]


def test_what_normalisations_hold_stays_float32_and_nothing_else(rounded):
    norms = nnx.LayerNorm | nnx.GroupNorm | BatchNorm
    model = nnx.merge(*rounded)
    modules = [module for _, module in nnx.iter_modules(model) if isinstance(module, norms)]
    held = {id(leaf) for module in modules for leaf in jax.tree.leaves(module)}
    assert held
    for leaf in jax.tree.leaves(nnx.state(model)):
        assert leaf.dtype == (jnp.float32 if id(leaf) in held else jnp.bfloat16)


def test_bfloat16_scores_make_distributions_however_large():
    q, k = (400 * jax.random.normal(jax.random.key(seed), (1, 2, 5, 8), jnp.bfloat16) for seed in (0, 1))
    weights = attention_weights(q, k)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    losses = token_losses(jnp.full((1, 1, 4), 1e38, jnp.bfloat16).at[:, :, 1].set(-1e38), jnp.array([[0]]))
    np.testing.assert_allclose(losses, np.log(3), rtol=1e-6)
