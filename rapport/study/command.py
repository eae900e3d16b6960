"""`rapport data export` and `import` of a study's answers."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from embodied.episodes import Episodes
from embodied.importers import DataError
from human_ui.site import EPISODES
from rapport.console import say
from rapport.data_folder import ANSWERS, open_folder
from rapport.study import files, folder
from rapport.study.contents import Contents, read, wordings
from rapport.study.put import put
from rapport.study.rows import to_json


def export(
    study: Path,
    out: Path,
    format: str,
    place: str | None,
    *,
    gold: bool = True,
    names: bool = False,
    notes: bool = False,
) -> str:
    """Writes the answers of a study or a data folder as jsonl, parquet or hf (a dataset folder). Raises DataError."""
    with open_folder(study, place=place) as store:
        contents = read(store, gold=gold, names=names, notes=notes)
        if not contents.rows and format != "hf":
            raise DataError(f"nothing for {out}: there is no answer in {study} yet; ask first")
        left_out = []
        if format == "hf":
            left_out = folder.write(out, contents, study, store.episodes)
        else:
            files.write(out, files.lines(to_json(contents.rows)) if format == "jsonl" else files.parquet(contents.rows))
    asked = wordings(contents.rows)
    if len(asked) > 1:
        told = ", ".join(f"“{text}” {count} times" for text, count in sorted(asked.items()))
        left_out.append(f"not all were asked the same ({told}): look at the column question before mixing answers")
    for sentence in left_out:
        say(f"warning: {sentence}")
    people = len({row.answer.annotator for row in contents.rows})
    return f"{out}: {len(contents.rows)} answers of {people} annotators to {_asked(contents)} questions"


def bring(source: Path, study: Path, place: str | None, prefix: str) -> str:
    """Reads what `export` wrote into a study or data folder, new or to be added to. Raises DataError and StoreError."""
    contents = Contents(())
    if folder.is_folder(source):
        placed, contents = folder.read(source)
    else:
        placed = files.read_jsonl(source) if source.suffix == ".jsonl" else files.read_parquet(source)
    if not placed and not contents.rest:
        raise DataError(f"{source} holds no answer; export it again")
    whole = bool(contents.rest)
    episodes = Episodes((source if whole else study) / EPISODES)
    take = folder.bring(source, contents, study) if whole else None
    if place is None and not (study / ANSWERS).exists():
        # Tried elsewhere first: what is refused leaves no empty study behind.
        with TemporaryDirectory() as scratch, open_folder(Path(scratch), make=True) as trial:
            put(trial, placed, contents, episodes, prefix=prefix)
    with open_folder(study, make=True, place=place) as store:
        new = put(store, placed, contents, episodes, prefix=prefix, bring=take)
    return f"{study}: {len(placed)} answers read, {new} of them new"


def _asked(contents: Contents) -> int:
    return len({row.asked.id for row in contents.rows})
