"""From names to environments that can be trained on."""

from pathlib import Path

import numpy as np
import pytest

from rapport.train.spaces import SpaceError, with_arguments, world

OWN = str(Path(__file__).with_name("worlds.py"))


def of(name, **kwargs):
    return world(f"{OWN}:{name}" if name[0].isupper() and "-" not in name else name, {}, kwargs.get("horizon", 0), 0)


@pytest.mark.parametrize(
    ("name", "shape", "acts", "limit"),
    [
        ("Pendulum-v1", (3,), 1, 200),
        ("CartPole-v1", (4,), 2, 500),
        ("Reacher-v5", (10,), 2, 50),
        ("FrozenLake-v1", (16,), 4, 100),
        ("Line", (2,), 1, None),
        ("Mixed", (3,), 2, None),
        ("Frames", (36, 36, 3), 2, None),
    ],
)
def test_any_environment_becomes_a_vector_or_frames(name, shape, acts, limit):
    found = of(name)
    assert (found.observations.shape, found.act_size, found.limit) == (shape, acts, limit)
    assert found.checked.exact
    copies = found.copies(3, seed=1)
    obs, _ = copies.reset()
    assert obs.shape == (3, *shape)
    copies.close()


def test_choices_are_ones_and_zeros():
    found = of("Mixed")
    np.testing.assert_array_equal(found.encode(np.array([[0, 1], [1, 1]])), np.eye(2)[[[0, 1], [1, 1]]])
    line = of("Line")
    assert line.encode(np.array([0.25])).dtype == np.float32


def test_a_horizon_is_set_where_there_is_none():
    assert of("Endless", horizon=7).limit == 7


def test_a_module_on_the_path_is_found_too():
    assert world("gymnasium.envs.classic_control:PendulumEnv", {"g": 5.0}, 30, 0).limit == 30


def test_an_id_after_its_module_is_found_as_gymnasium_finds_it():
    assert world("gymnasium:CartPole-v1", {}, 0, 0).limit == 500


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Pendulm-v1", "Gymnasium knows no environment 'Pendulm-v1'.*Pendulum"),
        ("Nobody", "worlds.py has no Nobody; name a class"),
        ("nowhere.at.all:Env", "nowhere.at.all cannot be imported"),
        ("/nowhere/env.py:Env", "/nowhere/env.py cannot be imported"),
        ("Refuses", r"Refuses cannot be made \(RuntimeError: no licence\)"),
        ("Unbounded", "actions are Box.*wrap it so that they are one vector between finite bounds"),
        ("Endless", "Endless has no time limit, and no episode ended in 10000 random steps; give a horizon"),
        ("Grid", "wrap it so that its choices are one vector"),
        (
            "Missing",
            r"Missing's first observation, \{'at': .* is not in its space, Dict.*KeyError: 'side'.*make them agree",
        ),
        ("Text", "observations are Sequence.*which have no fixed size"),
    ],
)
def test_what_cannot_be_trained_on_is_a_sentence(name, sentence):
    with pytest.raises(SpaceError, match=sentence):
        of(name)


def test_a_name_brings_its_arguments_brackets_and_all():
    assert with_arguments("m:C") == ("m:C", {})
    told = {"task": "covering", "size": (64, 96), "of": {"a": [1, 2]}, "x": None}
    assert with_arguments("m:C,task=covering,size=(64,96),of={'a':[1,2]},x=None") == ("m:C", told)
    for wrong, says in (("m:C,size", "'size' is no argument"), ("m:C,size=(64,96", "never closed")):
        with pytest.raises(SpaceError, match=says):
            with_arguments(wrong)
