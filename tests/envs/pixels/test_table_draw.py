"""Pictures of tables, and films."""

from dataclasses import replace

import numpy as np
import pytest

from envs import arm_draw
from envs.arm_draw import RenderError, gl
from envs.pixels.nuisance import HEAVY, NONE
from envs.pixels.table import TableEnv
from envs.pixels.table_arms import ARMS
from envs.pixels.table_draw import Pictures
from envs.pixels.table_looks import CAMERAS
from envs.pixels.table_scripts import films
from envs.state import check

pytestmark = pytest.mark.slow  # they draw, and `make test` needs no OpenGL; without one they fail


def frame(nuisance=NONE, seed=5, first=0, task="clutter", arm="franka", camera="front", size=64):
    env = TableEnv(task, arm)
    env.reset(seed=0)
    pictures = Pictures(task, arm, nuisance, camera, size)
    try:
        return pictures.frames(env.qpos[None], seed, 46, first)[0].astype(int)
    finally:
        pictures.close()


def test_arms_tasks_and_cameras_look_different():
    seen = [frame(task=t, arm=a, camera=c) for t in ("group", "clutter", "wipe") for a in ARMS for c in CAMERAS]
    for i, one in enumerate(seen):
        assert one.shape == (64, 64, 3)
        assert all(np.abs(one - other).mean() > 0.5 for other in seen[:i])


def test_each_kind_of_nuisance_shows_and_without_any_all_videos_look_the_same():
    plain = frame()
    np.testing.assert_array_equal(plain, frame(seed=6, first=9))
    for kind in ("texture", "colours", "shift", "jitter", "flicker", "distractors", "noise"):
        shown = replace(NONE, **{kind: getattr(HEAVY, kind)})
        one = frame(shown)
        assert np.abs(one - plain).max() > 8, kind
        np.testing.assert_array_equal(one, frame(shown))  # the same video, the same picture
        assert np.abs(one - frame(shown, seed=6)).max() > 8, kind


def test_a_run_that_is_resumed_sees_the_same_pictures():
    one, other = (TableEnv("group", "kuka", "heavy", render_mode="rgb_array") for _ in range(2))
    for env, seed in ((one, 1), (other, 1)):
        env.reset(seed=seed)
        for _ in range(3):
            env.step(np.array([1.0, 0.3]))
    np.testing.assert_array_equal(one.render(), other.render())
    assert check(lambda: TableEnv("group", "kuka", "heavy", render_mode="rgb_array")).exact
    for env in (one, other):
        env.close()


def test_films_show_what_was_done():
    made = films("group", "franka", 3, np.random.default_rng(0), nuisance="light", steps=12, size=32)
    again = films("group", "franka", 3, np.random.default_rng(0), nuisance="none", steps=12, size=32)
    assert made.frames.shape == (3, 12, 32, 32, 3) and made.act.shape == (3, 12, 2) and made.state.shape == (3, 12, 7)
    for name in ("act", "state", "reward", "success"):
        np.testing.assert_array_equal(getattr(made, name), getattr(again, name))
    assert (made.frames != again.frames).any()
    env = TableEnv("group", "franka", steps=12, size=32, render_mode="rgb_array")
    rng = np.random.default_rng(0)
    env.reset(seed=int(rng.integers(2**31)))
    for k in range(12):
        obs, reward, *_ = env.step(again.act[0, k])
        # An action is stored in single precision, and so it is played again to within that.
        np.testing.assert_allclose(obs, again.state[0, k], atol=1e-4)
        assert reward == pytest.approx(again.reward[0, k], abs=1e-4)
        assert np.abs(env.render().astype(int) - again.frames[0, k]).mean() < 0.5
    env.close()


def test_without_opengl_it_says_what_to_install_and_the_rest_works(monkeypatch):
    assert gl() in arm_draw.BACKENDS
    monkeypatch.setattr(arm_draw, "BACKENDS", ())
    gl.cache_clear()
    try:
        env = TableEnv("wipe", "kuka", render_mode="rgb_array")
        env.reset(seed=0)
        env.step(np.zeros(2))
        with pytest.raises(RenderError, match=r"apt-get install .*libegl1.*render_mode=None"):
            env.render()
    finally:
        gl.cache_clear()
