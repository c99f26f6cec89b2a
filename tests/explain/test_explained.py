"""What is told of a caption is what the search wrote it by."""

import numpy as np
import pytest

from captioner_jax.captioning import Captioner
from captioner_jax.config import EncoderConfig
from captioner_jax.errors import UserError
from captioner_jax.explain.tree import grow
from captioner_jax.text.special import END, PAD
from captioner_jax.text.tokenizer import train_words
from tests.making import untrained


def test_probabilities_are_those_that_the_search_added_up(captioner, photograph):
    told = captioner.explain(photograph, beam=3)
    assert told.caption == captioner.captions(photograph, beam=3)[0][0]
    assert " ".join(told.tokens).removesuffix(" <end>") == told.caption.text
    np.testing.assert_allclose(np.log(told.probabilities).sum(), told.caption.log_p, rtol=1e-4)


def test_looks_are_shares_and_none_looks_ahead(captioner, photograph):
    told = captioner.explain(photograph)
    tokens = len(told.tokens)
    assert told.looks.shape == (2, 2, tokens, 3, 3)
    assert told.looks_back.shape == (2, 2, tokens, tokens)
    at_cells, back = told.looks.sum((-1, -2)), told.looks_back.sum(-1)
    if captioner.bundles[0].model.fusion == "concat":
        np.testing.assert_allclose(at_cells + back, 1, rtol=1e-5)
        assert (at_cells < 0.99).all()
    else:
        np.testing.assert_allclose([at_cells, back], 1, rtol=1e-5)
    np.testing.assert_array_equal(np.triu(told.looks_back, 1), 0)


def test_the_alternatives_are_the_likeliest_first(cross, photograph):
    greedy = cross.explain(photograph, beam=1, good_ending=False)
    for token, p, considered in zip(greedy.tokens, greedy.probabilities, greedy.alternatives, strict=True):
        likelihoods = [one.probability for one in considered]
        assert likelihoods == sorted(likelihoods, reverse=True)
        assert sum(likelihoods) <= 1 + 1e-6
        if token != "<end>":  # which comes of itself where the places are full
            assert considered[0].token == token  # greedy search writes the likeliest
            np.testing.assert_allclose(considered[0].probability, p, rtol=1e-5)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("kind", ["resnet18", "vgg11_bn", "densenet121", "vit_s16", "clip_b32"])
def test_every_family_of_encoders_is_explained(kind, photograph):
    told = Captioner(untrained(encoder=EncoderConfig(kind, ends_after=1), image_size=32)).explain(photograph)
    np.testing.assert_allclose(told.looks.sum((-1, -2)), 1, rtol=1e-5)


def test_the_branches_of_a_search_lead_to_its_caption(captioner, photograph):
    told = captioner.explain(photograph, beam=3)
    branches = captioner.search_tree(photograph, beam=3)
    assert [one.token for one in branches if one.chosen] == told.tokens
    chosen = [one.log_p for one in branches if one.chosen]
    np.testing.assert_allclose(np.diff([0, *chosen]), np.log(told.probabilities), rtol=1e-3, atol=1e-4)
    for number, one in enumerate(branches):
        assert one.parent < number
        assert one.step == (branches[one.parent].step + 1 if one.parent >= 0 else 0)
        assert one.log_p <= (branches[one.parent].log_p if one.parent >= 0 else 0)
        assert not (one.chosen and one.dropped)
    for step in range(max(one.step for one in branches) + 1):
        assert sum(one.step == step for one in branches) <= 3
    ends = [n for n, one in enumerate(branches) if not one.dropped and n not in {other.parent for other in branches}]
    assert 1 <= len(ends) <= 3


def test_what_is_drawn_has_no_tree(cross, photograph):
    with pytest.raises(UserError, match="there is no search to show"):
        cross.search_tree(photograph, top_p=0.9)


def test_a_branch_is_its_beginning_and_one_word_more(cross, photograph):
    branches = cross.search_tree(photograph, beam=3)
    assert [one for one in branches if one.chosen][-1].beginning == cross.explain(photograph, beam=3).caption.text
    for one in branches:
        if one.token != "<end>" and one.parent >= 0:
            assert one.beginning.split() == [*branches[one.parent].beginning.split(), one.token]


def test_what_cannot_be_said_is_no_branch():
    tokenizer, nothing = train_words(["a red dog"], 1), -np.inf
    steps = np.array([[[4, PAD], [5, PAD]], [[4, END], [5, 6]]])
    branches = grow(steps, np.array([[-1.0, nothing], [-1.5, nothing]]), np.array([4, END]), tokenizer)
    assert [one.token for one in branches] == [tokenizer.name(4), "<end>"]
