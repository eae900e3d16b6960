"""Filming pays what whole videos are worth, tells the time, and is a part of the state."""

import numpy as np
import pytest

from envs.state import Copies, ExactCopies, check
from policies.filmed import LARGEST, Filmed, FilmError, Timed, smaller
from policies.sb3 import Sb3
from tests.rapport.visual.worlds import Blank, Dot, Growing


class Middle:
    """A trunk of one feature: where the light is, from -1 to 1."""

    size = 1

    def __call__(self, frames):
        light = frames[..., 0].astype(float).sum(-2)
        return ((light * np.linspace(-1, 1, light.shape[-1])).sum(-1) / light.sum(-1)).astype(np.float32)[..., None]

    def fingerprint(self):
        return "middle"


def worth(features):
    """Uneven on purpose: no sum over frames."""
    return float(-np.abs(features.mean()) - features.std() ** 2)


def paid(every=1, pay="drop", **kwargs):
    return Filmed(Timed(Dot("rgb_array"), 8), every, Middle(), worth, pay=pay, **kwargs)


def played(env, seed=0):
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    rows = []
    while True:
        obs, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, 1))
        rows.append((reward, info["own"], obs[-1]))
        if terminated or truncated:
            return np.array(rows), terminated, info


@pytest.mark.parametrize("every", [1, 3, 8])
def test_both_ways_to_pay_sum_to_what_the_whole_film_is_worth(every):
    drop, whole = paid(every), paid(every, "sum")
    rows, _, _ = played(drop)
    at_end, terminated, info = played(whole)
    assert len(drop.film) == -(-8 // every) == len(drop.features)
    expected = worth(Middle()(np.stack(drop.film)))
    assert rows[:, 0].sum() == pytest.approx(expected) and at_end[-1, 0] == pytest.approx(expected)
    assert (at_end[:-1, 0] == 0).all()
    filmed = [t for t in range(1, 9) if t % every == 0 or t == 8]
    assert np.flatnonzero(rows[:, 0]).tolist() == [t - 1 for t in filmed]
    assert (rows[:, 1] == at_end[:, 1]).all() and (rows[:, 1] < 0).all()  # the own reward goes on in info
    assert terminated and info["success"] in (True, False)


def test_the_clock_is_in_the_observation_and_the_limit_an_end():
    rows, terminated, _ = played(paid())
    assert rows[:, 2] == pytest.approx(np.arange(1, 9) / 8) and terminated


def test_what_is_paid_can_be_transformed():
    plain, doubled = (played(paid(transform=f))[0][:, 0] for f in (lambda r: r, lambda r: 2 * r))
    assert doubled == pytest.approx(2 * plain)


@pytest.mark.parametrize("pay", ["drop", "sum"])
def test_a_copy_goes_on_in_the_middle_of_a_film_bit_for_bit(pay):
    assert check(lambda: paid(3, pay), steps=13).exact


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_agents_train_on_it_and_a_resumed_one_is_the_same(algorithm):
    import stable_baselines3

    def agent():
        kwargs = {"n_steps": 12, "batch_size": 12} if algorithm == "PPO" else {"learning_starts": 10}
        kind = getattr(stable_baselines3, algorithm)
        return Sb3(ExactCopies(paid, 2, seed=3), seed=0, algorithm=kind, **kwargs)

    whole, first, second = agent(), agent(), agent()
    whole.advance(48)
    first.advance(24)
    second.load_state_dict(first.state_dict())  # after 12 of 8 steps each: in the middle of the second film
    second.advance(24)
    ours, theirs = second.snapshot(), whole.snapshot()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_the_return_of_an_agent_is_the_films_and_success_comes_through():
    agent = Sb3(Copies(paid, 2, seed=0), seed=0, n_steps=16, batch_size=16)
    rollout = agent.advance(32)
    assert len(rollout.returns) == 4 and np.isfinite(rollout.success).all() and (rollout.returns < 0).all()


def test_pictures_are_made_smaller_by_whole_blocks():
    frame = np.arange(4 * 500 * 3, dtype=np.uint64).reshape(4, 500, 3) % 251
    frame = np.repeat(frame.astype(np.uint8), 100, 0)
    found = smaller(frame)
    assert found.shape == (100, 125, 3) and max(found.shape) <= LARGEST
    expected = frame[: 100 * 4].astype(float).reshape(100, 4, 125, 4, 3).mean((1, 3))
    assert np.abs(found - expected).max() <= 0.5
    assert smaller(frame[:20, :20]).shape == (20, 20, 3)


@pytest.mark.parametrize(("kind", "says"), [(Blank, "NoneType"), (Growing, "one size")])
def test_what_does_not_draw_is_refused_with_a_sentence(kind, says):
    env = Filmed(Timed(kind("rgb_array"), 8), 1)
    env.reset(seed=0)
    with pytest.raises(FilmError, match=says):
        for _ in range(3):
            env.step(np.zeros(1))


def test_a_trunk_without_a_worth_and_a_strange_pay_are_refused():
    with pytest.raises(ValueError, match="both or neither"):
        Filmed(Dot("rgb_array"), 1, Middle())
    with pytest.raises(ValueError, match="pay 'step'"):
        Filmed(Dot("rgb_array"), 1, Middle(), worth, pay="step")
    with pytest.raises(ValueError, match="at least one step"):
        Timed(Dot(), 0)
