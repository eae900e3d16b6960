"""Pictures against geometry: areas and centres of what is drawn are those of the state."""

import numpy as np
import pytest

from envs.pixels.nuisance import HEAVY, NONE
from envs.pixels.sweep_draw import BAND, BODY, FLOOR, OBJECT, SQUARE, VIEW, draw, look_of, pictures
from envs.pixels.sweep_physics import BODIES, HALF_LENGTH, HALF_THICK, PRONG_HALF, RADIUS, placed
from envs.pixels.sweep_tasks import ZONE, setup_of

COLOURS = np.zeros((5, 3))
SIZE = 128
PIXEL = 2 * VIEW / SIZE


def centre(share):
    axis = (np.arange(share.shape[-1]) + 0.5) * PIXEL - VIEW
    total = share.sum((-1, -2))
    return (share.sum(-2) @ axis) / total, -(share.sum(-1) @ axis) / total


def painted(task, setup, states, what):
    """How bright [t,size,size] a picture is in which this colour alone is white."""
    colours = COLOURS.copy()
    colours[what] = 255
    return draw(task, setup, states, colours, SIZE)[0][..., 0] / 255.0


def covered(setup, states, rows):
    """How much of each pixel the bodies of these rows cover, [t,size,size]: what they take from the background."""
    away = states.copy()
    away[:, rows, :2] += 9  # out of sight
    free, all_free = (draw("covering", setup, s, COLOURS, SIZE)[1] for s in (states, away))
    return 1 - free / all_free


@pytest.mark.parametrize("shape", ["round", "square"])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_an_object_is_where_it_is_and_as_large(shape, angle):
    setup = setup_of("avoiding", "short", shape)
    states = np.stack([placed(setup, [9, 9], [at]) for at in ([-0.31, -0.42], [0.113, 0.2], [0.9, 0.9])])
    states[:, 1, 2] = angle
    share = covered(setup, states, [1])
    x, y = centre(share)
    np.testing.assert_allclose(np.stack([x, y], 1), states[:, 1, :2], atol=0.003)
    area = np.pi * RADIUS**2 if shape == "round" else 4 * RADIUS**2
    np.testing.assert_allclose(share.sum((1, 2)) * PIXEL**2, area, rtol=0.03)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_has_its_own_shape(body):
    setup = setup_of("avoiding", body)
    states = placed(setup, [-0.2, -0.31], [[9, 9]])[None]
    share = covered(setup, states, slice(setup.parts))[0]
    np.testing.assert_allclose(centre(share)[0], -0.2, atol=0.003)
    prongs = 8 * PRONG_HALF[0] * PRONG_HALF[1] if body == "gripper" else 0
    assert share.sum() * PIXEL**2 == pytest.approx(4 * HALF_LENGTH[body] * HALF_THICK + prongs, rel=0.03)


def test_markings_are_painted_where_the_task_has_them():
    setup = setup_of("avoiding", "short")
    states = placed(setup, [9, 9], [[9, 9]])[None]
    for task, there in (("avoiding", True), ("covering", False)):
        square = painted(task, setup, states, SQUARE)[0] > 0.25
        assert square.any() == there
        if there:
            x, y = centre(square.astype(float))
            np.testing.assert_allclose([x, y], ZONE[:2], atol=0.01)
            assert square.sum() * PIXEL**2 == pytest.approx(4 * ZONE[2] ** 2, rel=0.1)
        band = painted(task, setup, states, BAND)[0] > 0.25
        assert band.sum() * PIXEL**2 == pytest.approx(2 * 0.5, rel=0.05)  # the whole width, from .5 to 1
        assert not (square & band).any()
    assert (painted("covering", setup, states, FLOOR) > 0.25).mean() > 0.5


@pytest.mark.parametrize("size", [16, 64, 100, 384])
def test_any_size_shows_the_same(size):
    setup = setup_of("grouping", "gripper")
    states = placed(setup, [0.1, -0.6], [[-0.3, 0.2], [0.4, 0.6]])[None]
    look = look_of(NONE, 1, np.random.default_rng(0))
    one, other = (pictures("grouping", setup, states, look, s)[0].mean((0, 1)) for s in (size, 256))
    np.testing.assert_allclose(one, other, atol=3)


def test_frames_drawn_together_are_those_drawn_alone():
    setup, rng = setup_of("grouping", "gripper", "square"), np.random.default_rng(0)
    states = np.stack([placed(setup, rng.uniform(-0.5, 0.5, 2), rng.uniform(-0.8, 0.8, (2, 2))) for _ in range(5)])
    look = look_of(HEAVY, 5, rng)
    whole = pictures("grouping", setup, states, look, 64)
    assert whole.dtype == np.uint8 and whole.shape == (5, 64, 64, 3)
    for t in range(5):
        np.testing.assert_array_equal(pictures("grouping", setup, states[t : t + 1], look, 64, t)[0], whole[t])


def test_objects_stay_visible_whatever_the_colours():
    setup = setup_of("grouping", "short")
    there = placed(setup, [0, -0.7], [[-0.3, -0.3], [0.3, 0.7]])[None]
    gone = placed(setup, [0, -0.7], [[9, 9], [9, 9]])[None]
    for seed in range(30):
        _, colours = look_of(HEAVY, 1, np.random.default_rng(seed))
        one, other = (draw("grouping", setup, s, colours, 64)[0].astype(float) for s in (there, gone))
        assert np.abs(one - other).max() > 60
        assert np.linalg.norm(colours[OBJECT] - colours[BODY]) > 60


def test_sizes_have_bounds():
    setup = setup_of("avoiding", "short")
    with pytest.raises(ValueError, match="size is 8"):
        draw("avoiding", setup, placed(setup, [0, 0], [[0, 0.5]])[None], COLOURS, 8)
