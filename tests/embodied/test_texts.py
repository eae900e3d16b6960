"""Texts as segments: any text comes back, and nothing else passes for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.checks import RecordError
from embodied.episodes import cut
from embodied.feedback import feedback
from embodied.records import Answer, Compare, Query, Segment
from embodied.texts import text_episode, text_of


def whole(text, name="t"):
    episode = text_episode(name, text)
    return cut(episode, 0, len(episode))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_comes_back_and_the_empty_one_too(text):
    assert text_of(whole(text)) == text


def test_answers_about_texts_are_feedback_like_any_other():
    query = Query("q", (whole("yes", "a"), whole("no, never", "b")), context="Is it?")
    told, budget = feedback([Answer("1", "q", "ann", "person", Compare(1.0))], [query])
    assert told.segments.mask.sum(-1).tolist() == [[4, 10]] and budget.answered == 1


@pytest.mark.parametrize(
    "segment",
    [
        Segment("e", 0, 2, np.zeros((2, 0)), np.zeros((2, 1))),
        Segment("e", 0, 2, np.zeros((2, 0)), np.zeros((2, 1), np.uint8)),
        Segment("e", 0, 2, np.zeros((2, 0)), np.array([[0xC3], [0xFF]], np.uint8)),
        cut(text_episode("t", "hello"), 2, 6),
        cut(text_episode("t", "hello"), 0, 3),
    ],
)
def test_what_is_no_whole_text_is_named(segment):
    with pytest.raises(RecordError, match=r"is no whole text: .*; cut what `text_episode` made from end to end"):
        text_of(segment)


def test_texts_that_cannot_be():
    with pytest.raises(RecordError, match="text 't' has 100000 bytes; give at most 99,999"):
        text_episode("t", "x" * 100_000)
    with pytest.raises(RecordError, match="remove the lone surrogate"):
        text_episode("t", "\ud800")
