"""A study from a script, over HTTP: answers as they come, the queue, questions that are needed no more, how it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from embodied.records import Answer, value_from_json

WAIT = 25.0  # seconds for which the server holds a request that has no answer yet
LATER = 2.0  # seconds before a server that is away is tried again


class ClientError(ValueError):
    """The study refused, or could not be reached; the sentence says why."""


class Client:
    """`url`: the study's, such as http://127.0.0.1:8000. `token`: of somebody invited as a learner."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self._token = url.rstrip("/"), token

    def answers(self, after: int = 0, wait: float = 0.0) -> list[Answer]:
        """Those with a number above `after`, in order; if there are none, the first that come within `wait` seconds."""
        rows = self._call("GET", f"/api/learner/answers?{urlencode({'after': after, 'wait': min(wait, WAIT)})}")
        return [Answer(**{**row, "value": value_from_json(row["value"])}) for row in rows]

    def stream(self, after: int = 0) -> Iterator[Answer]:
        """Every answer above `after`, each once, for ever; waits for a server that is away. Keep the number of the last
        one that was used, beside what it was used for, and go on from there."""
        while True:
            try:
                found = self.answers(after, WAIT)
            except ConnectionError:
                time.sleep(LATER)
                continue
            for answer in found:
                yield answer
                after = answer.seq

    def queue(self) -> dict[str, int]:
        """open, leased, answers, people, last_minute, last_seq."""
        found: dict[str, int] = self._call("GET", "/api/learner/queue")
        return found

    def withdraw(self, queries: Sequence[str]) -> None:
        """These are asked no more."""
        self._call("POST", "/api/learner/withdraw", {"queries": list(queries)})

    def progress(self, run: str, step: int, row: Mapping[str, float | None]) -> None:
        """How the training goes, for the owner's page; `row` as `human_ui.progress.put_progress` takes it. The same
        step again replaces what was told of it."""
        self._call("POST", "/api/learner/progress", {"run": run, "step": step, "row": dict(row)})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """Raises ClientError where the study refuses, ConnectionError where it cannot be reached now."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(self.url + path, data, headers, method=method), timeout=WAIT + 10) as response:
                text = response.read()
        except HTTPError as error:
            if error.code in (429, 500, 502, 503, 504):
                raise ConnectionError(f"{self.url} cannot answer now ({error.code}); try again later") from error
            raise ClientError(f"{self.url} refused: {_sentence(error)}") from error
        except (URLError, TimeoutError) as error:
            raise ConnectionError(f"{self.url} cannot be reached ({error}); start it, or mend the address") from error
        return json.loads(text) if text else None


def _sentence(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError):
        return str(error)
