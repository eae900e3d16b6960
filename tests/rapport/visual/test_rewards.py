"""How far a reward agrees with rankings that it has not learned from."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from embodied.episodes import Episode, cut
from embodied.records import Answer, Query, Rank
from embodied.video_methods import UNASKED, Method, fitted
from embodied.videos import padding
from rapport.visual.questions import learned_from, triplets
from rapport.visual.rewards import Seen, agreement, alike, fit, scale


def said_of(people, n=60, right=False):
    """n questions about videos of noise, in each of which people say the same: at random, or by the first feature."""
    rng = np.random.default_rng(0)
    films = [rng.normal(size=(3, 4)).astype(np.float32) for _ in range(60)]
    nothing = np.zeros((3, 0), np.float32)
    asked, said = [], []
    for k, three in enumerate(triplets(len(films), n, rng).tolist()):
        asked.append(Query(f"q{k}", tuple(cut(Episode(f"v{i}", films[i], nothing), 0, 3) for i in three), "rank"))
        by = rng.random(3) if not right else [-films[i][:, 0].sum() for i in three]
        order = Rank(tuple(int(i) for i in np.argsort(by)))
        said += [
            Answer(f"{who}{k}", f"q{k}", who, "person", order, seq=len(said) + m + 1) for m, who in enumerate(people)
        ]
    return films, learned_from(said, asked, [])


@pytest.mark.parametrize("kind", get_args(Method))
def test_every_kind_is_learned_from_what_was_said(kind):
    films, said = said_of(("ann",), right=True)
    acts = [film[:, 1:2] for film in films[:2]]
    model = fit(kind, Seen(films, films[:2], acts), said.said, 0)
    worth = model.worth(*padding(films))
    assert worth.shape == (60,) and torch.isfinite(worth).all() and not alike(worth.numpy())
    again = fit(kind, Seen(films, films[:2], acts), () if kind in UNASKED else said.said, 0)
    assert torch.equal(again.worth(*padding(films)), worth)


def test_what_nothing_can_be_learned_from_is_told():
    films, said = said_of(("ann",), n=5)
    rng = np.random.default_rng(0)
    for wrong, says in (
        (("bogus", films, films[:2], said.said), "no method 'bogus'; choose rapl"),
        (("frames", films, [], said.said), "60 videos and 0 demonstrations"),
        (("raw", [], films[:2], said.said), "0 videos and 2"),
        (("rapl", films, films[:2], ()), "nothing was said that rapl"),
    ):
        with pytest.raises(ValueError, match=says):
            fitted(*wrong, rng, seed=0)


def test_people_who_agree_on_noise_do_not_foretell_each_other():
    films, said = said_of(("ann", "bob"))
    found = agreement("video", Seen(films, films[:2]), said, 0)
    assert found.rankings == 120 and found.questions == 60
    # A random order of three has a share of .5 of its pairs in common with another, and a deviation of .32.
    assert found.share.value == pytest.approx(0.5, abs=4 * 0.32 / math.sqrt(60))
    assert found.share.high - found.share.low > 2 * 0.32 / math.sqrt(60)  # of 60 questions, not of 120 rankings


def test_what_is_more_than_noise_is_foretold():
    films, said = said_of(("ann", "bob"), right=True)
    assert agreement("video", Seen(films, films[:2]), said, 0).share.low > 0.6


def test_videos_that_are_all_alike_are_worth_the_same_and_scale_nothing():
    films = [np.ones((3, 4), np.float32)] * 5
    for kind in ("raw", "video"):  # where every video is a demonstration, none is worse than one
        _, said = said_of(("ann",), n=5)
        model = fit(kind, Seen(films, films[:2]), said.said, 0)
        assert scale(model, films) == 1.0
    assert alike(np.array([3.0, 3.0 + 1e-7])) and not alike(np.array([3.0, 3.1]))


def test_what_looks_at_no_answer_is_held_against_all_of_them():
    films, said = said_of(("ann", "bob"), right=True)
    found = agreement("raw", Seen(films, films[:2]), said, 0)
    assert (found.rankings, found.questions) == (120, 60)
