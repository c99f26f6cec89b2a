"""Each answer to what a word rests on, against its definition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from captioner_jax.captioning import Captioner
from captioner_jax.explain.evidence import gradient_weighted, mean_attention, occlusion, rollout
from tests.making import untrained

T, S = 6, 9


def shares(rng, *shape):
    raw = rng.random(shape)
    return raw / raw.sum(-1, keepdims=True)


def test_what_is_gone_over_is_what_the_decoder_says(captioner, retold, photograph):
    retelling = retold(captioner)
    inputs = jnp.concatenate([jnp.ones((2, 1), int), retelling.tokens[:, :-1]], axis=1)
    decoder = retelling.decoder
    expected = decoder(inputs, inputs != 0, decoder.project(retelling.memory))
    np.testing.assert_allclose(retelling.logits()[0], expected, rtol=1e-4, atol=1e-4)


def test_rollout_is_where_a_walk_from_the_word_down_the_layers_ends(captioner, retold):
    """Each residual stream is followed by hand, as the shares of cells and words that it is mixed of."""
    _, looks = retold(captioner).logits()
    words, cells, among = np.eye(T)[None].repeat(2, 0), np.zeros((2, T, S)), np.eye(S)[None].repeat(2, 0)
    for layer in looks:
        at_words, at_cells = np.asarray(layer.words).mean(1), np.asarray(layer.cells).mean(1)
        if layer.among is None:
            words, cells = (words + at_words @ words) / 2, (cells + at_words @ cells) / 2
            words, cells = words / 2, (cells + at_cells @ among) / 2
        else:
            words, cells = (words + at_words @ words) / 2, (cells + at_words @ cells + at_cells @ among) / 2
            among = (among + np.asarray(layer.among).mean(1) @ among) / 2
    np.testing.assert_allclose(words.sum(-1) + cells.sum(-1), 1, rtol=1e-5)  # a distribution
    np.testing.assert_allclose(rollout(looks), cells, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_one_layer_is_that_of_finite_differences(retold):
    """The first token, which sees no other: its map is E_h (A dy/dA)^+ of the cells alone."""
    retelling = retold(Captioner(untrained(layers=1, image_size=24)))
    _, (looks,) = retelling.logits()
    nothing = jax.tree.map(jnp.zeros_like, looks)
    step, slopes = 1e-2, np.zeros((2, 2, S))
    for head in range(2):
        for cell in range(S):
            up, down = (
                retelling.of_tokens(
                    retelling.logits(nudges=[nothing._replace(cells=nothing.cells.at[:, head, 0, cell].set(by))])[0]
                )[:, 0]
                for by in (step, -step)
            )
            slopes[:, head, cell] = (up - down) / (2 * step)
    expected = np.maximum(looks.cells[:, :, 0] * slopes, 0).mean(1)
    np.testing.assert_allclose(gradient_weighted(retelling)[:, 0], expected, rtol=2e-2, atol=1e-4)


def test_occlusion_is_what_is_lost_without_the_cell(captioner, retold):
    retelling = retold(captioner)
    lost = occlusion(retelling)
    for cell in (0, 4):
        without = jnp.tile(jnp.arange(S) != cell, (2, 1))
        np.testing.assert_allclose(lost[..., cell], retelling.log_p() - retelling.log_p(without), rtol=1e-4, atol=1e-5)


def test_taking_out_nothing_changes_nothing(captioner, retold):
    retelling = retold(captioner)
    np.testing.assert_array_equal(retelling.log_p(jnp.ones((2, S), bool)), retelling.log_p())


def test_nothing_rests_on_cells_of_which_nothing_is_read(cross, retold):
    """Attention goes on as before; that it means nothing shows in gradients and occlusion alone."""
    one = cross.bundles[0]
    blind = jax.tree.map_with_path(
        lambda path, leaf: (
            np.zeros_like(leaf)
            if "cross_attention" in jax.tree_util.keystr(path) and "w_v" in jax.tree_util.keystr(path)
            else leaf
        ),
        one.parameters,
    )
    retelling = retold(Captioner(dataclasses.replace(one, parameters=blind)))
    np.testing.assert_array_equal(gradient_weighted(retelling), 0)
    np.testing.assert_allclose(occlusion(retelling)[0], 0, atol=1e-5)
    np.testing.assert_allclose(mean_attention(retelling.logits()[1]).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("answer", [gradient_weighted, occlusion])
@pytest.mark.parametrize("captioner", ["cross", "concat"], indirect=True)
def test_what_comes_later_changes_no_answer(captioner, retold, answer):
    retelling = retold(captioner)
    other = retelling._replace(tokens=retelling.tokens.at[:, 4:].set(10))
    before, after = np.asarray(answer(retelling))[0], np.asarray(answer(other))[0]
    np.testing.assert_allclose(before[:4], after[:4], rtol=1e-3, atol=1e-5)
    assert np.abs(before[4:] - after[4:]).max() > 1e-4


def test_other_weights_give_other_maps(cross, photograph):
    """The randomisation test of Adebayo et al. 2018, section 3: a map that tells of the model changes with it."""
    maps = cross.grounds(photograph, beam=1)
    others = Captioner(untrained(seed=1, image_size=24)).grounds(photograph, beam=1)
    for one, other in zip(maps, others, strict=True):
        a, b = one[0].ravel(), other[0].ravel()
        assert np.corrcoef(a, b)[0, 1] < 0.9


def test_mean_attention_is_of_all_layers_and_heads(captioner, retold):
    looks = retold(captioner).logits()[1]
    maps = [np.asarray(one.cells)[:, head] for one in looks for head in range(one.cells.shape[1])]
    np.testing.assert_allclose(mean_attention(looks), sum(maps) / len(maps), rtol=1e-5)
