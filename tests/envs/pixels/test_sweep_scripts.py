"""Films of scripted behaviour: a pool has good, middling and hopeless videos, and nuisance changes pictures only."""

import dataclasses

import numpy as np
import pytest

from envs.pixels.nuisance import HEAVY, NONE, Nuisance
from envs.pixels.sweep_physics import BODIES, STRIDE
from envs.pixels.sweep_scripts import films
from envs.pixels.sweep_tasks import TASKS


def pool(task, body, n, seed=0, **other):
    return films(task, body, n, np.random.default_rng(seed), **{"size": 16, **other})


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
def test_what_is_meant_well_succeeds_at_times_and_wandering_hardly_ever(body):
    for task, good in (("avoiding", "around"), ("grouping", "together"), ("covering", "sweeping")):
        well, badly = (pool(task, body, 40, scripts=[name]).success.mean() for name in (good, "wander"))
        assert well > 0.05 and well > badly


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Nuisance)])
def test_each_kind_of_nuisance_changes_frames_and_nothing_else(field):
    plain = pool("grouping", "gripper", 3, size=64)
    shown = pool(
        "grouping", "gripper", 3, size=64, nuisance=dataclasses.replace(NONE, **{field: getattr(HEAVY, field)})
    )
    assert (plain.frames != shown.frames).any((1, 2, 3, 4)).all()
    for name in ("act", "state", "reward", "success"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(shown, name))


@pytest.mark.parametrize("task", TASKS)
def test_frames_actions_and_states_belong_together(task):
    film = pool(task, "short", 12, seed=2)
    assert film.frames.shape == (12, 20, 16, 16, 3) and film.act.shape == (12, 20, 2)
    assert (np.abs(film.act) <= 1).all() and film.state.dtype == film.act.dtype == np.float32
    moved = film.state[:, 1:, :2] - film.state[:, :-1, :2]
    free = np.abs(film.state[:, 1:, :2]).max(-1) < 0.6
    # Between two frames lies the action of the later one: an earlier one would not fit.
    error, early = (np.abs(moved - STRIDE * act)[free].mean() for act in (film.act[:, 1:], film.act[:, :-1]))
    assert error < 0.02 and early > 2 * error
    np.testing.assert_allclose(film.state[0, :, 2 + 2 * (1 if task == "avoiding" else 2)], np.arange(1, 21) / 20)


def test_narrow_starts_are_nearly_alike():
    wide, narrow = (
        pool("grouping", "long", 30, starts=s, scripts=["straight"]).state[:, 0, 2:6] for s in ("wide", "narrow")
    )
    assert narrow.std(0).max() < 0.05 < wide.std(0).min()


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="n is 0"):
        pool("grouping", "long", 0)
    with pytest.raises(ValueError, match="'around'; for grouping there are together"):
        pool("grouping", "long", 1, scripts=["around"])
    with pytest.raises(ValueError, match="'x'"):
        pool("x", "long", 1)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("body", BODIES)
def test_a_pool_has_all_kinds_of_videos(task, body):
    film = pool(task, body, 400, seed=11)
    returns = film.reward.sum(1)
    assert 0.05 < film.success.mean() < 0.4
    assert len(np.unique(returns.round(6))) > 390
    # A video that succeeds is worth more than one that does not, three times in four at least (.81 to 1 in trials).
    assert (returns[film.success][:, None] > returns[~film.success]).mean() > 0.75
