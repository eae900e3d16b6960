"""A study as a dataset folder: a card, data/*.parquet that `datasets.load_dataset(FOLDER)` loads, and all else that it
needs to go on on another machine: episodes, clips, terms, questions that nobody has answered yet.

```
README.md              the dataset card
data/answers.parquet   one row per answer
questions.jsonl        every question, with how it is offered
study.json, study.toml what was erased, who has read how far, every version of the terms; the terms now
episodes/*.npz         those that questions refer to         clips/            those that people were shown
```
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from embodied import atomic
from embodied.episodes import Episodes
from embodied.importers import DataError
from human_ui import study
from human_ui.clips import ClipError, Clips
from human_ui.progress import checked
from human_ui.site import CLIPS, EPISODES, TERMS
from rapport.study import files
from rapport.study.contents import AS_THEY_ARE, Contents, Offered, wordings
from rapport.study.put import Placed
from rapport.study.rows import COLUMNS, Asked, asked_from_json, asked_to_json, columns

CARD, DATA, QUESTIONS, REST = "README.md", Path("data") / "answers.parquet", "questions.jsonl", "study.json"
OFFERED = ("priority", "want", "withdrawn")


def is_folder(path: Path) -> bool:
    """Whether `write` made it."""
    return (path / REST).is_file() and (path / DATA).is_file()


def write(path: Path, contents: Contents, folder: Path, episodes: Episodes) -> list[str]:
    """Makes the folder, whole or not at all. folder: the study's. Returns a sentence on what could not be taken along.

    Raises DataError when something is there already, for an episode that is missing, and when it cannot be written.
    """
    if path.exists():
        raise DataError(f"{path} is there already; give another name, or remove it")
    made = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            (made / "data").mkdir(parents=True)
            missing = _fill(made, contents, folder, episodes)
            made.rename(path)
        except OSError as error:
            raise DataError(atomic.explain(error, path)) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return missing


def _fill(made: Path, contents: Contents, folder: Path, episodes: Episodes) -> list[str]:
    (made / CARD).write_text(card(contents), encoding="utf-8")
    files.write(made / DATA, files.parquet(contents.rows))
    files.write(made / QUESTIONS, files.lines([_question(one, offered) for one, offered in contents.questions]))
    files.write(made / REST, (files.dumps(dict(contents.rest)) + "\n").encode())
    if (folder / TERMS).is_file():
        shutil.copyfile(folder / TERMS, made / TERMS)
    copied = Episodes(made / EPISODES)
    for id in _episodes(contents):
        copied.save([episodes.load(id)])
    missing, shown, taken = [], Clips(folder / CLIPS), Clips(made / CLIPS)
    for sha in dict.fromkeys(sha for one, _ in contents.questions for sha in one.clips):
        try:
            taken.copy(sha, shown)
        except ClipError as error:
            missing.append(str(error))
    return [f"{len(missing)} clips are left out; the first: {missing[0]}"] if missing else []


def _question(one: Asked, offered: Offered | None) -> dict[str, Any]:
    return asked_to_json(one) | (vars(offered) if offered else dict.fromkeys(OFFERED))


def _episodes(contents: Contents) -> list[str]:
    parts = [part for one, _ in contents.questions for part in (*one.segments, *([one.anchor] if one.anchor else []))]
    return sorted({part.episode for part in parts})


def read(path: Path) -> tuple[Placed, Contents]:
    """What `write` wrote, checked but for episodes and clips. Raises DataError that names file and line."""
    placed = files.read_parquet(path / DATA)
    questions = []
    for where, data in files.read_lines(path / QUESTIONS):
        found = columns(data, where, ["query", "kind", "context", "segments", "anchor", "clips", "gold", *OFFERED])
        questions.append((asked_from_json(found, where), _offered([found[name] for name in OFFERED], where)))
    where = str(path / REST)
    rest = columns(files.loads(files.read_bytes(path / REST), where), where, list(AS_THEY_ARE))
    for name, rows in rest.items():
        if not isinstance(rows, list):
            raise DataError(f"{where}: {name} is no list; export it again")
        for row in rows:
            _check_row(name, row, f"{where}, {name}")
    return placed, Contents((), tuple(questions), rest)


def _offered(given: Sequence[Any], where: str) -> Offered | None:
    match given:
        case [None, None, None]:
            return None
        case [float() | int() as priority, int() as want, bool() as withdrawn] if 0 <= want <= 100:
            return Offered(float(priority), want, withdrawn)
    raise DataError(f"{where}: priority, want, withdrawn are {list(given)}; give a number, 0 to 100, true or false")


def _check_row(name: str, row: object, where: str) -> None:
    table = AS_THEY_ARE[name]
    found = columns(row, where, [column.name for column in table.columns])
    for column in table.columns:
        kind, value = column.type.python_type, found[column.name]
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise DataError(f"{where}: {column.name} is {str(value)[:60]!r}; export it again")
        if kind is int and not 0 <= value < 2**63:
            raise DataError(f"{where}: {column.name} is {value}; export it again")
    if name == "versions":
        columns(files.loads(found["terms"], where), where, [], [*study.Study.__dataclass_fields__])
    if name == "progress":
        told = files.loads(found["row"], where)
        checked(found["run"], found["step"], columns(told, where, ["answers"], [*told]))


def bring(path: Path, contents: Contents, folder: Path) -> Callable[[], None]:
    """What takes the files along: episodes, clips and, where there are none yet, the terms.

    Raises at once, having changed nothing, for an episode or a clip that is damaged, or another one than is there.
    """
    ours, theirs = Episodes(path / EPISODES), Episodes(folder / EPISODES)
    ids = _episodes(contents)
    for id in ids:
        episode = ours.load(id)
        if id in theirs:
            theirs.save([episode])  # the same, or it says so
    shown = Clips(path / CLIPS)
    shas = [sha for one, _ in contents.questions for sha in one.clips if _is_there(path / CLIPS, sha)]
    for sha in shas:
        shown.get(sha)
    terms = path / TERMS
    if terms.is_file():
        study.load(terms)

    def take() -> None:
        for id in ids:
            theirs.save([ours.load(id)])
        kept = Clips(folder / CLIPS)
        for sha in shas:
            kept.copy(sha, shown)
        if terms.is_file() and not (folder / TERMS).exists():
            files.write(folder / TERMS, terms.read_bytes())

    return take


def _is_there(folder: Path, sha: str) -> bool:
    try:
        Clips(folder).path(sha)
    except ClipError:
        return False
    return True


def card(contents: Contents) -> str:
    """The README.md of a Hugging Face dataset: what it holds, and how it is loaded."""
    rows = contents.rows
    names = dict.fromkeys(row.showing.study for row in rows if row.showing)
    name = " ".join(", ".join(names).split()) or "Answers"
    counts = Counter(row.asked.kind for row in rows)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "none"
    revised = {row.answer.supersedes for row in rows}
    stand = sum(row.answer.id not in revised for row in rows)
    people = len({row.answer.annotator for row in rows})
    asked = wordings(rows)
    size = next((label for most, label in _SIZES if len(rows) < most), "1M<n<10M")
    told = "\n".join(f"- “{' '.join(text.split())}”: {count} times" for text, count in sorted(asked.items()))
    table = "\n".join(f"| `{column}` | {about} |" for column, about in COLUMNS.items())
    return f"""---
pretty_name: {files.dumps(name)}
tags: [preferences, human-feedback, robotics]
size_categories: [{size}]
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

# {name}

{len(rows)} answers of {people} annotators to {len(contents.questions)} questions; {stand} stand, the others were
revised by those who gave them. Kinds: {kinds}.

What stood above the clips, where the question had no sentence of its own:

{told or "- not known"}

```python
from datasets import load_dataset

answers = load_dataset("path/to/this/folder", split="train")
pairs = answers.filter(lambda row: row["chosen"] is not None)
```

`chosen` and `rejected` are stretches of episodes: `numpy.load("episodes/EPISODE.npz")["obs"][start:stop]`, and `act`
likewise. `value`, `gold` and `told` are JSON. `rapport data import FOLDER STUDY` makes a study of it that goes on.

| column | what it is |
| --- | --- |
{table}
"""


_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
