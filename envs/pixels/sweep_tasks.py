"""What is wanted in the sweeping world: starts, the hidden preference as a reward, success, and the observation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from envs.pixels.sweep_physics import ANGLE, PRONG_REACH, RADIUS, Body, Setup, Shape, X, Y, placed

Array = npt.NDArray[Any]
Task = Literal["avoiding", "grouping", "covering"]
Starts = Literal["wide", "narrow"]

TASKS: tuple[Task, ...] = ("avoiding", "grouping", "covering")
OBJECTS = {"avoiding": 1, "grouping": 2, "covering": 2}  # in covering they merely lie about
GOAL = 0.5  # the band above this height
TOP = GOAL + RADIUS  # an object as high as this lies wholly in it
ZONE = (0.0, 0.1, 0.2)  # middle x, y and half side of the off-limits square
# Weights for which what succeeds is also worth most: to go round, or to bring together first, takes 4 to 8 steps more.
ZONE_WEIGHT, GAP_WEIGHT = 10.0, 4.0
TOUCHING = 0.04  # a gap up to this counts as none
GRAZED = 0.05  # an overlap up to this counts as none
WIDTH = 0.6  # covering: every body's middle can get as far as +-WIDTH
EVEN = 0.08  # covering: the largest mean deviation from even that succeeds
BINS = 12  # of the time spent over the width, in the observation
_NARROW = 0.02  # sd of narrow starts


def setup_of(task: Task, body: Body, shape: Shape = "round") -> Setup:
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; take one of {', '.join(TASKS)}")
    return Setup(body, OBJECTS[task], shape)


def start(task: Task, setup: Setup, starts: Starts, rng: np.random.Generator) -> Array:
    """A state [B,6] at rest. "wide": anywhere in the lower half that leaves the task feasible; "narrow": one place,
    give or take 2 cm (the published tasks begin almost alike)."""
    if starts not in ("wide", "narrow"):
        raise ValueError(f"starts is {starts!r}; take 'wide' or 'narrow'")
    wide = starts == "wide"
    u = rng.uniform(-1, 1, 8) if wide else np.zeros(8)
    body = np.array([0.5 * u[0], -0.75 + 0.08 * u[1]])
    if setup.objects == 1:
        objects = np.array([[0.25 * u[2], -0.38 + 0.08 * u[3]]])
    else:
        apart, middle, height = 0.2 + 0.07 * u[2], 0.25 * u[3], -0.32 + 0.1 * u[4]
        objects = np.array([[middle - apart, height + 0.04 * u[5]], [middle + apart, height + 0.04 * u[6]]])
    if not wide:
        body, objects = body + rng.normal(0, _NARROW, 2), objects + rng.normal(0, _NARROW, objects.shape)
    return placed(setup, body, objects)


def height_left(setup: Setup, state: Array) -> Array:
    """How far each object [...,n] is below the band, in half widths of the arena; 0 once it lies wholly in it."""
    return np.maximum(0, TOP - state[..., setup.parts :, Y])


def gap(setup: Setup, state: Array) -> Array:
    """The distance [...] between two objects; as if they were round, where they are square. 0 where they touch."""
    between = state[..., setup.parts + 1, :2] - state[..., setup.parts, :2]
    return np.maximum(0, np.linalg.norm(between, axis=-1) - 2 * RADIUS)


def overlap(setup: Setup, state: Array) -> Array:
    """How deep the deepest object is in the off-limits square [...], from 0 (outside) to 1 (its whole breadth)."""
    far = np.abs(state[..., setup.parts :, :2] - np.array(ZONE[:2])) - ZONE[2]
    outside = np.linalg.norm(np.maximum(far, 0), axis=-1) + np.minimum(far.max(-1), 0)
    return np.clip((RADIUS - outside) / (2 * RADIUS), 0, 1).max(-1)


def step_reward(task: Task, setup: Setup, state: Array) -> Array:
    """[...] for states [...,B,6]: -mean height left - GAP_WEIGHT x gap, or -mean height left - ZONE_WEIGHT x overlap.
    Covering has no value before its end: 0."""
    if task == "covering":
        return np.zeros(state.shape[:-2])
    left = height_left(setup, state).mean(-1)
    return -left - (GAP_WEIGHT * gap(setup, state) if task == "grouping" else ZONE_WEIGHT * overlap(setup, state))


def uneven(x: Array) -> Array:
    """The mean deviation [...] of sorted positions x [...,T] from an even grid over +-WIDTH: 0 is even."""
    return np.abs(np.sort(x, -1) - np.linspace(-WIDTH, WIDTH, x.shape[-1])).mean(-1)


def rewards(task: Task, setup: Setup, states: Array) -> Array:
    """[...,T] for whole episodes [...,T,B,6], the start not among them."""
    paid = step_reward(task, setup, states)
    if task == "covering":
        paid[..., -1] = -uneven(states[..., 0, X])
    return paid


def success(task: Task, setup: Setup, states: Array) -> Array:
    """Bool [...] for whole episodes [...,T,B,6]. Avoiding: in the band at the end and never in the square; grouping:
    both in the band at the end, touching; covering: time spent evenly over the width."""
    if task == "covering":
        return np.asarray(uneven(states[..., 0, X]) < EVEN)
    there = (height_left(setup, states[..., -1, :, :]) <= 0).all(-1)
    if task == "grouping":
        return np.asarray(there & (gap(setup, states[..., -1, :, :]) <= TOUCHING))
    return np.asarray(there & (overlap(setup, states) <= GRAZED).all(-1))


def features(task: Task, setup: Setup) -> int:
    """The length O of an observation."""
    square, gripper = setup.shape == "square", setup.parts == 3
    return 3 + setup.objects * (4 if square else 2) + 2 * gripper + BINS * (task == "covering")


def observe(task: Task, setup: Setup, states: Array, begun: Array, steps: int) -> Array:
    """Observations float32 [...,T,O] of episodes [...,T,B,6] that begin with step `begun` [T] of `steps`:
    body x, y; x, y of each object; cos and sin of four times the angle of each, where they are square; a gripper's two
    openings, 0 to 1; the share of time that is over; in covering the share of steps spent in each of BINS strips of the
    width. In covering the episodes have to be given from their start."""
    objects = states[..., setup.parts :, :]
    lead = states.shape[:-2]
    told = [states[..., 0, :2], objects[..., :2].reshape(*lead, -1)]
    if setup.shape == "square":
        told += [turn(4 * objects[..., ANGLE]) for turn in (np.cos, np.sin)]
    if setup.parts == 3:
        reach = np.abs(states[..., 1:3, X] - states[..., :1, X])
        told.append((reach - PRONG_REACH[0]) / (PRONG_REACH[1] - PRONG_REACH[0]))
    told.append(np.broadcast_to((begun / steps)[:, None], (*lead, 1)))
    if task == "covering":
        strip = np.clip(((states[..., 0, X] / WIDTH + 1) / 2 * BINS).astype(int), 0, BINS - 1)
        spent = (strip[..., None] == np.arange(BINS)) & (begun > 0)[:, None]  # the start itself is not a step
        told.append(np.cumsum(spent, -2) / steps)
    return np.concatenate(told, -1).astype(np.float32)
