"""The arm as a ground for direct methods: who is cloned, who judges, and what is counted."""

import numpy as np
import pytest

from embodied.records import Segment
from envs.arm import draw
from envs.carriers import careful, hurried
from rapport import beside_arm
from rapport.beside import own_episodes
from rapport.cup.people import CAREFUL, SHORT


@pytest.fixture(scope="module")
def ground():
    """As it is, but cloned in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("DEMOS", 30), ("CLONING", 100), ("HELD_OUT", 32)):
            patch.setattr(beside_arm, name, size)
        yield beside_arm.arm(3)


def test_a_clip_is_worth_the_same_alone_and_among_others(ground):
    obs, act = own_episodes(ground, 3, 2, np.random.default_rng(0))
    assert obs.shape == (3, 2, 80, 26) and act.shape == (3, 2, 80, 5)
    assert (obs[:, 0, 0] == obs[:, 1, 0]).all() and (obs[:, 0, 1] != obs[:, 1, 1]).any()
    for person in (CAREFUL, SHORT):
        worth = person.worth(obs.astype(float), act.astype(float))
        one = Segment("e", 0, 80, obs[1, 1].astype(float), act[1, 1].astype(float))
        assert worth[1, 1] == pytest.approx(person.utility(one))
    assert (ground.worth(obs, act) == CAREFUL.worth(obs.astype(float), act.astype(float))).all()


def test_the_person_doubts_and_slips_as_the_main_jobs_does(ground):
    rng = np.random.default_rng(0)
    for gap, share in ((0.0, 0.5), (2.0, 0.95 / (1 + np.exp(-1)) + 0.025), (1000.0, 0.975)):
        said = ground.prefers(np.tile([gap, 0.0], (20_000, 1)), rng)
        assert said.mean() == pytest.approx(share, abs=0.015)


def test_who_is_careful_has_gained_all_and_who_hurries_meets_no_wish(ground):
    class Careful:
        act = staticmethod(careful())

    class Hurried:
        act = staticmethod(hurried(np.random.default_rng(0), 32))

    best, worst = ground.figures(Careful()), ground.figures(Hurried())
    assert list(best.values()) == [pytest.approx(1), 1, 1]
    assert worst["wishes met"] == 0 and worst["share gained of the utility that cloning misses"] < 0.1
    assert next(iter(ground.figures(ground.policy).values())) == 0
    assert len(ground.starts(4, np.random.default_rng(0))[[0, 0, 3]]) == 3
    assert len(draw(np.random.default_rng(0), 4)) == 4
