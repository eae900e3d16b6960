"""Compared pairs as one .npz, out and in: what a training script of anybody's can read with numpy alone.

| key | what it is |
| --- | --- |
| obs [B,2,T,*O], act [B,2,T,*A] | the two segments, padded with zeros to the longest |
| mask [B,2,T] | true on real steps |
| target [B,2] | P(first better), P(second better); a tie is .5/.5 |
| weight [B] | 1; 0 for a question that was skipped (its target says nothing) |
| annotator, source, query [B] | who answered, what that is (person, teacher, judge, import), and to which question |
| episode [B,2], start [B,2] | where the segments were cut from |
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embodied import atomic
from embodied.episodes import Episode, cut
from embodied.importers import DataError
from embodied.records import MAX_NAME, Answer, Array, Compare, Query, RecordError, Segment, Skip, check_answer

NEEDED = ("obs", "act", "target")


def write_pairs(path: Path, queries: Sequence[Query], answers: Sequence[Answer]) -> int:
    """Saves the answers that stand (a revised one is left out), in their order, and returns how many.

    Raises DataError when there is none, for an answer to an unknown query, for one that compares nothing (rankings and
    ratings are no pairs), for segments of different shapes, and when the file is there or cannot be written.
    """
    asked = {query.id: query for query in queries}
    superseded = {answer.supersedes for answer in answers}
    standing = [answer for answer in answers if answer.id not in superseded]
    if not standing:
        raise DataError(f"nothing for {path}: no answer to any of {len(asked)} questions; ask first")
    pairs = []
    for answer in standing:
        if answer.query not in asked:
            raise DataError(f"answer {answer.id!r} is to query {answer.query!r}, which is not there; give it too")
        query = asked[answer.query]
        check_answer(answer, query)
        if query.kind != "compare":
            raise DataError(f"query {query.id!r} asks to {query.kind}; only comparisons are pairs: export those alone")
        pairs.append(query.segments)
    flat = [segment for pair in pairs for segment in pair]
    first, longest = flat[0], max(len(segment) for segment in flat)
    for segment in flat:
        if segment.obs.shape[1:] != first.obs.shape[1:] or segment.act.shape[1:] != first.act.shape[1:]:
            raise DataError(
                f"a step of episode {segment.episode!r} has shapes {segment.obs.shape[1:]}, {segment.act.shape[1:]}, "
                f"one of {first.episode!r} {first.obs.shape[1:]}, {first.act.shape[1:]}; take one environment at a time"
            )

    def padded(name: str) -> Array:
        parts = [getattr(segment, name) for segment in flat]
        result = np.zeros((len(flat), longest, *parts[0].shape[1:]), np.result_type(*{part.dtype for part in parts}))
        for row, part in zip(result, parts, strict=True):
            row[: len(part)] = part
        return result.reshape(-1, 2, *result.shape[1:])

    lengths = np.array([len(segment) for segment in flat]).reshape(-1, 2, 1)
    said = [answer.value.first if isinstance(answer.value, Compare) else 0.5 for answer in standing]
    arrays = {
        "obs": padded("obs"),
        "act": padded("act"),
        "mask": np.arange(longest) < lengths,
        "target": np.stack([said, 1 - np.array(said)], 1),
        "weight": np.array([float(not isinstance(answer.value, Skip)) for answer in standing]),
        "annotator": np.array([answer.annotator for answer in standing]),
        "source": np.array([answer.source for answer in standing]),
        "query": np.array([answer.query for answer in standing]),
        "episode": np.array([[segment.episode for segment in pair] for pair in pairs]),
        "start": np.array([[segment.start for segment in pair] for pair in pairs]),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, buffer.getvalue(), replace=False)
    except FileExistsError:
        raise DataError(f"{path} is there already; give another name, or remove it") from None
    except OSError as error:
        raise DataError(atomic.explain(error, path)) from error
    return len(standing)


def read_pairs(path: Path, name: str = "pairs") -> tuple[list[Episode], list[Query], list[Answer]]:
    """The same as records. Each segment becomes an episode of its own, EPISODE.START-STOP, since the rest of the one
    that it was cut from is not in the file; a segment that occurs twice becomes one.

    Only obs, act and target must be there: without a mask all steps are real, and other keys have their usual value.
    Raises DataError for keys that are missing, shapes that disagree, targets that are no probabilities, NaN.
    """
    with _opened(path) as file:
        arrays = {key: file[key] for key in file.files}
    if missing := [key for key in NEEDED if key not in arrays]:
        raise DataError(f"{path} has no {', '.join(missing)}; pairs need {', '.join(NEEDED)}")
    count = len(arrays["target"]) if arrays["target"].ndim else 0
    shape = arrays["obs"].shape[:3]
    if not count or len(shape) < 3 or shape[:2] != (count, 2) or 0 in shape:
        raise DataError(f"{path}: obs has shape {arrays['obs'].shape}, target {arrays['target'].shape}; give [B,2,T,O]")
    rows = np.arange(count)
    defaults = {
        "mask": np.ones(shape, bool),
        "weight": np.ones(count),
        "annotator": np.full(count, name),
        "source": np.full(count, "import"),
        "query": np.array([f"{name}-{i:06d}" for i in rows]),
        "episode": np.array([[f"{name}-{i:06d}-{k}" for k in range(2)] for i in rows]),
        "start": np.zeros((count, 2), int),
    }
    arrays = {**defaults, **arrays}
    wanted = {"act": shape, "mask": shape, "target": (count, 2), **{k: v.shape for k, v in defaults.items()}}
    for key, expected in wanted.items():
        if arrays[key].shape[: len(expected)] != expected:
            raise DataError(f"{path}: {key} has shape {arrays[key].shape}; give {list(expected)}, as obs asks for")
    target, weight, mask = arrays["target"], arrays["weight"], arrays["mask"].astype(bool)
    if target.dtype.kind not in "biuf" or not np.allclose(target.sum(1), 1) or target.min() < 0:
        row = int(np.argmax(~np.isclose(target.sum(1), 1))) if target.dtype.kind in "biuf" else 0
        raise DataError(f"{path}: target[{row}] is {target[row].tolist()}; give two probabilities that sum to 1")
    lengths = mask.sum(-1)
    if not (mask == (np.arange(shape[2]) < lengths[..., None])).all() or not lengths.all():
        raise DataError(f"{path}: a mask has a gap, or no step at all; give the real steps first, at least one")
    made: dict[str, Segment] = {}
    episodes, queries, answers = [], dict[str, Query](), []
    try:
        for i in rows:
            pair = []
            for k in range(2):
                start, steps = int(arrays["start"][i, k]), int(lengths[i, k])
                id = f"{arrays['episode'][i, k]}.{start}-{start + steps}"
                episode = Episode(id, arrays["obs"][i, k, :steps], arrays["act"][i, k, :steps])
                whole = made.get(id) or cut(episode, 0, steps)
                if id not in made:
                    episodes.append(episode)
                    made[id] = whole
                elif not (np.array_equal(whole.obs, episode.obs) and np.array_equal(whole.act, episode.act)):
                    raise DataError(f"pair {i} has another content of {id} than a pair before it; name them apart")
                pair.append(whole)
            query, person = str(arrays["query"][i]), str(arrays["annotator"][i])
            known = queries.setdefault(query, Query(query, tuple(pair)))
            if [s.episode for s in known.segments] != [s.episode for s in pair]:
                raise DataError(f"query {query!r} is about other segments in pair {i} than before; give it its own id")
            value = Compare(float(target[i, 0])) if weight[i] else Skip()
            id = f"{query[: MAX_NAME - 20]}-{i:06d}"
            answers.append(Answer(id, query, person, str(arrays["source"][i]), value))
    except RecordError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    return episodes, list(queries.values()), answers


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    try:
        file = np.load(path, allow_pickle=False)
    except Exception as error:  # as in episodes: each layer has its own
        raise DataError(f"{path} is not a whole .npz ({type(error).__name__}: {error}); export it again") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds one array, not pairs; give a .npz with {', '.join(NEEDED)}")
    return file
