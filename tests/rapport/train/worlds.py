"""Small environments of a user's own: each shows one thing that environments do."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Line(gymnasium.Env):
    """A point on a line goes where the action pushes it; it is paid for being near 0. Episodes of 12 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1, 1, (1,))
    LENGTH = 12

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.t = self.np_random.uniform(-1, 1), 0
        return self.look(), {}

    def step(self, action):
        self.at, self.t = self.at + 0.2 * self.push(action), self.t + 1
        return self.look(), self.paid(), self.over(), self.t == self.LENGTH, {}

    def push(self, action):
        return float(action[0])

    def paid(self):
        return -abs(self.at)

    def over(self):
        return False

    def look(self):
        return np.array([self.at, self.t / self.LENGTH])


class Mixed(Line):
    """A dict with a choice in it, and a choice of two actions."""

    observation_space = spaces.Dict({"at": spaces.Box(-np.inf, np.inf, (1, 1)), "side": spaces.Discrete(2)})
    action_space = spaces.Discrete(2)

    def push(self, action):
        return 2.0 * int(action) - 1

    def look(self):
        return {"at": np.array([[self.at]]), "side": int(self.at > 0)}


class Frames(Mixed):
    observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def look(self):
        frame = np.zeros((36, 36, 3), np.uint8)
        frame[:, int(np.clip(18 + 9 * self.at, 0, 35))] = 255
        return frame


class Ends(Line):
    """An episode ends where the point leaves (-.9, .9): clips are not all equally long."""

    def over(self):
        return abs(self.at) > 0.9


class Breaks(Line):
    """From the 250th step of all copies on the reward is NaN, unless somebody has mended it."""

    mended = False
    steps = 0

    def paid(self):
        Breaks.steps += 1
        return super().paid() if self.mended or Breaks.steps < 250 else np.nan


class Blind(Line):
    """It sees NaN once `dark` is set."""

    dark = False

    def look(self):
        return super().look() * (np.nan if Blind.dark else 1.0)


class Secret(Line):
    """What pushes it besides comes from where no attribute shows it."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.wind = iter(self.np_random.normal(size=100))
        return self.look(), {}

    def push(self, action):
        return float(action[0]) + next(self.wind)


class Drawn(Line):
    """It can be drawn: a bright square on a dark line, the faster the redder."""

    metadata = gymnasium.Env.metadata | {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        frame = np.full((48, 96, 3), 40, np.uint8)
        x = int(np.clip(48 + 24 * self.at, 0, 90))
        frame[20:28, x : x + 6] = 250
        return frame


class Fickle(Drawn):
    """It draws from a stream that no seed reaches."""

    def push(self, action):
        return float(action[0]) + np.random.default_rng().normal()


class Wire(Drawn):
    """It draws something that is no frame."""

    def render(self):
        return "a wire"


class Flat(Line):
    def paid(self):
        return 0.0


class Endless(Line):
    LENGTH = -1


class Unbounded(Line):
    action_space = spaces.Box(-np.inf, np.inf, (1,))


class Text(Line):
    observation_space = spaces.Sequence(spaces.Discrete(2))


class Missing(Mixed):
    """It says two things are seen, and shows one."""

    def look(self):
        return {"at": np.array([[self.at]])}


class Grid(Line):
    action_space = spaces.MultiDiscrete([[2, 2], [3, 3]])


class Refuses(Line):
    def __init__(self):
        raise RuntimeError("no licence")


class Timed(gymnasium.wrappers.TimeLimit):
    """The line with a limit of its own."""

    def __init__(self):
        super().__init__(Line(), 12)
