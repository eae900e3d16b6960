"""Where a chain's tool is, against products of exponentials, and how far it can be moved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from policies.chain import Chain


def some_chain(rng, n):
    axes = rng.normal(size=(n, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return Chain(tuple(map(tuple, rng.normal(size=(n, 3)))), tuple(map(tuple, axes)), tuple(rng.normal(size=3)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_the_point_is_the_product_of_exponentials(seed, n):
    rng = np.random.default_rng(seed)
    chain, joints = some_chain(rng, n), rng.uniform(-4, 4, n)
    place = np.eye(4)
    for offset, (x, y, z), angle in zip(chain.offsets, chain.axes, joints, strict=True):
        move, twist = np.eye(4), np.zeros((4, 4))
        move[:3, 3], twist[:3, :3] = offset, [[0, -z, y], [z, 0, -x], [-y, x, 0]]
        place = place @ move @ expm(twist * angle)
    np.testing.assert_allclose(chain.point(joints), (place @ [*chain.tool, 1.0])[:3], atol=1e-10)
    assert (chain.point(np.tile(joints, (2, 3, 1))) == chain.point(joints)).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_no_radian_of_a_hinge_moves_the_tool_further_than_its_reach(seed, n):
    rng = np.random.default_rng(seed)
    chain = some_chain(rng, n)
    speeds = np.linalg.norm(chain.frames(rng.uniform(-4, 4, (20, n)))[2][:, :3], axis=1)
    assert (speeds <= chain.reaches + 1e-12).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": ()}, "a chain of 0 hinges"),
        ({"offsets": ((0.0, 0.0, 0.1),)}, r"needs finite numbers \(2, 3\)"),
        ({"axes": ((0.0, 0.0, 2.0), (0.0, 1.0, 0.0))}, "length 2.0; make it 1"),
        ({"tool": (0.0, float("nan"), 0.0)}, "tool is"),
    ],
)
def test_what_cannot_be_is_refused(change, said):
    fit = {"offsets": ((0.0, 0.0, 0.1),) * 2, "axes": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0)), "tool": (0.0, 0.0, 0.1)}
    Chain(**fit)
    with pytest.raises(ValueError, match=said):
        Chain(**(fit | change))
