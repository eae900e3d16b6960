"""Limits that cannot be are refused, in a sentence that says what and how to mend it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.limits import WIDEST, LimitsError
from tests.hardware.small_arm import SMALL, limits, with_tool

ARRAYS = ("lower", "upper", "velocity", "acceleration", "tracking", "start")


def test_they_are_float64_and_cannot_be_changed():
    lower = [-1, -1, -1, -1, -1, -1]
    made = with_tool(lower=lower)
    for name in (*ARRAYS, "box"):
        assert getattr(made, name).dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, name)[0] = 0
    assert made.tool_speed == 0.25 and limits().tool_speed is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lower": np.full(6, 2.0)}, "joint 'joint 0' may be from 2.0 to 1.6 rad; give lower < upper"),
        ({"lower": [-1.0] * 5}, "lower is .*give 6 finite numbers"),
        ({"upper": ["a"] * 6}, "upper is .*give 6 finite numbers"),
        ({"upper": np.full(6, np.nan)}, "upper is .*give 6 finite numbers"),
        ({"velocity": [2, 2, -1, 2, 2, 2]}, "velocity of joint 'joint 2' is -1.0; give a number above 0"),
        ({"velocity": np.full(6, 115.0)}, "no arm has more than 15; look at its unit"),
        ({"acceleration": np.zeros(6)}, "acceleration of joint 'joint 0' is 0.0"),
        ({"names": ("a",) * 6}, "name at least one, each once"),
        ({"names": ()}, "name at least one"),
        ({"rate": 5.0}, "rate is 5.0 Hz; give 10 or more"),
        ({"rate": "100"}, "rate is '100'; give a finite number"),
        ({"rate": True}, "rate is True"),
        ({"tracking_seconds": float("inf")}, "tracking_seconds is inf"),
        ({"tool_speed": 0.25}, "tool_speed is 0.25, but there is no chain"),
        ({"box": [[0, 0, 0], [1, 1, 1]]}, "box is .*but there is no chain"),
        ({"chain": SMALL, "names": ("a",), **{name: [1.0] for name in ARRAYS}, "lower": [0.0]}, "start of joint"),
        ({"chain": SMALL, "tool_speed": 25.0}, "no arm has more than 2"),
        ({"chain": SMALL, "box": [[0, 0, 1], [1, 1, 0]]}, "give its lower corner, then its upper one"),
        ({"chain": SMALL, "box": [[0, 0, np.nan], [1, 1, 0]]}, "box is .*finite"),
        ({"chain": SMALL, "box": [0, 1]}, "box is .*give 6 finite numbers"),
        ({"chain": SMALL, "box": [[2, 2, 2], [3, 3, 3]]}, "begins 3.43 m from the arm, which reaches 0.46 m"),
        ({"chain": replace(SMALL, tool=(0.0, 0.0, 100.0))}, "the chain reaches 100 m"),
        ({"chain": "SMALL"}, "the chain is SMALL; give a Chain of at most 6 hinges"),
    ],
)
def test_nonsense_is_refused(change, said):
    with pytest.raises(LimitsError, match=said):
        limits(**change)


@given(st.sampled_from(ARRAYS), st.integers(0, 5), st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300]))
def test_one_wrong_number_anywhere_is_enough(name, joint, wrong):
    values = np.array(getattr(limits(), name))
    values[joint] = wrong
    with pytest.raises(LimitsError, match=name):
        limits(**{name: values})


@given(st.sampled_from(("velocity", "acceleration", "tracking", "start", "rate", "tracking_seconds", "tool_speed")))
def test_a_hundredfold_gain_is_refused(name):
    with pytest.raises(LimitsError, match=f"no arm has more than {WIDEST[name]:g}"):
        with_tool(
            **{
                name: np.asarray(getattr(with_tool(), name)) * 100.0
                if name in ARRAYS
                else getattr(with_tool(), name) * 100
            }
        )
