"""People who judge in other ways than by comparing: each is learned from, and who stops a clip chooses a way on."""

import json
import time

import numpy as np
import pytest

from embodied.rational import rational
from embodied.records import Choose, Stop
from embodied.values import value_to_json
from human_ui import desk
from human_ui.clips import decode
from human_ui.site import open_site
from rapport.cli import main
from rapport.train import Asking, train
from rapport.train.corrections import ASKED, fix_id, other
from rapport.train.people import ASKED as KINDS
from tests.rapport.train.test_people import SMALL, WORLDS, Crowd, files, settings


class Rational(Crowd):
    """Each answers as who likes the middle of the line."""

    def look(self, name):
        store, study = self.site.store, self.site.study()
        teacher = rational(lambda segment: -np.abs(segment.obs[:, 0]), seed=1, beta=3.0)
        for lent in desk.lend(store, study, name, 3, time.time(), self.rng)[:2]:
            (query,) = store.queries([lent.query])
            value = Stop(2) if query.kind == "stop" else teacher(query)
            self.give(name, lent, f"{name}-{self.given}", desk.as_shown(value, lent.shown))
            self.given += 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("compare", "stop")])
def test_it_is_learned_from_whatever_is_said(study, tmp_path, kind):
    (study / "study.toml").write_text(
        'name = "Lines"\nlook = 0.0\n[[survey]]\nname = "good"\nquestion = "Was it good?"\n'
    )
    with Rational(study) as crowd:
        found = train(settings(), tmp_path / "run", ask=Asking(study, kind=kind), kwargs=SMALL)
        said = [next(iter(value_to_json(a.value))) for a in crowd.site.store.answers()]
    assert set(said) == {kind} and found.result["budget"]["answered"] == 8
    rows = [row["metrics"] for row in found.rows if "loss" in row["metrics"]]
    assert rows and all(np.isfinite(row["loss"]) for row in rows)


def test_who_stops_a_clip_chooses_among_fresh_ways_on(study, tmp_path):
    with Rational(study):
        found = train(settings(steps=144), tmp_path / "run", ask=Asking(study, kind="stop"), kwargs=SMALL)
    site = open_site(study)
    stops = [a for a in site.store.answers() if isinstance(a.value, Stop)]
    chosen = [a for a in site.store.answers() if isinstance(a.value, Choose)]
    assert len(stops) == 8 and chosen, "some corrections were chosen while it trained"
    (query,) = site.store.queries([fix_id("run", stops[0].id)])
    was, *fresh = query.segments
    (whole,) = site.store.queries([stops[0].query])[0].segments
    assert query.kind == "choose" and query.context == ASKED and len(fresh) == 3
    np.testing.assert_array_equal(was.obs, whole.obs[2:])
    for attempt in fresh:
        np.testing.assert_array_equal(attempt.obs[0], was.obs[0])
        assert not np.array_equal(attempt.obs[1], was.obs[1])
    with site.store.read() as connection:
        clips = json.loads(
            connection.exec_driver_sql(f"select clips from offer where query = '{query.id}'").scalar_one()
        )
    lengths = [len(list(decode(site.clips.path(sha)))) for sha in clips]
    assert lengths == [len(s) for s in query.segments]
    assert len(stops) < found.result["budget"]["answered"] <= len(stops) + len(chosen), "the last may come too late"
    with site.store.read() as connection:
        open_ = "select count(*) from offer where not withdrawn and taken < want"
        assert connection.exec_driver_sql(open_).scalar_one() == 0, "nobody is asked what is not read any more"
    site.store.close()
    train(settings(steps=144), tmp_path / "again", ask=Asking(study, run="run", kind="stop"), kwargs=SMALL)
    assert files(tmp_path / "run") == files(tmp_path / "again"), "played again from its logs, bit for bit"


def test_what_is_added_to_an_action_stays_an_action():
    from gymnasium import spaces

    rng = np.random.default_rng(0)
    box = spaces.Box(-1, 1, (2,), np.float32)
    moved = other(box, np.array([0.9, 0.0], np.float32), np.array([3.0, 1.0]), rng)
    assert moved.tolist() == pytest.approx([1.0, 0.4]) and moved in box
    endless = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    assert other(endless, np.zeros(1, np.float32), np.ones(1), rng).tolist() == pytest.approx([0.4])
    choices = {int(other(spaces.Discrete(3), np.int64(1), np.zeros(()), rng)) for _ in range(99)}
    assert choices == {0, 1, 2}
    assert all(other(spaces.MultiDiscrete([2, 3]), np.array([1, 1]), np.zeros(2), rng).shape == (2,) for _ in range(9))


def test_kinds_from_which_nothing_is_learned_are_refused(study, tmp_path, capsys):
    with pytest.raises(ValueError, match="Questions of kind 'write': nothing is learned from them; use compare, grade"):
        Asking(study, kind="write")
    assert main(["train", "--env", f"{WORLDS}:Drawn", "--kind", "stop"]) == 2
    assert "--kind say how people are asked: give --ask STUDY too" in capsys.readouterr().err
