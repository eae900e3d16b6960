"""The self-trained trunk: its readings in closed form, and a planted world that it has to find the positions of."""

import numpy as np
import pytest
import torch

from policies.encoders import TrunkError, embed
from policies.soft_argmax import GRID, SHARP, SIDE, edges, pretrain, readings


def squares(n: int, steps: int, seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square that goes where the action says, on a floor of some colour: frames, actions and where it is, [n,T,2]."""
    rng = np.random.default_rng(seed)
    act = rng.uniform(-1, 1, (n, steps, 2)).astype(np.float32)
    at = np.zeros((n, steps, 2), np.float32)
    at[:, 0] = rng.uniform(-0.6, 0.6, (n, 2))
    for t in range(1, steps):
        moved = at[:, t - 1] + 0.2 * act[:, t]
        act[:, t] = np.where(np.abs(moved) > 0.8, -act[:, t], act[:, t])
        at[:, t] = at[:, t - 1] + 0.2 * act[:, t]
    line = (np.arange(side) + 0.5) / side * 2 - 1
    inside = (np.abs(line - at[..., :1])[..., None, :] < 0.15) & (np.abs(line - at[..., 1:])[..., None] < 0.15)
    floor, square = rng.integers(0, 100, (n, 1, 1, 1, 3)), rng.integers(150, 256, (n, 1, 1, 1, 3))
    return np.where(inside[..., None], square, floor).astype(np.uint8), act, at


def test_readings_of_a_bell_are_its_middle_and_spread() -> None:
    line = torch.linspace(-1, 1, 65)
    x, y, wide, high, height = 0.3, -0.2, 0.1, 0.15, 7.0
    log = height - (line - x) ** 2 / (2 * wide**2) - (line[:, None] - y) ** 2 / (2 * high**2)
    found = readings(log[None, None])[0].tolist()
    area = 2 * np.pi * wide * high * np.exp(height) / (line[1] - line[0]).item() ** 2 / 65**2
    assert found == pytest.approx([x, y, wide, high, np.log(area) / SHARP], abs=1e-3)


def test_readings_of_a_flat_map_and_of_a_single_point() -> None:
    flat = readings(torch.full((1, 1, 8, 8), 2.0))[0].tolist()
    spread = np.sqrt((8 + 1) / (3 * (8 - 1)))  # of eight points from -1 to 1
    assert flat == pytest.approx([0, 0, spread, spread, 2 / SHARP], abs=1e-5)
    point = torch.zeros(1, 1, 8, 8)
    point[0, 0, 0, 7] = 500
    point.requires_grad_(True)
    found = readings(point)
    assert found[0, :4].tolist() == pytest.approx([1, -1, 0, 0], abs=2e-3)
    found.sum().backward()
    assert point.grad is not None and torch.isfinite(point.grad).all()


def test_a_drawing_of_edges_is_bright_where_the_outlines_are() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 18:30, 34:46] = 0.8  # its outline is in the middle of rows 4 and 7, columns 8 and 11
    found = edges(picture)[0, 0]
    assert found.shape == (GRID, GRID) and abs(found.mean()) < 1e-5 and found.std() == pytest.approx(1, abs=0.05)
    bright = torch.zeros(GRID, GRID, dtype=torch.bool)
    bright[4:8, 8:12] = True
    bright[5:7, 9:11] = False
    assert torch.equal(found > 1, bright)


def test_the_seed_and_nothing_else_decides() -> None:
    frames, act, _ = squares(4, 6, 0)

    def made(seed: int, **kw: int) -> str:
        return pretrain(frames, act, seed=seed, steps=3, batch=4, channels=(4, 4), **kw).fingerprint()

    state = torch.random.get_rng_state()
    first = made(0)
    assert (torch.random.get_rng_state() == state).all()  # nobody else's draws are disturbed
    torch.manual_seed(7)
    assert made(0) == first != made(1)
    assert pretrain(list(frames), list(act), seed=0, steps=3, batch=4, channels=(4, 4)).fingerprint() == first
    threads = torch.get_num_threads()
    assert made(0) == first and torch.get_num_threads() == threads


def test_what_it_is_told_while_it_learns() -> None:
    frames, act, _ = squares(4, 6, 0)
    told: list[int] = []
    pretrain(frames, act, steps=3, batch=4, channels=(4, 4), progress=lambda step, loss: told.append(step))
    assert told == [1, 2, 3]


def test_videos_of_many_lengths_and_sizes() -> None:
    frames, act, _ = squares(3, 6, 1)
    large, more, _ = squares(1, 9, 2, side=100)
    videos = [frames[0], large[0], frames[1, :2], frames[2, :1]]
    acts = [act[0], more[0], act[1, :2], act[2, :1]]
    trunk = pretrain(videos, acts, steps=2, batch=4, channels=(4, 4))
    assert trunk.side == SIDE and [len(z) for z in embed(trunk, videos)] == [6, 9, 2, 1]


def test_videos_in_which_nothing_moves_give_finite_weights() -> None:
    still = np.full((3, 5, 64, 64, 3), 90, np.uint8)
    for act in (np.zeros((3, 5, 2)), None):
        trunk = pretrain(still, act, steps=3, batch=4, channels=(4, 4))
        assert np.isfinite(trunk(still)).all()


@pytest.mark.parametrize(
    ("frames", "act", "said"),
    [
        (np.zeros((2, 1, 64, 64, 3), np.uint8), np.zeros((2, 1, 2)), "none of more than one frame"),
        ([], [], "0 videos, none of more than one frame"),
        (np.zeros((5, 64, 64, 3), np.uint8), np.zeros((5, 2)), r"video 0 is \[64, 64, 3\]; give frames \[T,H,W,3\]"),
        (np.zeros((2, 5, 3, 64, 64), np.uint8), np.zeros((2, 5, 2)), "colours come first"),
        (np.zeros((2, 5, 64, 64, 3), np.uint8), np.zeros((3, 5, 2)), "2 videos and the actions of 3; give as many"),
        (np.zeros((2, 5, 64, 64, 3), np.uint8), np.zeros((2, 4, 2)), r"video 0 are \[4, 2\], its frames 5"),
        (np.zeros((2, 5, 64, 64, 3), np.uint8), np.full((2, 5, 2), np.nan), "hold NaN, infinity or nothing"),
        (np.zeros((2, 5, 64, 64, 3), np.uint8), np.zeros((2, 5, 0)), "hold NaN, infinity or nothing"),
    ],
)
def test_videos_that_teach_nothing_are_told(frames: np.ndarray, act: np.ndarray, said: str) -> None:
    with pytest.raises(TrunkError, match=said):
        pretrain(frames, act, steps=2, batch=4, channels=(4, 4))


def test_impossible_numbers_are_told() -> None:
    frames, act, _ = squares(2, 4, 0)
    for wrong in ({"steps": 0}, {"batch": 0}, {"rate": 0.0}, {"channels": ()}, {"channels": (4, 0)}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}"):
            pretrain(frames, act, **{"steps": 2, "batch": 4, "channels": (4, 4), **wrong})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("acts", [True, False])
def test_it_finds_where_the_square_is(acts: bool) -> None:
    frames, act, at = squares(60, 12, 3)
    trunk = pretrain(frames, act if acts else None, steps=250, seed=0, channels=(8, 16, 16))
    seen, _, there = squares(30, 12, 4)
    known = np.concatenate([trunk(frames), np.ones((60, 12, 1))], -1).reshape(720, -1)
    weights = np.linalg.lstsq(known, at.reshape(720, 2), rcond=None)[0]
    told = np.concatenate([trunk(seen), np.ones((30, 12, 1))], -1).reshape(360, -1) @ weights
    unexplained = ((told - there.reshape(360, 2)) ** 2).sum() / (
        (there.reshape(360, 2) - there.mean((0, 1))) ** 2
    ).sum()
    print("R2", 1 - unexplained)
    assert unexplained < 0.1
