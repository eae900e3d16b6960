"""A robot's file: what it says is had back, and what it cannot say is refused by name."""

import copy
import json
import math
import re
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import config
from hardware.config import ConfigError

EXAMPLE = textwrap.dedent(config.__doc__.split("\n\n", 1)[1])


def toml(data):
    """JSON's texts, numbers and lists are TOML's; tables are written inline."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(toml, data)) + "]"
    if isinstance(data, float):
        return str(data)
    return json.dumps(data)


def write(path, data):
    path.write_text("".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in data.items()))
    return path


def robot():
    names = ("pan", "lift", "grip")
    joint = {"lower": -1.5, "upper": 1.5, "velocity": 2.0, "acceleration": 10.0, "tracking": 0.2, "start": 0.1}
    return {
        "rate": 100.0,
        "tracking_seconds": 0.05,
        "journal": "episodes",
        "arm": {"family": "so101", "port": "/dev/ttyACM0", "torque": 0.6, "modes": ["a", 1]},
        "joint": [{"name": name, "id": i, **joint} for i, name in enumerate(names, start=1)],
        "chain": {
            "offsets": [[0.0, 0.0, 0.06], [0.0, 0.0, 0.1]],
            "axes": [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]],
            "tool": [0.0, 0.0, 0.1],
            "speed": 0.3,
            "box": [[-0.3, -0.3, 0.0], [0.3, 0.3, 0.4]],
        },
        "camera": [{"name": "wrist", "device": "/dev/video0", "width": 640, "height": 480, "fps": 30}],
        "scene": {"cup": {"size": 3, "unit": "m"}, "goal": {"size": 2, "unit": "m", "value": [0.4, 0]}},
        "gateway": {"host": "127.0.0.1", "port": 8601},
    }


def test_the_example_in_its_own_words(tmp_path):
    (path := tmp_path / "arm.toml").write_text(EXAMPLE)
    found = config.read(path)
    assert found.arm.family == "so101" and found.arm.ids == (1,) and dict(found.arm.settings) == {"torque": 0.6}
    assert found.journal.as_posix() == "/var/lib/rapport/arm"
    assert found.limits.names == ("shoulder_pan",) and found.scene[0].origin == "scene"


def test_what_is_written_is_read(tmp_path):
    found = config.read(write(tmp_path / "arm.toml", robot()))
    assert found.arm.ids == (1, 2, 3) and found.arm.settings["modes"] == ("a", 1)
    assert found.limits.tool_speed == 0.3 and len(found.limits.chain.axes) == 2
    np.testing.assert_array_equal(found.limits.box, [[-0.3, -0.3, 0.0], [0.3, 0.3, 0.4]])
    assert dict(found.layout) == {"goal": (0.4, 0.0)}
    assert [source.name for source in found.scene] == ["cup", "goal"] and found.cameras[0].fps == 30
    assert (found.host, found.port, found.journal) == ("127.0.0.1", 8601, tmp_path / "episodes")


def test_what_may_be_left_out(tmp_path):
    data = {key: value for key, value in robot().items() if key in ("rate", "journal", "arm", "joint")}
    for joint in data["joint"]:
        del joint["id"]
    found = config.read(write(tmp_path / "arm.toml", data))
    assert found.arm.ids == () and found.limits.chain is None and found.host == "127.0.0.1"


def test_without_a_file_or_with_another_kind_of_one(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml cannot be read \(No such file"):
        config.read(tmp_path / "none.toml")
    (path := tmp_path / "arm.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no TOML"):
        config.read(path)
    path.write_text("a" * 3 + " = " + "[" * 3000)
    with pytest.raises(ConfigError, match="is no TOML"):
        config.read(path)


def set_in(data, place, value):
    for key in place[:-1]:
        data = data[key]
    data[place[-1]] = value


def drop(data, place):
    for key in place[:-1]:
        data = data[key]
    del data[place[-1]]


def places(data, where=()):
    """Every key of the file, and every element of its lists."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*where, key)
        if isinstance(value, dict | list):
            yield from places(value, (*where, key))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("rates",), 1.0, "the file has the unknown key 'rates'; known are rate,"),
        (("joint", 1, "color"), "red", "joint 2 has the unknown key 'color'"),
        (("joint", 1, "upper"), "1.5", "'upper' of joint 2 is '1.5'; give a number"),
        (("joint", 1, "upper"), True, "'upper' of joint 2 is True; give a number"),
        (("joint", 1, "upper"), -2.0, "joint 'lift' may be from -1.5 to -2.0 rad"),
        (("joint", 1, "id"), 1, r"the joints' ids are \[1, 1, 3\]; give each of 3 its own"),
        (("joint", 1, "id"), 254, "from 0 to 252"),
        (("joint", 1, "name"), "pan", "name at least one, each once"),
        (("joint", 1, "name"), " ", "a joint's name is ' '"),
        (("joint", 1), 3, "joint 2 is 3; give a table"),
        (("joint",), [], "name at least one"),
        (("arm", "family"), "", "family of .arm. is ''; give a text"),
        (("arm", "torque"), {"a": 1}, "torque of .arm. has"),
        (("chain", "axes"), [[0, 0, 1], [0, 2, 0]], "axes has a vector of length 2.0"),
        (("chain", "axes"), [["x"]], "axes of .chain. has 'x'; give numbers"),
        (("chain", "axes"), [[0, 0, 1], [0, 1]], "chain"),
        (("chain", "offsets"), [1, 2], "chain"),
        (("chain", "box"), [[1, 1, 1], [0, 0, 0]], "the box is from"),
        (("camera", 0, "fps"), 0.0, "fps of camera 1 is 0.0; give more than 0"),
        (("scene", "cup"), 3, "scene.cup is 3; give a table with size and unit"),
        (("scene", "cup", "size"), 0, "source 'cup' has size 0"),
        (("scene", "cup", "value"), [0.1, 0.2], r"value of \[scene.cup\] is \[0.1, 0.2\]; give 3 finite numbers"),
        (("scene", "cup", "value"), [0.1, 0.2, math.nan], r"value of \[scene.cup\] is"),
        (("scene", "cup", "value"), [0.1, 0.2, True], r"value of \[scene.cup\] has True; give numbers"),
        (("scene", "cup", "value"), [0.1, 0.2, 10**400], "int too large"),
        (("scene", "cup", "value"), [0.1, 0.2, "x"], r"value of \[scene.cup\] has 'x'; give numbers"),
        (("gateway", "port"), 0, "port of .gateway. is 0; give 1 to 65535"),
        (("journal",), "", "journal is ''"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, place, value, said):
    data = robot()
    set_in(data, place, value)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(tmp_path))}/arm.toml: .*{said}"):
        config.read(write(tmp_path / "arm.toml", data))


