"""`rapport data`: recordings and answers into a data folder, out of it as one file, looked at and checked.

A data folder is what every study is: DIR/episodes/*.npz and DIR/answers.sqlite.
"""

from __future__ import annotations

import json as json_format
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from embodied.human_labels import Rates

Flag = tyro.conf.FlagCreatePairsOff[bool]
Given = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Formats = Literal["jsonl", "parquet", "hf", "npz"]
Format = Annotated[Formats | None, tyro.conf.arg(metavar="FORMAT", help_behavior_hint="")]
Address = Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")]


@dataclass(frozen=True)
class Import:
    """Recordings, pairs, the answers of a study or labels of walks on a board into a data folder or a study."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """An .npz or .hdf5 with observations, actions, rewards, terminals, timeouts; a robomimic .hdf5; the folder of a
    Minari data set; what `rapport data export` writes: an .npz of pairs, a .jsonl or .parquet of answers, a dataset
    folder; with --board labels of walks, .jsonl or .csv; or the published NAME_segment_pairs.npy."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The data folder or study, new or to be added to. Of answers alone, their episodes have to be in it."""
    labels: Given = None
    """A label file, query,start_1,start_2,label, about the rows of SOURCE (D4RL arrays only)."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """How long the labelled segments are; 100, or 50 where the label file's name ends with _ph, unless told."""
    rows: Literal["qlearning", "all"] = "qlearning"
    """How the labels count rows. qlearning: without the last and those where a time limit struck. all: every row."""
    ends: Literal["both", "timeouts"] = "both"
    """What ends an episode: terminals and timeouts; in D4RL's antmaze the ant walks on after a terminal, so there
    timeouts alone."""
    crossing: Literal["refuse", "drop"] = "refuse"
    """If a label has a segment that runs over the end of an episode: refuse all, or drop the label."""
    board: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """The board that SOURCE labels walks on: a file of codes as text or JSON, or delivery, the one of the paper."""
    prefix: str = ""
    """Put before the names of those who answered: p1 of one study is not p1 of another."""
    store: Address = None
    """Where DIR keeps its answers, if in PostgreSQL (postgresql://...)."""

    def __call__(self) -> int:
        from embodied.importers import DataError
        from rapport.study.folder import is_folder

        if (self.folder / "config.json").exists():
            raise DataError(f"{self.folder} is the folder of a run; choose another folder for the data")
        if self.board is not None or self.source.suffix == ".npy":
            return self._walks()
        if self.source.suffix in (".jsonl", ".parquet") or is_folder(self.source):
            from rapport.study.command import bring

            print(bring(self.source, self.folder, self.store, self.prefix))
            return 0
        if self.prefix:
            raise DataError(f"--prefix is for the answers of a study, and {self.source} has none; leave it out")
        return self._recordings()

    def _walks(self) -> int:
        from rapport import board_labels, boards
        from rapport.console import say
        from rapport.data_folder import open_folder

        world = boards.read_board(self.board or boards.USUAL)
        episodes, queries, answers = board_labels.records(board_labels.read(self.source, world), self.prefix)
        with open_folder(self.folder, make=True, place=self.store) as store:
            boards.check_board(store, world)
            store.episodes.save(episodes)
            store.add_queries(queries)
            store.add_answers(answers)
        if uneven := sum(len({len(part) for part in query.segments}) > 1 for query in queries):
            say(f"warning: {uneven} questions compare walks of unequal length: length can pass for preference")
        print(f"{self.folder}: {len(episodes)} walks, {len(queries)} questions, {len(answers)} answers")
        return 0

    def _recordings(self) -> int:
        from tqdm import tqdm

        from embodied import human_labels, importers, pairs
        from rapport.data_folder import open_folder

        name = importers.name_of(self.source)
        path = importers.minari_file(self.source)
        columns = importers.read_arrays(path) if path.suffix == ".npz" else {}
        if self.labels is not None:
            arrays = columns or importers.read_arrays(path)
            steps = self.steps or human_labels.steps(self.labels)
            labels = human_labels.read(self.labels)
            joined = human_labels.join(
                labels, arrays, steps=steps, name=name, rows=self.rows, ends=self.ends, crossing=self.crossing
            )
            episodes, queries, answers = joined.episodes, joined.queries, joined.answers
            if joined.left_out:
                print(f"{joined.left_out} of {len(labels)} labels left out: a segment runs over the end of an episode")
        elif "target" in columns:
            episodes, queries, answers = pairs.read_pairs(path, name)
        else:
            episodes, queries, answers = None, [], []
        given = importers.read(self.source, ends=self.ends) if episodes is None else episodes
        with open_folder(self.folder, make=True, place=self.store) as store:
            lengths: list[int] = []
            for episode in tqdm(given, unit=" episodes", disable=None):
                store.episodes.save([episode])
                lengths.append(len(episode))
            store.add_queries(queries)
            store.add_answers(answers)
        print(
            f"{self.folder}: {len(lengths)} episodes, {sum(lengths)} steps, {len(queries)} questions, "
            f"{len(answers)} answers"
        )
        return 0


