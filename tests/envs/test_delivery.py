import itertools

import numpy as np
import pytest

from envs.delivery import CHANCES, DELIVERY, FEATURES, GAMMA, WEIGHTS, BoardError, board, picture, random_board


def cell(row, column):
    return 10 * row + column


def found(here, action, made=None):
    made = made or board()
    return dict(zip(FEATURES, made.features[here, action, 0].astype(int), strict=True)), int(made.next[here, action, 0])


UP, DOWN, LEFT, RIGHT = range(4)


@pytest.mark.parametrize(
    ("here", "action", "there", "features"),
    [
        (cell(0, 0), RIGHT, cell(0, 1), {"gas"}),
        (cell(0, 0), UP, cell(0, 0), {"gas"}),  # the edge
        (cell(0, 1), RIGHT, cell(0, 2), {"gas", "roadblock"}),
        (cell(1, 3), RIGHT, cell(1, 4), {"gas", "coin"}),
        (cell(0, 4), DOWN, cell(1, 4), {"gas", "coin"}),
        (cell(1, 4), UP, cell(0, 4), {"gas"}),  # it counts where one arrives
        (cell(2, 1), RIGHT, cell(2, 2), {"sheep"}),
        (cell(8, 8), RIGHT, cell(8, 9), {"goal"}),
        (cell(6, 7), DOWN, cell(7, 7), {"brick", "coin"}),
        (cell(7, 7), RIGHT, cell(7, 8), {"brick"}),
        (cell(2, 4), DOWN, cell(2, 4), {"gas"}),  # a house
        (cell(6, 0), RIGHT, cell(6, 0), {"brick"}),  # a house, seen from brick
        (cell(0, 4), UP, cell(0, 4), {"gas"}),
        (cell(1, 4), LEFT, cell(1, 3), {"gas"}),
        (cell(3, 0), LEFT, cell(3, 0), {"gas"}),  # who bumps does not find the coin again
    ],
)
def test_an_action_finds_what_lies_in_the_cell_that_it_enters(here, action, there, features):
    seen, arrived = found(here, action)
    assert arrived == there and {k for k, v in seen.items() if v} == features and max(seen.values()) == 1


def test_the_board_is_the_published_one():
    made = board()
    assert made.codes.shape == (10, 10) and len(made.starts) == 92 and made.gamma == GAMMA == 0.999
    assert WEIGHTS.tolist() == [-1, 50, -50, 1, -1, -2]
    assert sorted(np.flatnonzero(made.terminal)) == sorted(np.flatnonzero(np.isin(DELIVERY % 6, (1, 2, 3))))
    assert not set(made.starts) & set(np.flatnonzero(made.terminal))
    assert not made.features[made.terminal].any() and (made.prob == [1, 0]).all()
    assert (made.next[made.terminal] == np.flatnonzero(made.terminal)[:, None, None]).all()


def test_a_stochastic_board_pays_with_its_chances_and_carries_along():
    made = board(chances=CHANCES, teleports=[(cell(0, 0), cell(9, 0))])
    assert np.allclose(made.prob.sum(-1), 1)
    assert made.prob[cell(1, 3), RIGHT].tolist() == pytest.approx([0.95, 0.05])
    assert found(cell(1, 3), RIGHT, made)[0]["coin"] and not made.features[cell(1, 3), RIGHT, 1, 3]
    assert made.features[cell(1, 3), RIGHT, 1].tolist() == [1, 0, 0, 0, 0, 0]  # a coin that does not pay: road
    assert made.prob[cell(8, 8), RIGHT, 0] == 0.99 and not made.features[cell(8, 8), RIGHT, 1].any()
    assert (made.next[cell(8, 8), RIGHT] == cell(8, 9)).all()  # the episode ends either way
    assert made.next[cell(0, 1), LEFT].tolist() == [cell(9, 0), cell(0, 0)]
    assert made.prob[cell(0, 1), LEFT].tolist() == pytest.approx([0.9, 0.1])
    assert made.next[cell(0, 0), UP].tolist() == [cell(0, 0)] * 2 and made.prob[cell(0, 0), UP, 0] == 1  # bumps