@pytest.mark.parametrize("place", [("rate",), ("journal",), ("arm",), ("arm", "family"), ("joint",), ("chain", "tool")])
def test_what_is_missing_is_named(tmp_path, place):
    data = robot()
    drop(data, place)
    with pytest.raises(ConfigError, match=f"lacks '{place[-1]}'"):
        config.read(write(tmp_path / "arm.toml", data))


@pytest.mark.parametrize("key", ["lower", "upper", "velocity", "acceleration", "tracking", "start"])
def test_a_joint_without_one_of_its_limits_is_refused(tmp_path, key):
    data = robot()
    del data["joint"][2][key]
    with pytest.raises(ConfigError, match=f"joint 3 lacks '{key}'; give a number"):
        config.read(write(tmp_path / "arm.toml", data))


EVIL = st.one_of(
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, 0, -1, 2**70, True, False, ""]),
    st.sampled_from([[], {}, [[]], [1.0], "../../etc", "a\x7fb", "\u0000", [[1e308] * 3] * 2, {"a": {"b": []}}]),
    st.floats(),
    st.integers(),
    st.text(max_size=5).filter(lambda text: "\x7f" not in text),
)


@given(st.lists(st.tuples(st.sampled_from(sorted(places(robot()), key=str)), EVIL), min_size=1, max_size=3))
@settings(max_examples=200)
def test_a_malicious_file_is_refused_or_gives_limits_that_make_sense(tmp_path_factory, changes):
    data = copy.deepcopy(robot())
    for place, value in changes:
        try:
            set_in(data, place, value)
        except (KeyError, TypeError, IndexError):
            continue  # the change before replaced what this one is in
    path = write(tmp_path_factory.getbasetemp() / "evil.toml", data)
    try:
        found = config.read(path)
    except ConfigError as error:
        assert str(error).startswith(str(path))
        return
    limits = found.limits
    for name in ("velocity", "acceleration", "tracking", "start"):
        assert (getattr(limits, name) > 0).all() and (getattr(limits, name) <= 100).all()
    assert (limits.lower < limits.upper).all() and (np.abs([limits.lower, limits.upper]) <= 13).all()
    assert 10 <= limits.rate <= 1000 and (limits.chain is None or 0 < limits.tool_speed <= 2)


def test_a_home_is_of_every_joint_or_of_none_and_within_its_limits(tmp_path):
    data = robot()
    assert config.read(write(tmp_path / "arm.toml", data)).home == ()
    for joint in data["joint"]:
        joint["home"] = 0.25
    assert config.read(write(tmp_path / "arm.toml", data)).home == (0.25,) * len(data["joint"])
    data["joint"][1]["home"] = 1.6
    with pytest.raises(ConfigError, match=r"home of joint 'lift' is 1\.6 rad, its limits are -1\.5 to 1\.5"):
        config.read(write(tmp_path / "arm.toml", data))
    del data["joint"][1]["home"]
    with pytest.raises(ConfigError, match="2 of 3 joints have a home; give every joint one, or none"):
        config.read(write(tmp_path / "arm.toml", data))
