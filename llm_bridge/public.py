"""Public sets of preference data, each in its own columns, as records: one function each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from embodied.records import Compare, Rank, Rate
from llm_bridge.found import Row
from llm_bridge.messages import Message, Prompt
from llm_bridge.records import Record

STRENGTHS = (0.5, 0.73, 0.88, 0.95)
"""P(better) of a preference of strength 0 (alike), 1 (slightly better), 2 (better), 3 (much better), as HelpSteer has
it: the logistic of the strength, which is so read as log-odds."""

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def ultrafeedback(rows: Sequence[Row]) -> Iterator[Record]:
    """instruction, completions: K rated over all and in aspects (arXiv 2310.01377). An aspect that is not rated in all
    ("N/A") is left out."""
    for row in rows:
        parts = row.objects("completions")
        marks = [part.data.get("annotations") or {} for part in parts]
        if odd := next((found for found in marks if not isinstance(found, Mapping)), None):
            raise row.fail(f"annotations are {str(odd)[:60]!r}; give an object, a rating by aspect")
        aspects = {name: None for found in marks for name in found}
        rated = {name: [_rating(found.get(name)) for found in marks] for name in aspects}
        scores = {name: [v for v in values if v is not None] for name, values in rated.items() if None not in values}
        overall = [_rating(part.data.get("overall_score")) for part in parts]
        said = None if None in overall or not overall else Rate(tuple(v for v in overall if v is not None))
        responses = [part.text("response") for part in parts]
        yield row.record(row.prompt("instruction"), responses, said, scores=scores)


def helpsteer(rows: Sequence[Row]) -> Iterator[Record]:
    """prompt, response and five attributes from 0 to 4; consecutive rows of one prompt are one record (2406.08673)."""
    for _, same in groupby(rows, lambda row: row.data["prompt"]):
        group = list(same)
        scores = {name: [row.number(name) for row in group] for name in HELPSTEER}
        said = Rate(tuple(scores["helpfulness"]))
        first = group[0]
        yield first.record(_helpsteer_turns(first), [row.text("response") for row in group], said, scores=scores)


def helpsteer_preferences(rows: Sequence[Row]) -> Iterator[Record]:
    """HelpSteer2: prompt, response_1, response_2, preference_strength; HelpSteer3: context, response1, response2,
    overall_preference. From -3 (the first is much better) to 3, by STRENGTHS."""
    for row in rows:
        second = "context" not in row.data
        keys = ("response_1", "response_2") if second else ("response1", "response2")
        strength = row.number("preference_strength" if second else "overall_preference")
        if strength not in range(-3, 4):
            raise row.fail(f"the preference is {strength}; give a whole number from -3 to 3")
        p = STRENGTHS[int(abs(strength))]
        prompt = _helpsteer_turns(row) if second else row.prompt("context")
        yield row.record(prompt, map(row.text, keys), Compare(p if strength < 0 else 1 - p))


def oasst_trees(rows: Sequence[Row]) -> Iterator[Record]:
    """One tree of messages in each row: replies of the assistant to one message, ranked (0 is best), are a ranking."""
    for row in rows:
        root = row.data["prompt"]
        if isinstance(root, Mapping) and _fine(root):
            yield from _tree(row, root, ())


def oasst_messages(rows: Sequence[Row]) -> Iterator[Record]:
    """The same as one message in each row, which names its parent."""
    replies: dict[Any, list[dict[str, Any]]] = {}
    nodes = [{**row.data, "replies": []} for row in rows]
    for node in nodes:
        replies.setdefault(node.get("parent_id"), []).append(node)
    for node in nodes:
        node["replies"] = replies.get(node["message_id"], [])
    for row, node in zip(rows, nodes, strict=True):
        if node.get("parent_id") is None and _fine(node):
            yield from _tree(row, node, ())


def shp(rows: Sequence[Row]) -> Iterator[Record]:
    """history, human_ref_A, human_ref_B, labels (1: A is better), and the votes of both (Ethayarajh 2022)."""
    for row in rows:
        pair = row.text("human_ref_A"), row.text("human_ref_B")
        votes = {"votes": (row.number("score_A"), row.number("score_B"))} if "score_A" in row.data else {}
        yield row.record(row.prompt("history"), pair, Compare(float(row.flag("labels"))), scores=votes)


def pku(rows: Sequence[Row]) -> Iterator[Record]:
    """prompt, response_0, response_1, which is better and which safer, and whether each is safe (arXiv 2310.12773).
    scores: `safer` 1 for the safer; `cost` 1 for an unsafe one."""
    for row in rows:
        better, safer = row.flag("better_response_id"), row.flag("safer_response_id")
        cost = [float(not row.flag(f"is_response_{k}_safe")) for k in (0, 1)]
        pair = row.text("response_0"), row.text("response_1")
        scores = {"safer": (float(not safer), float(safer)), "cost": cost}
        yield row.record(row.prompt("prompt"), pair, Compare(float(not better)), scores=scores)


def nectar(rows: Sequence[Row]) -> Iterator[Record]:
    """prompt, answers: seven with their rank (1 is best)."""
    for row in rows:
        parts = row.objects("answers")
        ranks = [part.number("rank") for part in parts]
        order = Rank(tuple(sorted(range(len(parts)), key=ranks.__getitem__)))
        yield row.record(row.prompt("prompt"), [part.text("answer") for part in parts], order)


def _rating(found: Any) -> float | None:
    found = found.get("Rating") if isinstance(found, Mapping) else found
    try:
        return float(found)
    except (TypeError, ValueError):
        return None


_EXTRA = re.compile(r"\n<extra_id_1>(User|Assistant)\n")


def _helpsteer_turns(row: Row) -> Prompt:
    """Turns after the first are marked in the text."""
    first, *rest = _EXTRA.split(row.text("prompt"))
    roles = {"User": "user", "Assistant": "assistant"}
    turns = [Message(roles[name], said) for name, said in zip(rest[::2], rest[1::2], strict=True)]
    return (Message("user", first), *turns)


def _fine(node: Mapping[str, Any]) -> bool:
    return not node.get("deleted") and node.get("review_result") is not False


def _tree(row: Row, node: Mapping[str, Any], before: Prompt) -> Iterator[Record]:
    here = Row(f"{row.where}, message {node.get('message_id')}", node)
    role = {"prompter": "user", "assistant": "assistant"}.get(here.text("role"), here.text("role"))
    so_far = (*before, Message(role, here.text("text")))
    replies = [reply for reply in (here.objects("replies") if node.get("replies") else ()) if _fine(reply.data)]
    ranked = [one for one in replies if one.data.get("role") == "assistant" and one.data.get("rank") is not None]
    if role == "user" and len(ranked) > 1:
        ranks = [reply.number("rank") for reply in ranked]
        order = sorted(range(len(ranked)), key=ranks.__getitem__)
        answers = [reply.text("text") for reply in ranked]
        yield replace(here.record(so_far, answers, Rank(tuple(order))), annotator="")
    for reply in replies:
        yield from _tree(row, reply.data, so_far)
