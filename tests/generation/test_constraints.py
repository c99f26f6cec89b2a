"""A constraint is never violated: captions written at random, a word at a time, from what constraints leave."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner_jax.generation.constraints import (
    Constraint,
    SoFar,
    at_least,
    at_most,
    banned,
    begins_with,
    constrained,
    does_not_end_with,
    must_say,
    no_repeated,
    repeats_cost,
)
from captioner_jax.text.special import END, PAD, START, UNKNOWN

V, T = 10, 9
WORDS = range(4, V)
words = st.integers(4, V - 1)
some_words = st.lists(words, min_size=1, max_size=3, unique=True)


def contains(wanted):
    return lambda caption: set(wanted) <= set(caption)


def n_grams_differ(n):
    def differ(caption):
        grams = [tuple(caption[i : i + n]) for i in range(len(caption) - n + 1)]
        return len(grams) == len(set(grams))

    return differ


def ends_well(wanted, never_last):
    return [must_say(wanted, T - 1, never_last), does_not_end_with(never_last, T - 1)]


# Of each constraint: how it is made, from what, and what must then hold of a caption's words.
LAWS = {
    "banned": (banned, some_words, lambda given: lambda caption: not set(given) & set(caption)),
    "at_least": (at_least, st.integers(0, T - 1), lambda n: lambda caption: len(caption) >= n),
    "at_most": (at_most, st.integers(1, T - 1), lambda n: lambda caption: len(caption) <= n),
    "begins_with": (begins_with, some_words, lambda given: lambda caption: caption[: len(given)] == given),
    "does_not_end_with": (
        lambda given: does_not_end_with(given, T - 1),
        some_words,
        lambda given: lambda caption: not caption or caption[-1] not in given,
    ),
    "no_repeated": (no_repeated, st.integers(1, 4), n_grams_differ),
    "must_say": (lambda given: must_say(given, T - 1), some_words, contains),
    "must_say_and_end_well": (
        lambda given: lambda log_p, so_far: constrained(log_p, so_far, ends_well(*given)),
        st.tuples(some_words, some_words),
        lambda given: lambda caption: set(given[0]) <= set(caption) and caption[-1] not in given[1],
    ),
}


def write(constraints: list[Constraint], seed: int) -> list[int] | None:
    """A caption whose words are drawn evenly from those allowed; None where it comes to a dead end."""
    rng = np.random.default_rng(seed)
    tokens = np.full((1, 1, T), PAD, np.int32)
    never = np.isin(np.arange(V), [PAD, START, UNKNOWN])
    for count in range(T):
        log_p = jnp.asarray(np.where(never, -np.inf, np.log(1 / (V - 3))), jnp.float32)[None, None]
        left = np.asarray(constrained(log_p, SoFar(jnp.asarray(tokens), jnp.asarray(count)), constraints))[0, 0]
        if np.isneginf(left).all():
            return None
        # An end is unlikely, that long captions be tried too.
        allowed = np.flatnonzero(np.isfinite(left))
        weights = np.where(allowed == END, 0.1, 1.0)
        tokens[0, 0, count] = rng.choice(allowed, p=weights / weights.sum())
        if tokens[0, 0, count] == END:
            return tokens[0, 0, :count].tolist()
    return tokens[0, 0].tolist()


@pytest.mark.parametrize("name", LAWS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_each_holds(name, data, seed):
    make, values, law = LAWS[name]
    value = data.draw(values)
    caption = write([make(value), at_most(T - 1)], seed)
    if caption is None:  # words run out only where none may come twice
        assert (name, value) == ("no_repeated", 1)
        return
    assert law(value)(caption)
    assert len(caption) < T


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_all_that_are_asked_for_hold(data, seed):
    names = data.draw(st.lists(st.sampled_from(sorted(LAWS)), min_size=2, unique=True))
    values = {name: data.draw(LAWS[name][1]) for name in names}
    constraints = [at_most(T - 1)] + [LAWS[name][0](value) for name, value in values.items()]
    caption = write(data.draw(st.permutations(constraints)), seed)
    if caption is not None:
        assert all(LAWS[name][2](value)(caption) for name, value in values.items())


def test_what_is_left_keeps_its_probability_and_nothing_more_is_forbidden():
    """All next words of a caption, one by one."""
    tokens = jnp.asarray([[[4, 5, 6, 4, 5] + [PAD] * (T - 5)]])
    log_p = jnp.log(jnp.full((1, 1, V), 0.1))
    expected = {
        no_repeated(3): {6},
        no_repeated(2): {6},
        no_repeated(1): {4, 5, 6},
        no_repeated(6): set(),
        banned([7, 8]): {7, 8},
        at_least(5): set(),
        at_least(6): {END},
        at_most(6): set(),
        at_most(5): set(range(V)) - {END},
        does_not_end_with([5], 9): {END},
        does_not_end_with([4, 7], 6): {4, 7},
        must_say([4, 5], 6): set(),
        must_say([4, 9], 9): {END},
        must_say([4, 9], 6): set(range(V)) - {9},
        must_say([4, 9], 7): {END},
        must_say([4, 9], 7, [9]): set(range(V)) - {9},
        must_say([8, 9], 7, [9]): set(range(V)) - {9},
        must_say([8, 9], 8, [9]): {END},
        begins_with([4, 5]): set(),
        begins_with([4, 5, 6, 4, 5, 8]): set(range(V)) - {8},
    }
    for constraint, forbidden in expected.items():
        left = constraint(log_p, SoFar(tokens, jnp.asarray(5)))[0, 0]
        assert set(np.flatnonzero(np.isneginf(left))) == forbidden
        kept = sorted(set(range(V)) - forbidden)
        np.testing.assert_array_equal(left[jnp.asarray(kept, int)], log_p[0, 0, jnp.asarray(kept, int)])


def test_repeats_cost_more():
    tokens = jnp.asarray([[[4, 5, 6, 4] + [PAD] * 5], [[7, 7, 7, 8] + [PAD] * 5]])
    log_p = jnp.log(jnp.tile(jnp.arange(1, V + 1, dtype=jnp.float32)[None, None], (2, 1, 1)) / 55)
    dearer = repeats_cost(1.5)(log_p, SoFar(tokens, jnp.asarray(4)))
    for row, said in enumerate([{4, 5, 6}, {7, 8}]):
        for word in WORDS:
            factor = 1.5 if word in said else 1.0
            np.testing.assert_allclose(dearer[row, 0, word], factor * log_p[row, 0, word], rtol=1e-6)


def test_each_caption_is_held_to_constraints_by_itself():
    tokens = jnp.asarray([[[4, 5, 6, 0, 0], [4, 6, 5, 0, 0], [5, 4, 6, 0, 0]]])
    left = does_not_end_with([6], 5)(jnp.zeros((1, 3, V)), SoFar(tokens, jnp.asarray(3)))
    assert np.isneginf(left[0, :, END]).tolist() == [True, False, True]
    left = must_say([4], 5)(jnp.zeros((1, 3, V)), SoFar(jnp.where(tokens == 4, 7, tokens), jnp.asarray(3)))
    assert np.isneginf(left[0, :, END]).all()
