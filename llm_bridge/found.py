"""A row of somebody's data as it was found: its columns, checked as they are read, with where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embodied.checks import RecordError, number
from embodied.importers import DataError
from llm_bridge.messages import Prompt, conversation, is_transcript, messages_from, spoken
from llm_bridge.records import Record, Said

ANNOTATOR = ("annotator", "annotator_id", "user_id", "worker_id")


@dataclass(frozen=True)
class Row:
    """One row as it was found; `where` names it in sentences."""

    where: str
    data: Mapping[str, Any]

    def fail(self, sentence: str) -> DataError:
        return DataError(f"{self.where}: {sentence}")

    def text(self, key: str) -> str:
        found = self.data.get(key)
        if not isinstance(found, str):
            raise self.fail(f"{key} is {str(found)[:60]!r}; give text")
        return found

    def texts(self, key: str) -> list[str]:
        found = self.data.get(key)
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise self.fail(f"{key} is {str(found)[:60]!r}; give a list of texts")
        return found

    def objects(self, key: str) -> list[Row]:
        found = self.data.get(key)
        if not isinstance(found, list) or not all(isinstance(part, Mapping) for part in found):
            raise self.fail(f"{key} is {str(found)[:60]!r}; give a list of objects")
        return [Row(self.where, part) for part in found]

    def number(self, key: str) -> float:
        try:
            return number(key, self.data.get(key))
        except RecordError as error:
            raise self.fail(str(error)) from error

    def flag(self, key: str) -> bool:
        found = self.data.get(key)
        if found not in (0, 1, True, False):
            raise self.fail(f"{key} is {str(found)[:60]!r}; give true or false")
        return bool(found)

    def prompt(self, key: str) -> Prompt:
        """A text, a transcript or messages; what the assistant is to say next is left open."""
        found = self.data.get(key)
        return conversation(found) if isinstance(found, str) else self.messages(key)

    def messages(self, key: str) -> Prompt:
        found = self.data.get(key)
        try:
            return spoken(found) if isinstance(found, str) else messages_from(found)
        except RecordError as error:
            raise self.fail(f"{key}: {error}") from error

    def completion(self, key: str) -> str:
        """A text, or a list of one message of the assistant."""
        found = self.data.get(key)
        if isinstance(found, str):
            # After a transcript the blank is the transcript's.
            prompt = self.data.get("prompt")
            return found.removeprefix(" ") if isinstance(prompt, str) and is_transcript(prompt) else found
        turns = self.messages(key)
        if len(turns) != 1 or turns[0].role != "assistant":
            raise self.fail(f"{key} has the turns {[turn.role for turn in turns]}; give one of the assistant")
        return turns[0].content

    def record(
        self,
        prompt: Prompt,
        completions: Iterable[str],
        said: Said = None,
        *,
        weight: float | None = None,
        scores: Mapping[str, Sequence[float]] | None = None,
    ) -> Record:
        """With the annotator, and the weight unless it is given, from the row's own columns."""
        annotator = next((self.data[key] for key in ANNOTATOR if self.data.get(key) is not None), "")
        given = self.number("weight") if weight is None and self.data.get("weight") is not None else weight
        try:
            told = tuple((name, tuple(number(name, v) for v in values)) for name, values in (scores or {}).items())
            weight = 1.0 if given is None else given
            return Record(prompt, tuple(completions), said, str(annotator), weight, told)
        except RecordError as error:
            raise self.fail(str(error)) from error


Reader = Callable[[Sequence[Row]], Iterable[Record | str]]
"""Rows to records, in order; a text says why a row gave none."""
