"""One run about videos in one folder: film, ask, learn the reward, act on it. A part is whole, or made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied.feedback import spent
from embodied.records import Array
from embodied.video_methods import UNASKED
from human_ui import study
from human_ui.site import TERMS
from policies import film_reward
from policies.encoders import embed
from policies.film_reward import FilmReward
from rapport.console import Clock, say
from rapport.data_folder import doubts
from rapport.run import machine, read_json, run_folder, write_json
from rapport.train.people import Asking, erased, kept
from rapport.visual import acting, pool, rewards
from rapport.visual.asking import Source, from_people, from_teacher
from rapport.visual.folder import POOL, REWARD, Brought, brought, keep
from rapport.visual.pool import Video
from rapport.visual.questions import (
    Rankings,
    TooFewVideos,
    episode,
    finals,
    learned_from,
    question,
    simulated,
    triplets,
    winners,
)
from rapport.visual.settings import USUAL, Settings

FEATURES, CLIPS = "features", "clips"


@dataclass(frozen=True, eq=False)
class Show:
    """What one is told while it works. doing: what takes more than a moment. progress: environment steps. total: how
    many there are, once it is known. told: a row for every session. says: sentences. looks(open, people): how it stands
    with the people who are asked."""

    doing: Callable[[str], object] = lambda what: None
    progress: Callable[[int], object] = lambda n: None
    total: Callable[[int], object] = lambda n: None
    told: Callable[[dict[str, Any]], object] = lambda row: None
    says: Callable[[str], object] = say
    looks: Callable[[int, int], object] = lambda questions, people: None


def learn_from_videos(
    settings: Settings, folder: Path | str, *, ask: Asking | None = None, cache: Path | None = None, show: Show = Show()
) -> dict[str, Any]:
    """Runs what `folder` has not finished of the run, and returns its result. Torch is set to one thread.

    ask: a study whose people rank the videos, instead of a simulated person who knows the environment's own return.
    cache: where trunks that are learned are kept, for other runs too; by default the run's folder. Raises ValueError
    for settings that cannot work, SpaceError, RunError, TrunkError, NotFinite; the same call goes on.
    """
    folder = Path(folder)
    _check(settings, ask)
    torch.set_num_threads(1)  # networks this small are slower on two
    mine = brought(settings, folder)
    settings = replace(settings, frames=_frames(settings, mine.reward))
    if settings.asks:
        _first(settings, mine)
        if settings.reward == "cycles" and len(mine.demos) == 1:
            raise ValueError(f"{settings.demos} holds one demonstration, and cycles lead through another: give two.")
    config: dict[str, Any] = asdict(settings)
    if ask:
        ask.check()
        run, want = ask.named(folder), kept(folder, "want", study.load(ask.study / TERMS).want)
        config["asked"] = {"study": str(ask.study.resolve()), "run": run, "want": want, "kind": "rank"}
    show.doing("trying the environment")
    where = acting.place(settings) if settings.env else None
    with run_folder(folder, config):
        clock = Clock(folder / "seconds.json")
        keep(mine, folder)
        reward = mine.reward
        paid = settings.reward if reward is None else reward.kind
        result: dict[str, Any] = {"env": settings.env, "method": paid, "seed": settings.seed}
        if settings.asks:
            reward, learned = _learned(settings, folder, where, mine, ask, config, cache or folder, show)
            result |= learned
        clock.save()
        if where is not None:
            acted = _acted(settings, folder, where, reward, show)
            result |= {**acted, "warnings": [*result.get("warnings", ()), *acted["warnings"]]}
        result |= {"seconds": round(clock.save(), 1), "machine": machine()}
        if not (folder / "result.json").exists():
            write_json(folder / "result.json", result)
        return dict(read_json(folder / "result.json"))


def _check(settings: Settings, ask: Asking | None) -> None:
    if settings.asks and settings.videos and ask is None:
        raise ValueError(f"Nobody knows which videos of {settings.videos} are good: give a study, whose people say.")
    if ask and not settings.asks:
        raise ValueError("This run asks nobody: leave --ask out.")
    if settings.videos and settings.demos and Path(settings.videos).resolve() == Path(settings.demos).resolve():
        raise ValueError(f"{settings.demos} holds the demonstrations and what is asked about: give two folders.")


def _frames(settings: Settings, reward: FilmReward | None) -> int:
    """Pictures of an episode: a reward is paid for films such as it was learned from."""
    if reward is not None and settings.frames not in (0, reward.frames):
        raise ValueError(
            f"{settings.frames} pictures of an episode, and the reward of {settings.reward_from} was learned from "
            f"{reward.frames}: leave the number out."
        )
    return settings.frames or (USUAL if reward is None else reward.frames)


def _first(settings: Settings, mine: Brought) -> tuple[Array, int]:
    """(the videos of the first questions, int [n,3]; how many follow). Raises TooFewVideos."""
    last = 0 if mine.demos else finals(settings.answers)
    among = len(mine.videos) if settings.videos else settings.pool
    return triplets(among, settings.answers - last, np.random.default_rng([settings.seed, 5])), last


def _learned(
    settings: Settings,
    folder: Path,
    where: acting.Place | None,
    mine: Brought,
    ask: Asking | None,
    config: Mapping[str, Any],
    cache: Path,
    show: Show,
) -> tuple[FilmReward, dict[str, Any]]:
    """The reward, made or found in the folder, and what is to be said of it."""
    kept = folder / "learned.json"
    if kept.exists():
        return film_reward.load(folder / REWARD), read_json(kept)
    show.doing("filming")
    videos = mine.videos or _filmed(settings, folder, where, show)
    demos, (groups, last) = mine.demos, _first(settings, mine)
    show.doing("learning to see")
    eyes = mine.trunk or rewards.trunk(settings, videos, cache)
    seen = embed(eyes, [video.frames for video in videos], folder / FEATURES)
    asked = config.get("asked", {})
    show.doing("asking")
    with _source(settings, folder, ask, asked, config, videos, show) as source:
        best, said, told = _asked(settings, source, videos, seen, groups, last)
        by_name = dict(zip((v.name for v in videos), seen, strict=True))
        shown = embed(eyes, [d.frames for d in demos], folder / FEATURES) or [by_name[name] for name in best]
        names = [d.name for d in demos] or best
    show.doing("learning the reward")
    done = {video.name: video.act for video in videos}
    known = rewards.Seen(seen, shown, [d.act for d in demos] or [done[name] for name in best])
    assert settings.reward != "true"
    model = rewards.fit(settings.reward, known, said.said, settings.seed)
    found = FilmReward(eyes, model, settings.reward, settings.frames, rewards.scale(model, seen))
    agreed = rewards.agreement(settings.reward, known, said, settings.seed)
    found.save(folder / REWARD)
    if (apart := _different(seen)) < (drawn := _different([video.frames for video in videos])):
        told["warnings"].append(
            f"To the trunk only {apart} of {drawn} different videos differ, so the others are worth the same: give "
            "another --trunk."
        )
    worth = {video.name: float(w) for video, w in zip(videos, found.worths(seen), strict=True)}
    if rewards.alike(np.array([*worth.values()])):
        told["warnings"].append(
            f"All {len(worth)} videos are worth the same, so nothing can be learned from this reward: see whether they "
            "differ, give another --trunk, or ask more."
        )
    told |= {
        "demos": names,
        "demos_from": settings.demos or "the best of what was ranked",
        "agreement": [_number(x) for x in (agreed.share.value, agreed.share.low, agreed.share.high)],
        "agreement_rankings": agreed.rankings,
        "agreement_questions": agreed.questions,
        "worth": worth,
        "correlation": _correlation(videos, worth),
    }
    write_json(kept, told)
    return found, told


def _filmed(settings: Settings, folder: Path, where: acting.Place | None, show: Show) -> list[Video]:
    assert where is not None
    total = settings.pool
    told = lambda k: show.doing(f"filming {k} of {total}")  # noqa: E731
    return pool.film(lambda: where.filmed(None), where.limit, total, settings.seed, folder / POOL, told)


@contextmanager
def _source(
    settings: Settings,
    folder: Path,
    ask: Asking | None,
    asked: Mapping[str, Any],
    config: Mapping[str, Any],
    videos: Sequence[Video],
    show: Show,
) -> Iterator[Source]:
    known = {video.name: video for video in videos}
    if ask is None:
        deviation = float(np.std([video.own.sum() for video in videos]))
        teacher = simulated(settings, lambda id: known[id].own, deviation)
        with from_teacher(folder, teacher, settings.teacher) as source:
            yield source
        return
    run = asked["run"]
    film = lambda id: known[id.removeprefix(f"{run}-")].frames  # noqa: E731
    with from_people(ask, run, asked["want"], config, film, show.says, show.looks) as source:
        yield source


def _asked(
    settings: Settings, source: Source, videos: Sequence[Video], seen: Sequence[Array], groups: Array, last: int
) -> tuple[list[str], Rankings, dict[str, Any]]:
    """The names of the best videos, the rankings to learn from, and the account of what was asked. groups int [n,3]:
    which videos are asked about first; last: how many questions follow, about those that won."""
    episodes = [episode(source.run, v.name, f, v.own) for v, f in zip(videos, seen, strict=True)]
    source.store.episodes.save(episodes)
    known = {one.id: one for one in episodes}
    first = [question(source.run, 0, n, [episodes[i] for i in three]) for n, three in enumerate(groups)]
    said, queries = source.ask(0, first), first
    best: list[str] = []
    if last:
        won = list(dict.fromkeys(winners(said, first).values()))
        rounds = [won[k : k + 3] for k in range(0, 3 * min(last, len(won) // 3), 3)]
        ends = [question(source.run, 1, n, [known[id] for id in three]) for n, three in enumerate(rounds)]
        if ends:
            said, queries = source.ask(1, ends), [*first, *ends]
        best = list(dict.fromkeys(winners(said, ends).values())) or won[:last]
        if not best:
            raise ValueError(
                f"None of the {len(first)} questions was answered, so there is nothing to learn, and no demonstration: "
                "give videos that can be told apart, or --demos, or ask others in another --out."
            )
        if settings.reward == "cycles" and len(best) == 1:
            raise TooFewVideos(
                f"Of {len(queries)} questions one demonstration came, and cycles lead through another: ask more about "
                f"more videos than {len(videos)}, or give demonstrations with --demos, in another --out."
            )
    rest = learned_from(said, queries, best)
    looks = settings.reward not in UNASKED
    if looks and not len(rest.of):
        raise TooFewVideos(
            f"Of {len(queries)} questions about {len(videos)} videos none is left to learn from: they were skipped, or "
            "show a demonstration. Ask more, give more videos, or demonstrations of their own with --demos."
        )
    warnings = list(doubts(said, queries))
    if source.gave_up():
        warnings.append("Nobody answered for so long that the run went on with what had been said.")
    if source.run and (gone := erased(source.store, source.run, 1 + bool(last))):
        warnings.append(f"{source.run} is no longer replayable: {gone} answers erased.")
    prefix = f"{source.run}-" if source.run else ""
    return (
        [id.removeprefix(prefix) for id in best],
        rest,
        {
            "budget": asdict(spent(said, queries)),
            "learned_from": looks * len(rest.of),  # rankings: several people rank the same question
            "questions_learned_from": looks * len(set(rest.of.tolist())),
            "warnings": warnings,
        },
    )


def _acted(
    settings: Settings, folder: Path, where: acting.Place, reward: FilmReward | None, show: Show
) -> dict[str, Any]:
    show.doing("training")
    began = time.perf_counter()
    agent, rows, paid = acting.act(
        where, settings, reward, folder, progress=show.progress, told=show.told, total=show.total
    )
    seconds = time.perf_counter() - began
    if reward is not None:
        acting.keep_clips(agent.act, where, folder / CLIPS)
    chance = acting.looked_at(acting.at_random(where, settings), where, settings, None)
    warnings = list(where.plain.checked.warnings)
    if not paid.checked.exact:
        warnings.append(
            f"{settings.env} cannot tell its whole state: a resumed run begins new episodes, and its figures differ "
            "from an uninterrupted one's."
        )
    return {
        "return_before": rows[0]["return"],
        "return_after": rows[-1]["return"],
        "returns_after": rows[-1]["returns"],
        "return_at_random": chance["return"],
        "success_after": rows[-1]["success"],
        "worth_after": rows[-1]["worth"],
        "steps": rows[-1]["steps"],
        "acting_seconds": round(seconds, 1),
        "exact": paid.checked.exact,
        "warnings": warnings,
    }


def _correlation(videos: Sequence[Video], worth: Mapping[str, float]) -> float | None:
    """Spearman's, of what the videos are worth with their own returns, where these are known and differ."""
    from scipy.stats import spearmanr

    own = np.array([video.own.sum() for video in videos])
    mine = np.array([worth[video.name] for video in videos])
    if not np.isfinite(own).all() or np.ptp(own) == 0 or np.ptp(mine) == 0:
        return None
    return float(spearmanr(own, mine).statistic)


def _different(videos: Sequence[Array]) -> int:
    return len({sha256(np.ascontiguousarray(video).tobytes()).digest() for video in videos})


def _number(x: float) -> float | None:
    return None if x != x else x
