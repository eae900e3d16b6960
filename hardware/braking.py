"""How fast an arm may go and still stop within its limits: for each joint, and for the tool that they carry. Pure.

Each tick moves the command by u dt: of the commanded path, u [n] is the velocity. For each joint by itself

    |u| <= velocity,   |u - u before| <= acceleration dt,   command + D(u) <= upper, and the same below,

where D(u) is how far the joint still goes when it brakes as hard as it may. A tick of length t takes its speed from u
to u' = max(0, u - a t) and lets it go that fast for t. Long ticks stop it sooner, so the longest way is that of the
shortest ticks, d (for F(t) = u' t + D(u'), F' <= a (d - t) <= 0):

    D(u) = m u d - a d^2 m (m + 1) / 2,   m = floor(u / (a d)).

Therefore command + u' t + D(u') <= command + D(u) for every t from d up: who brakes always may. So a joint's limits
are an interval that is never empty and holds the velocity of braking.

The tool's limits couple the joints. A step that breaks them is drawn back towards braking, u = brake + k (wish -
brake), 0 <= k <= 1, which stays in every joint's interval. For k = 0 to be always allowed, what is demanded of a step
is demanded of the stop that could follow it. In that stop the angles stay in a cuboid, from the command before the step
to the end of each joint's way, with centre c and half sizes h. The velocities after t seconds of braking are u(t) =
sign(u) max(0, |u| - a t), however long its ticks were: straight between the times t_k at which a joint comes to rest.
With J the tool's Jacobian at c and B the bound of second derivatives (`Chain.bends`), everywhere in the cuboid

    |x - x(c)| <= |J| h + h B h / 2  (each axis),        speed <= max over k of |J u(t_k)| + |u| B h.

Both bounds can only fall while joints brake: the cuboid shrinks into itself, u(t) is the rest of itself, and what is
left is the triangle inequality. So what was allowed once can be stopped inside the box and below the tool's speed, and
this holds on the whole way between two commands, not at samples. The price: near a wall, and at speeds that take long
to brake, the arm is a little slower than it would have to be.
"""

from __future__ import annotations

import numpy as np

from hardware.arm import Array
from hardware.limits import Limits

SHORTEST, LONGEST = 0.2, 2.0
"""Of nominal ticks: what a tick counts as, however short or long it was."""
_BACK = np.linspace(1.0, 0.0, 17)[:, None]


def tick(limits: Limits, before_ns: int, now_ns: int) -> float:
    """Length of a tick, s, so cut that neither a pause nor a jump of the clock allows a leap."""
    return min(max((now_ns - before_ns) * 1e-9, SHORTEST / limits.rate), LONGEST / limits.rate)


def braked(limits: Limits, velocity: Array, dt: float) -> Array:
    """[n] rad/s after a tick of the hardest braking, each joint along its present direction."""
    return np.sign(velocity) * np.maximum(np.abs(velocity) - limits.acceleration * dt, 0.0)


def way(speed: Array, acceleration: Array, shortest: float) -> Array:
    """D: how far joints of `speed` [...,n] >= 0 still go, rad, whatever the lengths of the ticks."""
    m = np.floor(speed / (acceleration * shortest))
    return m * shortest * (speed - acceleration * shortest * (m + 1) / 2)


def room(gap: Array, acceleration: Array, dt: float, shortest: float) -> Array:
    """The greatest speed u [...,n] with u dt + way(u) <= gap [...,n]: `way` is linear in pieces, this its inverse."""
    half = dt - shortest / 2
    m = np.floor((np.sqrt(half * half + 2 * gap / acceleration) - half) / shortest)
    return (gap + acceleration * shortest**2 * m * (m + 1) / 2) / (dt + m * shortest)


def interval(limits: Limits, command: Array, velocity: Array, dt: float) -> tuple[Array, Array]:
    """Lowest and highest velocities [n] that the joints' own limits allow; braking is always among them."""
    gaps = np.maximum(np.stack([command - limits.lower, limits.upper - command]), 0.0)
    down, up = room(gaps, limits.acceleration, dt, SHORTEST / limits.rate)
    change, brake = limits.acceleration * dt, braked(limits, velocity, dt)
    low = np.maximum(np.maximum(-limits.velocity, velocity - change), -down)
    high = np.minimum(np.minimum(limits.velocity, velocity + change), up)
    return np.minimum(low, brake), np.maximum(high, brake)


def tool_keeps(limits: Limits, command: Array, velocity: Array, dt: float, slack: float = 1e-9) -> tuple[Array, Array]:
    """Whether the tool keeps its speed, and its box, in steps at `velocity` [k,n] and in every stop after them: [k]."""
    if limits.chain is None or limits.tool_speed is None:
        return np.ones(len(velocity), dtype=bool), np.ones(len(velocity), dtype=bool)
    n = len(limits.chain.axes)
    velocity, acceleration, speeds = velocity[:, :n], limits.acceleration[:n], np.abs(velocity[:, :n])
    half = (speeds * dt + way(speeds, acceleration, SHORTEST / limits.rate)) / 2
    point, _, jacobian = limits.chain.frames(command[:n] + np.copysign(half, velocity))
    jacobian, bent = jacobian[:, :3], half @ limits.chain.bends
    times = np.concatenate([np.zeros((len(speeds), 1)), speeds / acceleration], axis=-1)  # when joints come to rest
    left = np.copysign(np.maximum(speeds[:, None] - acceleration * times[..., None], 0.0), velocity[:, None])
    fastest = np.sqrt(((left @ jacobian.swapaxes(-1, -2)) ** 2).sum(-1)).max(-1)
    slow = fastest + (speeds * bent).sum(-1) <= limits.tool_speed + slack
    if limits.box is None:
        return slow, np.ones_like(slow)
    around = (np.abs(jacobian) * half[:, None]).sum(-1) + (half * bent).sum(-1)[:, None] / 2 - slack
    return slow, ((point - around >= limits.box[0]) & (point + around <= limits.box[1])).all(-1)


def drawn_back(limits: Limits, command: Array, velocity: Array, wish: Array, dt: float) -> tuple[Array, bool]:
    """The velocity [n] nearest to `wish` on the way from braking to it that keeps the tool's limits, and whether there
    is one; without, the joints that carry the tool brake."""
    if limits.chain is None:
        return wish, True
    n = len(limits.chain.axes)  # what carries no tool is not held back
    brake = np.concatenate([braked(limits, velocity, dt)[:n], wish[n:]])
    line = brake + _BACK * (wish - brake)
    line[0] = wish
    slow, inside = tool_keeps(limits, command, line, dt)
    kept = slow & inside
    return (line[kept.argmax()], True) if kept.any() else (brake, False)
