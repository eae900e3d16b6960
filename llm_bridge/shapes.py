"""The shapes in which preference trainers exchange data, as records: one function each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embodied.checks import RecordError
from embodied.records import Compare
from llm_bridge.found import Row
from llm_bridge.messages import Message, Prompt, is_transcript
from llm_bridge.records import Record, from_json

MARKERS = (
    "\n\nAssistant:",
    "<|im_start|>assistant\n",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<start_of_turn>model\n",
    "<|assistant|>\n",
    "[/INST]",
    "### Response:\n",
    "ASSISTANT:",
)
"""What comes before the assistant's turn in texts that hold whole conversations."""


def own(rows: Sequence[Row]) -> Iterator[Record]:
    for row in rows:
        try:
            yield from_json(row.data)
        except (RecordError, TypeError) as error:
            raise row.fail(str(error)) from error


def explicit(rows: Sequence[Row]) -> Iterator[Record | str]:
    """prompt, chosen, rejected: texts or messages. `p_chosen` is P(chosen better), where it is not certain. A gap
    between `score_chosen` and `score_rejected` is the weight, and 0 where the scores contradict the label."""
    for row in rows:
        if isinstance(row.data["chosen"], str) or _is_answer(row.data["chosen"]):
            pair = row.completion("chosen"), row.completion("rejected")
            yield row.record(row.prompt("prompt"), pair, _certain(row), weight=_gap(row))
        else:  # binarised UltraFeedback: the prompt is within the conversations too
            yield _conversations(row, row.messages("chosen"), row.messages("rejected"))


def implicit(rows: Sequence[Row], marker: str | None = None) -> Iterator[Record | str]:
    """chosen, rejected hold the whole conversation; the prompt is what they begin with alike. Texts are cut after the
    last of MARKERS (or `marker`) that both have there."""
    for row in rows:
        chosen, rejected = row.data["chosen"], row.data["rejected"]
        if isinstance(chosen, str) and isinstance(rejected, str) and not is_transcript(chosen):
            at = _after_marker(row, chosen, rejected, MARKERS if marker is None else (marker,))
            pair = chosen[at:], rejected[at:]
            yield row.record((Message("user", chosen[:at]),), pair, _certain(row), weight=_gap(row))
        else:
            yield _conversations(row, row.messages("chosen"), row.messages("rejected"))


def unpaired(rows: Sequence[Row]) -> Iterator[Record]:
    """prompt, completion, label."""
    for row in rows:
        yield row.record(row.prompt("prompt"), [row.completion("completion")], row.flag("label"))


def demonstrations(rows: Sequence[Row]) -> Iterator[Record]:
    """prompt, completion: what is to be imitated; nothing is said of it."""
    for row in rows:
        yield row.record(row.prompt("prompt"), [row.completion("completion")])


def conversations(rows: Sequence[Row]) -> Iterator[Record | str]:
    """messages: whole conversations, of which the assistant's last turn is the completion."""
    for row in rows:
        *before, last = row.messages("messages") or (Message("user", ""),)
        if last.role == "assistant":
            yield row.record(tuple(before), [last.content])
        else:
            yield "where the assistant does not have the last word"


def prompts(rows: Sequence[Row]) -> Iterator[Record]:
    for row in rows:
        yield row.record(row.prompt("prompt"), ())


def texts(rows: Sequence[Row]) -> Iterator[Record]:
    """prompt, answers: what `rapport ask --texts` asks about, unanswered."""
    for row in rows:
        yield row.record(row.prompt("prompt"), row.texts("answers"))


def _is_answer(found: object) -> bool:
    return isinstance(found, Sequence) and len(found) == 1


def _certain(row: Row) -> Compare:
    return Compare(1.0 if row.data.get("p_chosen") is None else row.number("p_chosen"))


def _gap(row: Row) -> float | None:
    for better, worse in (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating")):
        if row.data.get(better) is not None and row.data.get(worse) is not None:
            return max(row.number(better) - row.number(worse), 0.0)
    return None


def _conversations(row: Row, chosen: Prompt, rejected: Prompt) -> Record | str:
    if not chosen or not rejected or chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise row.fail("a conversation does not end with the assistant; give both with their last answers")
    most = min(len(chosen), len(rejected)) - 1
    common = next((i for i in range(most) if chosen[i] != rejected[i]), most)
    if len(chosen) != common + 1 or len(rejected) != common + 1:
        return "conversations that part before the last answer"
    return row.record(chosen[:common], (chosen[-1].content, rejected[-1].content), _certain(row), weight=_gap(row))


def _after_marker(row: Row, a: str, b: str, markers: Sequence[str]) -> int:
    most = min(len(a), len(b))
    common = next((i for i in range(most) if a[i] != b[i]), most)
    at = max((a.rfind(marker, 0, common) + len(marker) for marker in markers if marker in a[:common]), default=0)
    if not at:
        raise row.fail(
            "chosen and rejected have no turn of the assistant that begins alike, so the prompt is not known; give a "
            "column prompt, or read with partial(implicit, marker=...)"
        )
    return at
