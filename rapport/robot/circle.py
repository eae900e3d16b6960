"""The day's episodes come back: journals into a study as questions that people are asked, and as answers they gave by
taking over or by stopping the arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import select

from hardware.to_episodes import export, own_terms
from human_ui import desk
from human_ui.clips import encode
from human_ui.site import Site
from human_ui.tables import OFFER
from rapport.robot.films import Film, seconds
from rapport.robot.interventions import stops, takeovers
from rapport.robot.queries import PREFIX, USUAL, Rules, pairs, question, stretches


@dataclass(frozen=True)
class Brought:
    """left: journal -> why it is no episode. asked: questions about these journals that people can be given; made: of
    them, now. takeovers and stops: answers of these journals, those known before among them."""

    episodes: int
    left: Mapping[str, str]
    stretches: int
    asked: int
    made: int
    takeovers: int
    stops: int


def bring_back(
    site: Site,
    journals: Iterable[Path],
    film: Film,
    n: int,
    rules: Rules = USUAL,
    seed: int = 0,
    own: bool = False,
) -> Brought:
    """Puts up to n questions about these journals into a study, with clips, and what people did to the arm as answers.

    own: segments whose actions are what the policy said in its own terms, not joint commands, so that `rapport align`
    can align that very policy; a takeover is then no answer, for a human says nothing in those terms.

    Done again it changes nothing, whenever it was killed before; a stretch that was asked about is not asked about
    again. Raises EpisodeError, StoreError and ClipError as the study's folder does, and what the film raises.
    """
    exported = export(journals, site.store.episodes)
    episodes = {id: site.store.episodes.load(id) for id in exported.ids}
    if own:
        episodes = {part.id: part for whole in episodes.values() for part in own_terms(whole)}
        site.store.episodes.save(episodes.values())
    over, halted = ([d for e in episodes.values() for d in of(e, rules)] for of in (takeovers, stops))
    site.store.add_queries([done.query for done in (*over, *halted)])
    site.store.add_answers([done.answer for done in (*over, *halted)])
    found = [one for episode in episodes.values() for one in stretches(episode, rules)]
    with site.store.read() as connection:
        offered = set(connection.execute(select(OFFER.c.query)).scalars())
    before = [
        query
        for query in site.store.queries(prefix=f"{PREFIX}pair-")
        if query.id in offered and any(s.episode in episodes for s in query.segments)
    ]
    used = {(s.episode, s.start) for query in before for s in query.segments}
    fresh = [one for one in found if (one.episode, one.start) not in used]
    new = [question(*pair, episodes) for pair in pairs(fresh, n - len(before), np.random.default_rng(seed))]
    clips: dict[str, list[str]] = {}
    for query in new:
        for s in query.segments:
            drawn, lasts = film(episodes[s.episode], s.start, s.stop), seconds(episodes[s.episode], s.start, s.stop)
            clip = site.clips.put(encode(drawn, fps=len(drawn) / lasts))
            clips.setdefault(query.id, []).append(clip.sha256)
    desk.offer(site.store, new, clips, want=site.study().want)
    asked = len(before) + len(new)
    return Brought(len(exported.ids), exported.left, len(found), asked, len(new), len(over), len(halted))
