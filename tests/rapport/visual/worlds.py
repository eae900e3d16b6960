"""A small world that draws itself, and ways in which a user's own may not."""

from types import SimpleNamespace

import gymnasium
import numpy as np
from gymnasium import spaces


class Dot(gymnasium.Env):
    """A dot on a line, drawn as a white column; it is paid for being near 0. Episodes of 8 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    LENGTH, WIDTH = 8, 32

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1, 1, (1,))  # with a stream of its own

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.t = self.np_random.uniform(-1, 1), 0
        return np.array([self.at], np.float32), {}

    def step(self, action):
        self.at, self.t = float(np.clip(self.at + 0.4 * float(action[0]), -2, 2)), self.t + 1
        over = self.t == self.LENGTH
        return np.array([self.at], np.float32), -abs(self.at), False, over, {"success": over and abs(self.at) < 0.2}

    def render(self):
        frame = np.zeros((24, self.WIDTH, 3), np.uint8)
        column = int((self.at + 2) / 4 * (self.WIDTH - 3))
        frame[:, column : column + 3] = 255
        return frame


class Scripted(Dot):
    """Has films of its own, each twelve steps long, of which the t-th picture is t grey, and is paid t."""

    STEPS = 12

    def films(self, n, rng):
        t = np.arange(self.STEPS)
        frames = np.broadcast_to(t[:, None, None, None], (n, self.STEPS, 24, 32, 3)).astype(np.uint8)
        act = np.broadcast_to(t[:, None], (n, self.STEPS, 1)).astype(np.float32)
        return SimpleNamespace(frames=frames, act=act, reward=np.tile(t * 1.0, (n, 1)), success=np.ones(n))


class Fewer(Scripted):
    """Gives one film too few."""

    def films(self, n, rng):
        return super().films(n - 1, rng)


class Failing(Scripted):
    def films(self, n, rng):
        raise KeyError("script")


class Unsure(Scripted):
    """Is paid what is no number."""

    def films(self, n, rng):
        found = super().films(n, rng)
        found.reward[1, 3] = np.nan
        return found


class Silent(Dot):
    """Says that it does not know whether it succeeds."""

    def step(self, action):
        *found, _ = super().step(action)
        return *found, {"success": None}


class Undrawn(Dot):
    """Knows nothing of pictures."""

    def __init__(self):
        super().__init__()


class Blank(Dot):
    """Takes the mode and returns nothing."""

    def render(self):
        return None


class Broken(Dot):
    """Draws with a package that is not there."""

    def render(self):
        import pygame_that_nobody_has  # noqa: F401


class Dark(Dot):
    """All pictures are the same."""

    def render(self):
        return np.zeros((24, 32, 3), np.uint8)


class Growing(Dot):
    """Each picture is larger than the one before."""

    def render(self):
        return np.zeros((24 + self.t, 32, 3), np.uint8)


class Uneven(Dot):
    """Episodes of its own length each, and no limit."""

    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs, reward, bool(self.np_random.random() < 0.2), False, {}
