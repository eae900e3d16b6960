"""Which videos are asked about, who answers, and what becomes a demonstration."""

import math

import numpy as np
import pytest

from embodied.episodes import Episode, cut
from embodied.records import Answer, Query, Rank, Skip
from rapport.visual.questions import (
    TooFewVideos,
    finals,
    learned_from,
    simulated,
    triplets,
    winners,
)


def test_triplets_are_of_different_videos_and_share_them_evenly():
    found = triplets(20, 30, np.random.default_rng(0))
    assert found.shape == (30, 3) and len({frozenset(row) for row in found.tolist()}) == 30
    assert all(len(set(row)) == 3 for row in found.tolist())
    assert np.ptp(np.bincount(found.ravel(), minlength=20)) <= 2


def test_as_many_questions_as_there_are_and_no_more():
    assert len(triplets(5, math.comb(5, 3), np.random.default_rng(0))) == 10
    with pytest.raises(TooFewVideos, match="5 videos make 10 questions"):
        triplets(5, 11, np.random.default_rng(0))
    with pytest.raises(TooFewVideos, match="2 videos make 0 questions"):
        triplets(2, 1, np.random.default_rng(0))


def test_a_third_of_the_budget_at_most_goes_to_demonstrations():
    assert [finals(n) for n in (6, 12, 30, 150)] == [1, 2, 5, 5]


def film(n):
    return Episode(f"video-{n}", np.full((2, 3), float(n), np.float32), np.zeros((2, 0), np.float32))


def asked(n, which):
    return Query(f"question-0-{n:04d}", tuple(cut(film(k), 0, 2) for k in which), "rank")


def answer(n, query, value, **kwargs):
    return Answer(f"a{n}", query.id, kwargs.pop("who", "ann"), "person", value, seq=n + 1, **kwargs)


def test_the_winner_is_of_all_that_stands_and_a_skip_has_none():
    one, two, three = asked(0, (0, 1, 2)), asked(1, (3, 4, 5)), asked(2, (6, 7, 8))
    said = [
        answer(0, one, Rank((2, 0, 1))),
        answer(1, two, Skip("")),
        answer(2, three, Rank((0, 1, 2))),
        answer(3, three, Rank((1, 2, 0)), who="bob"),
        answer(4, three, Rank((1, 0, 2)), who="cyd"),
        answer(5, one, Rank((1, 0, 2)), supersedes="a0"),
    ]
    assert winners(said, [one, two, three]) == {one.id: "video-1", three.id: "video-7"}


def test_what_shows_a_demonstration_is_not_learned_from():
    one, two = asked(0, (0, 1, 2)), asked(1, (3, 4, 5))
    said = [answer(0, one, Rank((2, 0, 1))), answer(1, two, Rank((0, 1, 2)))]
    (part,) = learned_from(said, [one, two], ["video-2"]).said
    assert len(part) == 1 and part.segments.obs[0, 0, 0, 0] == 3
    assert learned_from(said, [one, two], ["video-2", "video-3"]).said == ()


def test_a_ranking_is_of_a_question_whoever_and_however_often_it_was_asked():
    one, two, again = asked(0, (0, 1, 2)), asked(1, (3, 4, 5)), asked(2, (2, 1, 0))
    said = [
        answer(0, one, Rank((2, 0, 1))),
        answer(1, two, Skip("")),
        answer(2, two, Rank((0, 1, 2)), who="bob"),
        answer(3, again, Rank((1, 2, 0)), who="bob"),
        answer(4, one, Rank((1, 0, 2)), supersedes="a0"),
    ]
    found = learned_from(said, [one, two, again], [])
    assert found.of.tolist() == [0, 1, 1] and len(found.said[0]) == 3
    assert found.said[0].segments.obs[:, 0, 0, 0].tolist() == [3, 2, 0]  # as the rows are


def test_simulated_people_slip_as_often_as_they_say(settings):
    own = lambda name: np.array([float(name.split("-")[1])] * 2)  # noqa: E731
    queries = [asked(n, (0, 1, 2)) for n in range(2000)]
    right = (2, 1, 0)

    def share(name, deviation=1.0):
        teacher = simulated(settings(teacher=name), own, deviation)
        return np.mean([teacher(q).order == right for q in queries])

    assert share("oracle") == 1
    assert share("mistake") == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / 2000))
    # Plackett-Luce: utilities 0, 2, 4 times BETA over the deviation 4 are 0, 1, 2.
    likely = math.e**2 / (math.e**2 + math.e + 1) * math.e / (math.e + 1)
    assert share("noisy", 4.0) == pytest.approx(likely, abs=4 * math.sqrt(likely * (1 - likely) / 2000))
