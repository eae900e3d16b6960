"""Questions that are made: no pair there is beats them, and a duel's regret is what walking the two ways costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.criteria import deviation, expected_information
from embodied.generated import maximum_regret, telling
from embodied.planning import World, evaluate, expected_features, mean_return, optimal, uniform_policy
from embodied.walks import every_way, partial_return, steps, walks
from envs.delivery import board


@given(seed=st.integers(0, 10**6))
def test_no_pair_of_ways_is_worth_more(seed):
    utility = np.random.default_rng(seed).normal(scale=2, size=(3, 4, 5))
    chosen = telling(utility, 4, np.random.default_rng(seed))
    worth = [
        max(
            float(expected_information(utility[:, n, [i]] - utility[:, n, [j]])[0])
            for i in range(5)
            for j in range(5)
            if i != j
        )
        for n in range(4)
    ]
    assert chosen[:, 0].tolist() == np.argsort(worth)[::-1].tolist()
    got = expected_information(utility[:, chosen[:, 0], chosen[:, 1]] - utility[:, chosen[:, 0], chosen[:, 2]])
    np.testing.assert_allclose(got, np.sort(worth)[::-1], atol=1e-12)
    order = np.random.default_rng(seed).permutation(4)
    moved = telling(utility[:, order], 2, np.random.default_rng(1))
    assert order[moved[:, 0]].tolist() == chosen[:2, 0].tolist()


def test_generated_questions_tell_at_least_as_much_as_any_that_was_met():
    """Exhaustive search against a thousand pairs of walks from the same states, under rewards drawn at random."""
    world, rng = board(), np.random.default_rng(0)
    weights = rng.normal(scale=3, size=(8, 6))
    ways = every_way(world, world.starts, 3)
    utility = np.stack([partial_return(w, ways) for w in weights])
    made = telling(utility, len(world.starts), rng)
    best = expected_information(utility[:, made[:, 0], made[:, 1]] - utility[:, made[:, 0], made[:, 2]])
    place = {int(world.starts[n]): value for n, value in zip(made[:, 0], best, strict=True)}
    met = walks(world, uniform_policy(world), (20_000, 2), 3, rng)
    at = steps(met).state[..., 0].numpy()
    met = met[np.flatnonzero(at[:, 0] == at[:, 1])]
    assert len(met) > 100
    drawn = np.stack([partial_return(w, met) for w in weights])
    value = expected_information(drawn[..., 0] - drawn[..., 1])
    start = steps(met).state[:, 0, 0].numpy()
    assert all(v <= place[int(s)] + 1e-9 for v, s in zip(value, start, strict=True))


def test_every_way_is_every_sequence_of_actions_once():
    world = board()
    ways = every_way(world, world.starts[[0, 40]], 3)
    assert ways.obs.shape == (2, 64, 3, 8)
    assert {tuple(a) for a in ways.act[0, :, :, 0].int().tolist()} == {
        (a, b, c) for a in range(4) for b in range(4) for c in range(4)
    }
    at = steps(ways)
    np.testing.assert_array_equal(at.state[:, :, 0], np.repeat(world.starts[[0, 40]][:, None], 64, 1))
    real = at.mask.numpy()
    follow = world.next[at.state.numpy(), at.action.numpy(), 0]
    np.testing.assert_array_equal(at.next.numpy()[real], follow[real])


def test_ways_that_cannot_be_gone_through_are_refused():
    world = board(chances={4: 0.95})
    with pytest.raises(ValueError, match="more than one outcome"):
        every_way(world, world.starts, 2)
    with pytest.raises(ValueError, match="92 times 4 to the power of 7"):
        every_way(board(), board().starts, 7)
    with pytest.raises(ValueError, match=r"utility has shape \(2, 3, 1\)"):
        telling(np.zeros((2, 3, 1)), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="choose 4 of 3"):
        telling(np.zeros((2, 3, 2)), 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="E >= 2"):
        telling(np.zeros((1, 3, 2)), 1, np.random.default_rng(0), deviation)


def test_a_duels_regret_is_what_both_lose():
    """Each pair and start by the definition: values of either policy under either reward, solved one at a time."""
    world, rng = board(), np.random.default_rng(1)
    weights = np.concatenate([world.weights[None], rng.choice(world.weights, (3, 6))])
    duels = maximum_regret(world, weights, 6, rng)
    phi = expected_features(world)
    worth = np.empty((4, 4, len(world.terminal)))
    for e in range(4):
        for f in range(4):
            policy = optimal(world, phi @ weights[f]).policy()
            worth[e, f] = evaluate(world, policy, (phi @ weights[e])[..., None])[:, 0]
    lost = {
        (e, f): (worth[e, e] - worth[e, f] + worth[f, f] - worth[f, e])[world.starts]
        for e in range(4)
        for f in range(e + 1, 4)
    }
    ranked = sorted(lost, key=lambda pair: -lost[pair].max())
    assert list(zip(duels.first.tolist(), duels.second.tolist(), strict=True)) == ranked
    np.testing.assert_allclose(duels.regret, [lost[pair].max() for pair in ranked], rtol=1e-9)
    assert (duels.regret >= -1e-9).all()


def test_the_ways_of_a_duel_are_those_of_its_policies():
    """To the end on a board without chance they earn what was computed, up to discounting (gamma 1 here)."""
    base = board()
    world = board(gamma=1.0)
    weights = np.array([[-1, 50, -50, 1, -1, -2.0], [-1, 10, -50, 1, -5, -5.0], [-5, 50, -10, 1, -1, -1]])
    duels = maximum_regret(world, weights, 3, np.random.default_rng(0))
    ways = duels.segments(world, 80, np.random.default_rng(0))
    at = steps(ways)
    assert world.terminal[at.end.numpy()].all()
    np.testing.assert_array_equal(at.state[:, 0, 0], duels.start)
    np.testing.assert_array_equal(at.state[:, 1, 0], duels.start)
    for side, members in enumerate((duels.first, duels.second)):
        for n, member in enumerate(members):
            value = optimal(world, expected_features(world) @ weights[member]).value[duels.start[n]]
            assert partial_return(weights[member], ways)[n, side] == pytest.approx(value)
    assert mean_return(base, duels.policies[0], expected_features(base) @ base.weights) > 0


def test_duels_need_members_that_can_be_told_apart_by_shape():
    world = board()
    with pytest.raises(ValueError, match=r"weights have shape \(1, 6\)"):
        maximum_regret(world, np.ones((1, 6)), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="choose 2 of 1"):
        maximum_regret(world, -np.ones((2, 6)), 2, np.random.default_rng(0))


def test_chance_decides_between_equal_questions():
    utility = np.zeros((2, 6, 3))
    first = {int(telling(utility, 1, np.random.default_rng(seed))[0, 0]) for seed in range(60)}
    assert first == set(range(6))


def test_a_world_of_ones_own_is_enough():
    line = World(
        np.array([[[0], [1]], [[0], [2]], [[2], [2]]]),
        np.ones((3, 2, 1)),
        np.array([[[[-1.0]], [[-1.0]]], [[[-1.0]], [[5.0]]], [[[0.0]], [[0.0]]]]),
        np.array([False, False, True]),
        np.array([0, 1]),
        0.9,
    )
    ways = every_way(line, line.starts, 2)
    np.testing.assert_array_equal(partial_return(np.ones(1), ways), [[-2, -2, -2, 4], [-2, -2, 5, 5]])
