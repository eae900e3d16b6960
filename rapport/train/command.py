"""`rapport train`: a run from the command line, from the first question to the report."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from embodied import checkpoint
from human_ui import study
from human_ui.site import TERMS
from rapport.console import say, working
from rapport.offline import Settings as OfflineSettings
from rapport.offline import offline
from rapport.run import read_json
from rapport.train.methods import METHODS, by_regret, contrast
from rapport.train.people import Asking
from rapport.train.settings import Settings
from rapport.train.training import train
from rapport.visual import command as visual

if TYPE_CHECKING:
    from rapport.cli import Train


def settings_of(options: Train, env: str) -> Settings:
    method = METHODS[options.method]()
    if options.preference == "cpl":
        if options.method != "pebble":
            raise ValueError(
                f"--method {options.method} makes a reward, and --preference cpl learns without one: leave one of them "
                "out."
            )
        method = contrast()
    elif options.preference == "regret":
        method = by_regret(method)
    if options.select is not None:
        method = replace(method, select=options.select)
    return Settings(
        env=env,
        method=method,
        answers=options.answers if method.reward != "true" else 0,
        steps=options.steps,
        seed=options.seed,
        teacher=options.teacher,
        tie_rate=options.tie_rate,
        judged_by=options.judged_by,
        expert="" if options.expert is None else str(options.expert),
        sessions=options.sessions,
        schedule=options.schedule,
        recent=options.recent,
        clip=options.clip,
        copies=options.copies,
        horizon=options.horizon,
        algorithm=options.algorithm,
        rate=options.rate,
    )


def asking_of(options: Train) -> Asking | None:
    """Raises ValueError for flags of which one makes the other meaningless, and where there is no study."""
    given = {f.name: getattr(options, f.name) != f.default for f in fields(options)}
    if options.ask is None:
        if wrong := [f"--{name}" for name in ("store", "run", "patience", "kind") if given[name]]:
            raise ValueError(f"{', '.join(wrong)} say how people are asked: give --ask STUDY too, or leave them out.")
        return None
    if wrong := [
        f"--{name.replace('_', '-')}" for name in ("teacher", "tie_rate", "judged_by", "expert") if given[name]
    ]:
        raise ValueError(f"{', '.join(wrong)} are of a simulated teacher, and --ask asks people: leave them out.")
    if given["clip"]:
        raise ValueError(
            f"--clip is {options.clip}, and with --ask the study says how long clips are: set clip_seconds and fps in "
            f"{options.ask / TERMS}, one step a frame."
        )
    asking = Asking(options.ask, options.store, options.run or "", options.patience, options.kind)
    asking.check()
    return asking


def with_clips_of(settings: Settings, terms: study.Study, folder: Path) -> Settings:
    """Clips as long as the study has them, or had them when the run began."""
    config = folder / "config.json"
    steps = max(1, round(terms.clip_seconds * terms.fps))
    return replace(settings, clip=read_json(config).get("clip", steps) if config.exists() else steps)


def default_folder(settings: Settings, asking: Asking | None = None) -> Path:
    """One folder per setting that is often changed; others are refused by the folder itself."""
    env = re.sub(r"[^A-Za-z0-9._-]+", "-", settings.env)
    parts = ["train", env, settings.method.name, f"seed{settings.seed}", f"{settings.answers}answers"]
    parts += [f"asked-{asking.study.resolve().name}"] if asking else []
    return Path("runs") / "-".join(parts)


def command(options: Train) -> int:
    if visual.about_videos(options):
        return visual.command(options)
    if (options.env is None) == (options.data is None):
        given = "both" if options.env else "none"
        raise ValueError(f"--env names an environment and --data a folder, and {given} of them is given: give one.")
    return online(options, options.env) if options.env else off_line(options, options.data)  # type: ignore[arg-type]


OFF_LINE = ("env", "data", "preference", "steps", "seed", "bounds", "out", "json")
"""What a folder of data asks of the options: there nobody is asked and nothing moves."""


def off_line(options: Train, data: Path) -> int:
    """A reward and a policy from a folder of episodes and answers alone."""
    given = [f.name for f in fields(options) if f.name not in OFF_LINE and getattr(options, f.name) != f.default]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{flags} say how an environment is trained on, and --data has none: leave them out.")
    if options.preference == "cpl":
        raise ValueError(
            "--preference cpl learns a policy from answers alone, which is what this does: "
            f"rapport align --data {data} --method cpl"
        )
    regret = "-regret" if options.preference == "regret" else ""
    out = options.out or Path("runs") / f"train-{data.name}-offline{regret}-seed{options.seed}"
    with tqdm(total=options.steps, unit=" steps", unit_scale=True, file=sys.stderr, dynamic_ncols=True) as bar:
        learned = offline(
            data,
            out,
            OfflineSettings(
                seed=options.seed,
                steps=options.steps,
                low=options.bounds[0],
                high=options.bounds[1],
                preference=options.preference,
            ),
            progress=lambda done: bar.update(done - bar.n),
        )
    counted, agreement = learned.result["data"], learned.result["reward"]["agreement"]
    for warning in counted["warnings"]:
        say(f"Note: {warning}")
    if options.json:
        print(json.dumps(learned.result))
        return 0
    answers = f"{counted['budget']['answered']} answers"
    told = (
        f"{answers}, all ties"
        if agreement is None
        else f"{answers}; the reward agrees with {agreement:.1%} of the decided"
    )
    print(f"\n{counted['episodes']} episodes, {told}")
    print(f"reward and policy in {out}, {options.steps} steps of implicit Q-learning")
    return 0


def online(options: Train, env: str) -> int:
    if options.bounds != (-1.0, 1.0):
        raise ValueError("--bounds are of the actions in --data; an environment tells its own: leave them out.")
    asking = asking_of(options)
    settings = settings_of(options, env)
    folder = options.out or default_folder(settings, asking)
    if asking:
        settings = with_clips_of(settings, study.load(asking.study / TERMS), folder)
    if (folder / "result.json").exists():
        say(f"{folder} is finished: this is what it found. Another --out makes a new run.")
    elif done := checkpoint.latest(folder / "checkpoints"):
        say(f"{folder}: going on after round {done}" + ("." if asking else f" of {settings.sessions + 1}."))
    whose = "own" if asking else "true"  # what people want is not known
    with tqdm(
        total=settings.steps, unit=" steps", unit_scale=True, file=sys.stderr, mininterval=0.5, dynamic_ncols=True
    ) as bar:

        def told(row: dict[str, Any]) -> None:
            bar.update(max(0, row["steps"] - bar.n))
            now = f", {row['open']} questions open, {row['people']} people answer" if asking else ""
            bar.set_postfix_str(f"{row['answers']} answers{now}, {whose} return {row['return']:.4g}")

        trained = train(
            settings,
            folder,
            ask=asking,
            progress=bar.update,
            told=told,
            doing=bar.set_description_str,
            says=lambda text: tqdm.write(text, file=sys.stderr),
        )
    with working("writing the report"):
        from rapport.train.report import write_report

        report = write_report(folder)
    result = trained.result
    for warning in result["warnings"]:
        say(f"Note: {warning}")
    if options.json:
        print(json.dumps(summary(result)))
        return 0
    spent = result["budget"]
    print(f"\n{settings.env}, {settings.method.name}, {settings.episodes} episodes that nothing was learned from:")
    before, after = (f"{result[f'return_{when}']:.4g}" for when in ("before", "after"))
    print(f"{whose} return {before} before, {after} after {result['steps']} steps")
    print(
        f"{spent['asked']} questions: {spent['answered']} answered ({spent['ties']} ties), {spent['skipped']} skipped; "
        f"{result['seconds']:.0f} s. Look at it: {report}"
    )
    return 0


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What --json prints."""
    keys = ("env", "method", "seed", "return_before", "return_after", "steps", "seconds", "exact", "warnings")
    return {**{k: result[k] for k in keys}, **result["budget"]}