@dataclass(frozen=True)
class Export:
    """The answers of a study or a data folder as files for others, or its comparisons as arrays."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The study or data folder."""
    out: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT")]
    """What to write. NAME.jsonl or NAME.parquet: one row per answer. NAME/: a dataset folder for Hugging Face's
    datasets, with episodes and clips, from which the study goes on elsewhere. NAME.npz: pairs of segments, as arrays
    that numpy alone can read (obs, act, mask, target, weight, annotator, source, query, episode, start)."""
    format: Format = None
    """What OUT is to be, whatever its name: jsonl, parquet, hf (the folder) or npz."""
    gold: bool = True
    """With the questions whose answer is known; they are marked."""
    names: Flag = False
    """Annotators by their names, not as p1, p2, ... (pairs always have the names)."""
    notes: Flag = False
    """With what people wrote beside their answers, which may say who they are."""
    store: Address = None
    """Where DIR keeps its answers, if in PostgreSQL (postgresql://...)."""

    def __call__(self) -> int:
        from embodied.importers import DataError
        from embodied.pairs import write_pairs
        from rapport.data_folder import open_folder

        out, format = Path(self.out), self.format or _format(self.out)
        if format != "npz":
            from rapport.study.command import export

            told = export(self.folder, out, format, self.store, gold=self.gold, names=self.names, notes=self.notes)
            print(told)
            return 0
        if self.names or self.notes or not self.gold:
            raise DataError("--names, --notes, --no-gold are not for pairs; leave them out, or give another format")
        with open_folder(self.folder, place=self.store) as store:
            count = write_pairs(out, store.queries(), store.answers())
        print(f"{out}: {count} pairs")
        return 0


def _format(out: str) -> str:
    from embodied.importers import DataError

    suffix = Path(out).suffix
    if out.endswith("/") or not suffix:
        return "hf"
    if suffix not in (".jsonl", ".parquet", ".npz"):
        raise DataError(f"{out}: what is {suffix}? end it in .jsonl, .parquet, .npz or /, or give --format")
    return suffix[1:]


@dataclass(frozen=True)
class Inspect:
    """What a data folder holds, with warnings; or what people said in label files, with intervals."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    """A data folder, a label file (.csv), or a folder of label files."""
    json: Flag = False
    """Print one JSON object instead."""
    plot: Given = None
    """Draw the tie rates of label files into this picture."""

    def __call__(self) -> int:
        files = sorted(self.path.glob("*.csv")) if self.path.is_dir() else [self.path] * (self.path.suffix == ".csv")
        if files:
            from embodied.human_labels import rates, read

            labels = {path.stem: read(path) for path in files}
            found = [rates(name, said) for name, said in labels.items()]
            if len(found) > 1:
                found.append(rates("all", [label for said in labels.values() for label in said]))
            if self.plot is not None:
                draw_rates(found, self.plot)
            print(json_format.dumps([asdict(r) for r in found]) if self.json else "\n".join(table(found)))
            return 0
        from rapport.data_folder import look

        seen = look(self.path)
        print(json_format.dumps(asdict(seen)) if self.json else "\n".join(seen.lines()))
        return 0


@dataclass(frozen=True)
class Validate:
    """Open every file of a data folder and look up every segment (exit code 1 and the list, if something is wrong)."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The data folder."""

    def __call__(self) -> int:
        from rapport.data_folder import problems

        found = problems(self.folder)
        print(*(found or [f"{self.folder}: sound"]), sep="\n")
        return 1 if found else 0


@dataclass(frozen=True)
class Data:
    """Import, export, inspect or validate recordings and answers."""

    what: Annotated[
        Annotated[Import, tyro.conf.subcommand("import")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[Validate, tyro.conf.subcommand("validate")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> int:
        return self.what()


def table(found: list[Rates]) -> list[str]:
    """One line per label file: counts, the tie rate and the first's share of decided answers, with 95 % intervals."""

    def percent(rate: float, interval: tuple[float, float]) -> str:
        return f"{100 * rate:5.1f} [{100 * interval[0]:4.1f}, {100 * interval[1]:4.1f}]"

    lines = [f"{'set':26} {'first':>5} {'second':>6} {'tie':>5}   {'ties, %':18}   first of decided, %"]
    for r in found:
        ties, bias = percent(r.tie_rate, r.tie_interval), percent(r.first_rate, r.first_interval)
        lines.append(f"{r.name:26} {r.first:5} {r.second:6} {r.tie:5}   {ties}   {bias}")
    return lines


def draw_rates(found: list[Rates], path: Path) -> None:
    """Tie rates and the first's share of decided answers with their intervals, one row per label file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.28 * len(found) + 1), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [r.name for r in found]
    for axes, title, pairs in (
        (left, "ties, %", [(r.tie_rate, r.tie_interval) for r in found]),
        (right, "the first preferred, % of decided", [(r.first_rate, r.first_interval) for r in found]),
    ):
        for row, (rate, (low, high)) in enumerate(pairs):
            axes.plot([100 * low, 100 * high], [row, row], color="tab:blue")
            axes.plot([100 * rate], [row], "o", color="tab:blue", markersize=4)
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 100)
        axes.grid(axis="x", alpha=0.3)
    right.axvline(50, color="black", linewidth=0.8)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
