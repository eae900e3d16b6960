import numpy as np
import pytest

from envs.pixels.films import Films


def film(n=3, t=4, **other):
    parts = {
        "frames": np.zeros((n, t, 8, 6, 3), np.uint8),
        "act": np.zeros((n, t, 2), np.float32),
        "state": np.arange(n * t * 5, dtype=np.float32).reshape(n, t, 5),
        "reward": np.zeros((n, t)),
        "success": np.zeros(n, bool),
    }
    return Films(**{**parts, **other})


def test_some_of_the_videos():
    some = film()[[2, 0]]
    assert len(film()) == 3 and len(some) == 2
    np.testing.assert_array_equal(some.state, film().state[[2, 0]])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"frames": np.zeros((3, 4, 8, 6, 3))}, "float64"),
        ({"frames": np.zeros((3, 4, 3, 8, 6), np.uint8)}, "colours as the last axis"),
        ({"act": np.zeros((3, 5, 2))}, "act"),
        ({"reward": np.zeros((3, 4, 1))}, "reward"),
        ({"success": np.zeros(4, bool)}, "success"),
    ],
)
def test_what_does_not_go_together_is_refused(other, words):
    with pytest.raises(ValueError, match=words):
        film(**other)
