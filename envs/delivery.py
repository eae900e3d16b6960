"""The delivery board: drive to the goal, round the sheep, past coins and roadblocks. Every value on it can be computed.

After the boards of Knox et al. (2022, arXiv 2206.02231). A board is arrays: where each action may lead, how likely, and
what the entered cell holds. Random boards come from the paper's family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROAD, GOAL, HOUSE, SHEEP, COIN, BLOCK = range(6)
BRICK = 6  # is added to what lies on brick
FEATURES = ("gas", "goal", "sheep", "coin", "roadblock", "brick")
WEIGHTS: Array = np.array([-1.0, 50.0, -50.0, 1.0, -1.0, -2.0])
GAMMA = 0.999
ACTIONS: Array = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])  # up, down, left, right as (row, column)
CHANCES: Mapping[int, float] = MappingProxyType({COIN: 0.95, GOAL: 0.99, SHEEP: 0.5})
TELEPORT = 0.9

DELIVERY: Array = np.array(
    [
        [0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 4, 0, 0, 0, 0, 6],
        [0, 0, 3, 0, 0, 0, 0, 6, 6, 6],
        [4, 0, 5, 0, 2, 3, 3, 6, 6, 0],
        [6, 6, 0, 0, 0, 0, 0, 0, 0, 0],
        [6, 0, 4, 0, 0, 0, 0, 0, 0, 0],
        [6, 2, 0, 3, 5, 2, 0, 0, 0, 0],
        [0, 4, 0, 0, 0, 0, 0, 10, 6, 6],
        [0, 0, 5, 0, 0, 0, 0, 6, 6, 7],
        [0, 0, 0, 0, 0, 0, 5, 0, 0, 4],
    ]
)


class BoardError(ValueError):
    """A board on which nothing can be delivered; the sentence names the value and the mend."""


@dataclass(frozen=True, eq=False)
class Board:
    """S cells, row by row, A = 4 actions, M outcomes of an action, D features of an outcome.

    next int [S,A,M], prob [S,A,M], features [S,A,M,D]: what holds the cell that was entered. terminal bool [S]: goal,
    sheep, and houses, which nobody enters; there every action stays and pays nothing. starts int [N]: the other cells
    from which the goal can be reached. weights [D]: what the features pay. codes int [H,W]: what lies where.
    """

    codes: Array
    next: Array
    prob: Array
    features: Array
    terminal: Array
    starts: Array
    weights: Array = field(default_factory=WEIGHTS.copy)
    gamma: float = GAMMA


def board(
    codes: Array = DELIVERY,
    weights: Array = WEIGHTS,
    *,
    gamma: float = GAMMA,
    chances: Mapping[int, float] | None = None,
    teleports: Sequence[tuple[int, int]] = (),
) -> Board:
    """The arrays of a board; codes int [H,W] as in `DELIVERY`, weights [D].

    chances: with which probability coin, goal or sheep counts when it is entered (`CHANCES` are the paper's); it ends
    the episode either way. teleports: pairs of roads (row by row); who enters one is carried to the other with
    probability .9. Raises BoardError for unknown codes, weights that are not [D] finite numbers, gamma outside (0,1],
    chances that are none, teleports that are not on roads, and boards whose goal cannot be reached from anywhere.
    """
    codes, weights = _checked(codes, weights, gamma)
    height, width = codes.shape
    cells = height * width
    thing, brick = codes.ravel() % BRICK, codes.ravel() >= BRICK

    # What is entered.
    here = np.stack(np.divmod(np.arange(cells), width), 1)[:, None]  # [S,1,2]
    there = np.clip(here + ACTIONS, 0, [height - 1, width - 1]) @ [width, 1]  # [S,A]
    entered = np.where(thing[there] == HOUSE, np.arange(cells)[:, None], there)
    bumped = entered == np.arange(cells)[:, None]
    terminal = np.isin(thing, (GOAL, SHEEP, HOUSE))

    # What is found there: the ground, and with some probability what lies on it.
    ground = np.zeros((cells, len(FEATURES)))
    ground[np.arange(cells), np.where(brick, FEATURES.index("brick"), FEATURES.index("gas"))] = 1
    ground[terminal] = 0
    found = ground.copy()
    for code, name in ((GOAL, "goal"), (SHEEP, "sheep"), (COIN, "coin"), (BLOCK, "roadblock")):
        found[thing == code, FEATURES.index(name)] = 1

    chance = np.ones(cells)
    for code, p in (chances or {}).items():
        if code not in CHANCES or not 0 <= p <= 1:
            raise BoardError(f"the chance of {code} is {p}; give coin (4), goal (1) or sheep (3) one in [0,1]")
        chance[thing == code] = p
    carried = np.arange(cells)
    for pair in teleports:
        for a, b in (pair, pair[::-1]):
            if not (0 <= a < cells and 0 <= b < cells and a != b and thing[a] == ROAD and carried[a] == a):
                raise BoardError(f"a teleport joins {pair}; give two different roads, each in one pair at most")
            carried[a], chance[a] = b, TELEPORT

    prob = np.where(bumped, 1.0, chance[entered])
    target = np.stack([np.where(bumped, entered, carried[entered]), entered], -1)
    target[terminal] = np.arange(cells)[terminal, None, None]
    features = np.stack([np.where(bumped[..., None], ground[:, None], found[entered]), ground[entered]], 2)
    features[terminal] = 0
    return Board(
        codes,
        target,
        np.stack([prob, 1 - prob], -1),
        features,
        terminal,
        _starts(target, prob, terminal, thing == GOAL),
        weights,
        gamma,
    )


def _checked(codes: Array, weights: Array, gamma: float) -> tuple[Array, Array]:
    codes, weights = np.asarray(codes), np.asarray(weights, np.float64)
    if codes.ndim != 2 or codes.dtype.kind not in "iu" or codes.size == 0:
        raise BoardError(f"the codes are {codes.dtype} of shape {codes.shape}; give whole numbers, [H,W]")
    if codes.min() < 0 or codes.max() >= 2 * BRICK:
        raise BoardError(f"a code is {codes.min() if codes.min() < 0 else codes.max()}; give 0 to 5, on brick 6 to 11")
    if weights.shape != (len(FEATURES),) or not np.isfinite(weights).all():
        raise BoardError(f"the weights are {weights}; give {len(FEATURES)} finite numbers: {', '.join(FEATURES)}")
    if not 0 < gamma <= 1:
        raise BoardError(f"gamma is {gamma}; give it above 0 and at most 1")
    if not (codes % BRICK == GOAL).any():
        raise BoardError("the board has no goal; put a 1 somewhere (a 7 on brick)")
    return codes, weights


def _starts(target: Array, prob: Array, terminal: Array, goal: Array) -> Array:
    leads = np.stack([prob > 0, prob < 1], -1)
    reached = goal
    for _ in range(len(goal)):
        further = goal | (~terminal & (reached[target] & leads).any((1, 2)))
        if (further == reached).all():
            break
        reached = further
    starts = np.flatnonzero(reached & ~terminal)
    if not len(starts):
        raise BoardError("the goal cannot be reached from any other cell; open a way between houses and sheep")
    return starts


def random_board(rng: np.random.Generator, *, stochastic: bool = False) -> Board:
    """One of the paper's family: sizes, shares and weights from its lists, one goal, everything anywhere.

    Shares of more than one board are drawn again, and so are boards whose goal is walled in. The paper's lists say
    nothing of how much is brick: here none, a tenth or three tenths. stochastic: with `CHANCES` and two teleports.
    """
    while True:
        cells = int(np.prod(shape := (int(rng.choice([3, 6, 10, 15])), int(rng.choice([5, 6, 10])))))
        shares = rng.choice([0.0, 0.1, 0.3]), rng.choice([0.0, 0.1, 0.5, 0.8]), rng.choice([0.0, 0.1, 0.2])
        counts = [1, *(round(share * cells) for share in shares)]
        if sum(counts) + (4 if stochastic else 1) > cells:
            continue
        things = np.repeat([GOAL, SHEEP, BLOCK, COIN, ROAD], [*counts, cells - sum(counts)])
        codes = rng.permutation(things) + BRICK * (rng.random(cells) < rng.choice([0.0, 0.1, 0.3]))
        pays = [[0, 1, 5, 10, 50], [-5, -10, -50, -100], [1], [-2, -5, -10], [-1, -2, -3]]
        weights = np.array([-1.0, *(rng.choice(pay) for pay in pays)])
        roads = rng.permutation(np.flatnonzero(codes % BRICK == ROAD))[:4]
        try:
            return board(
                codes.reshape(shape),
                weights,
                chances=CHANCES if stochastic else None,
                teleports=((int(roads[0]), int(roads[1])), (int(roads[2]), int(roads[3]))) if stochastic else (),
            )
        except BoardError:
            continue


_COLOURS: Array = np.array(
    [[226, 226, 222], [52, 168, 83], [96, 84, 78], [250, 250, 250], [244, 190, 40], [214, 72, 54]], np.uint8
)
_BRICK, _CAR, _WAY, _LINE = (np.array(c, np.uint8) for c in ([205, 150, 120], [25, 80, 180], [90, 140, 225], [200] * 3))


def picture(board: Board, path: Sequence[int] | Array = (), cell: int = 24) -> Array:
    """The board from above, uint8 [H*cell,W*cell,3], and on it the way along the cells `path` as `driven` has it.

    Goal green, sheep white on grass, houses dark, coins yellow, roadblocks red, brick reddish. Raises BoardError for
    cells that are not on the board, and fewer than 8 pixels a cell.
    """
    height, width = board.codes.shape
    way = np.asarray(path, np.int64)
    if cell < 8:
        raise BoardError(f"a cell has {cell} pixels; give at least 8")
    if ((way < 0) | (way >= height * width)).any():
        raise BoardError(f"the path is {way.tolist()}; give cells from 0 to {height * width - 1}")
    thing = board.codes % BRICK
    ground = np.where((board.codes >= BRICK)[..., None], _BRICK, _COLOURS[ROAD])
    ground[thing == SHEEP] = (170, 205, 140)
    image = ground.repeat(cell, 0).repeat(cell, 1).astype(np.uint8)
    image[::cell], image[:, ::cell] = _LINE, _LINE
    y, x = np.mgrid[:cell, :cell] - (cell - 1) / 2
    disc, square = np.hypot(y, x) < 0.3 * cell, np.maximum(abs(y), abs(x)) < 0.42 * cell
    shapes = {GOAL: square, HOUSE: square, SHEEP: disc, COIN: disc, BLOCK: square & (abs(y) < 0.2 * cell)}
    for row, column in np.argwhere(thing != ROAD):
        code = int(thing[row, column])
        image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell][shapes[code]] = _COLOURS[code]
    return driven(image, np.stack(np.divmod(way, width), 1), cell)


def driven(image: Array, places: Array, cell: int) -> Array:
    """A picture of a board, and on it the way along places [N,2] (row, column; they may lie between cells), from a dot
    to the car at its end. A copy."""
    image, centres = image.copy(), (np.asarray(places, np.float64).reshape(-1, 2) + 0.5) * cell

    def paint(centre: Array, half: tuple[float, float], colour: Array, round: bool = False) -> None:
        top, left = np.maximum(centre - half, 0).astype(int)
        bottom, right = (np.asarray(centre) + half).astype(int) + 1
        part = image[top:bottom, left:right]
        y, x = (np.mgrid[top : top + part.shape[0], left : left + part.shape[1]].T + 0.5 - centre).T / np.reshape(
            half, (2, 1, 1)
        )
        part[(np.hypot(y, x) if round else np.maximum(abs(y), abs(x))) <= 1] = colour

    for centre in centres[:1]:
        paint(centre, (0.2 * cell, 0.2 * cell), _WAY, round=True)
    for a, b in pairwise(centres):
        paint((a + b) / 2, tuple(abs(b - a) / 2 + cell / 12), _WAY)
    for centre in centres[-1:]:
        paint(centre, (0.2 * cell, 0.32 * cell), _CAR)
    return image