@pytest.mark.parametrize("stochastic", [False, True])
def test_random_boards_are_of_the_family_and_can_be_delivered_on(stochastic):
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(60):
        made = random_board(rng, stochastic=stochastic)
        shapes.add(made.codes.shape)
        thing = made.codes % 6
        assert (thing == 1).sum() == 1 and not (thing == 2).any() and len(made.starts)
        assert np.allclose(made.prob.sum(-1), 1) and (stochastic == bool((made.prob[..., 0] < 1).any()))
        assert made.next.min() >= 0 and made.next.max() < made.codes.size
        reach = {int(np.flatnonzero(thing == 1)[0])}  # backwards from the goal, one cell at a time
        while (
            new := {
                int(s)
                for s, a, m in itertools.product(range(made.codes.size), range(4), range(2))
                if not made.terminal[s] and made.prob[s, a, m] > 0 and made.next[s, a, m] in reach
            }
            - reach
        ):
            reach |= new
        assert reach - {int(np.flatnonzero(thing == 1)[0])} == set(made.starts.tolist())
    assert len(shapes) > 6
    again = random_board(np.random.default_rng(5)), random_board(np.random.default_rng(5))
    assert (again[0].codes == again[1].codes).all() and (again[0].weights == again[1].weights).all()


@pytest.mark.parametrize(
    ("codes", "settings", "sentence"),
    [
        (np.zeros((3, 3), int), {}, "has no goal; put a 1"),
        (np.array([[1, 3, 0], [2, 2, 0]]), {}, "cannot be reached from any other cell"),
        (np.array([[1, 12]]), {}, "a code is 12; give 0 to 5"),
        (np.array([[1, -1]]), {}, "a code is -1"),
        (np.array([[1.0, 0.0]]), {}, "whole numbers"),
        (np.array([1, 0]), {}, r"of shape \(2,\)"),
        (np.array([[1, 0]]), {"weights": [1.0, np.nan, 0, 0, 0, 0]}, "6 finite numbers: gas, goal"),
        (np.array([[1, 0]]), {"gamma": 1.1}, "gamma is 1.1"),
        (np.array([[1, 0]]), {"chances": {4: 1.5}}, "the chance of 4 is 1.5"),
        (np.array([[1, 0]]), {"chances": {0: 0.5}}, "the chance of 0"),
        (np.array([[1, 0]]), {"teleports": [(0, 1)]}, r"a teleport joins \(0, 1\); give two different roads"),
        (np.array([[1, 0, 0, 0]]), {"teleports": [(1, 2), (2, 3)]}, r"joins \(2, 3\)"),
    ],
)
def test_a_board_on_which_nothing_can_be_delivered_is_refused(codes, settings, sentence):
    with pytest.raises(BoardError, match=sentence):
        board(codes, settings.pop("weights", WEIGHTS), **settings)


def test_a_picture_shows_the_board_and_the_way():
    empty, driven = picture(board(), cell=24), picture(board(), [0, 1, 11], cell=24)
    assert empty.shape == (240, 240, 3) and empty.dtype == np.uint8
    changed = {tuple(x) for x in np.argwhere((empty != driven).any(-1)) // 24}
    assert changed == {(0, 0), (0, 1), (1, 1)}
    colours = {code: tuple(empty[24 * r + 12, 24 * c + 12]) for code, (r, c) in {
        0: (0, 0), 1: (8, 9), 2: (6, 1), 3: (2, 2), 4: (1, 4), 5: (0, 2), 6: (1, 9)
    }.items()}  # fmt: skip
    assert len(set(colours.values())) == 7
    with pytest.raises(BoardError, match="give cells from 0 to 99"):
        picture(board(), [100])
    with pytest.raises(BoardError, match="at least 8"):
        picture(board(), cell=2)
