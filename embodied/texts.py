"""Texts in the data chain: an episode whose actions are the bytes of a text, and its end.

So a language model's answers are segments like any others, and what people say of them reaches the same store. The
prompt is the query's context, shared by its alternatives.
"""

from __future__ import annotations

import numpy as np

from embodied.checks import MAX_STEPS, RecordError, check_text
from embodied.episodes import Episode
from embodied.records import Segment

END = 0xFF  # in no UTF-8; to stop is an act too, and an empty text has it


def text_episode(id: str, text: str) -> Episode:
    """act [T,1]: the UTF-8 bytes and END; nothing is observed, obs [T,0]. Raises RecordError for what is no text, or is
    too long."""
    check_text(f"text {id!r}", text)
    data = np.frombuffer(text.encode() + bytes([END]), np.uint8)
    if len(data) > MAX_STEPS:
        raise RecordError(f"text {id!r} has {len(data) - 1} bytes; give at most {MAX_STEPS - 1:,}")
    return Episode(id, np.zeros((len(data), 0), np.float32), data[:, None], terminated=True)


def text_of(segment: Segment) -> str:
    """The text again. Raises RecordError for a segment that is none, or is a part of one."""
    act = segment.act
    try:
        if act.dtype == np.uint8 and act.shape[1:] == (1,) and act[-1, 0] == END and segment.start == 0:
            return act[:-1].tobytes().decode()
    except UnicodeDecodeError:
        pass
    raise RecordError(
        f"the segment of episode {segment.episode!r} is no whole text: its actions are {act.dtype} {list(act.shape)}; "
        "cut what `text_episode` made from end to end"
    )
