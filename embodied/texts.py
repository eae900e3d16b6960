"""Texts in the data chain: an episode whose actions are the bytes of a text, and its end.

So a language model's answers are segments like any others, and what people say of them reaches the same store. The
prompt is the query's context, shared by its alternatives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from embodied.checks import MAX_STEPS, RecordError, check_text
from embodied.episodes import Episode, cut
from embodied.records import Query, Segment

END = 0xFF  # in no UTF-8; to stop is an act too, and an empty text has it


def text_episode(id: str, text: str) -> Episode:
    """act [T,1]: the UTF-8 bytes and END; nothing is observed, obs [T,0]. Raises RecordError for what is no text, or is
    too long."""
    check_text(f"text {id!r}", text)
    data = np.frombuffer(text.encode() + bytes([END]), np.uint8)
    if len(data) > MAX_STEPS:
        raise RecordError(f"text {id!r} has {len(data) - 1} bytes; give at most {MAX_STEPS - 1:,}")
    return Episode(id, np.zeros((len(data), 0), np.float32), data[:, None], terminated=True)


def text_query(prompt: str, answers: Sequence[str], kind: str = "compare") -> tuple[list[Episode], Query]:
    """The question which of these texts is better, or as `kind` asks, and the episodes to be saved before it. The same
    texts are the same question, by its id. Raises RecordError as `text_episode` and Query do."""
    content = json.dumps([kind, prompt, *answers])
    id = f"texts-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
    episodes = [text_episode(f"{id}-{i}", answer) for i, answer in enumerate(answers)]
    return episodes, Query(id, tuple(cut(e, 0, len(e)) for e in episodes), kind, prompt)


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
