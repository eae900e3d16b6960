"""The day's episodes come back: journals into a study as questions that people are asked, and as answers they gave by
taking over or by stopping the arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import select

from embodied.episodes import Episode
from embodied.records import Query
from hardware.framed import JournalError
from hardware.to_episodes import export, own_terms
from human_ui import desk
from human_ui.clips import encode
from human_ui.site import Site
from human_ui.tables import OFFER
from rapport.robot.films import Film, seconds
from rapport.robot.interventions import stops, takeovers
from rapport.robot.queries import PREFIX, USUAL, Rules, Stretch, pairs, question, stretches


@dataclass(frozen=True)
class Brought:
    """left: journal -> why it is no episode. unseen: stretches of which there is no film. asked: questions about these
    journals that people can be given; made: of them, now. takeovers and stops: answers of these journals, those known
    before among them."""

    episodes: int
    left: Mapping[str, str]
    stretches: int
    unseen: int
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
    again. Raises EpisodeError, StoreError and ClipError as the study's folder does, what the film raises, and its
    JournalError only where it has nothing to show of any stretch.
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
    new, clips, unseen = _shown(site, fresh, n - len(before), episodes, film, seed)
    desk.offer(site.store, new, clips, want=site.study().want)
    asked = len(before) + len(new)
    if unseen and not asked:
        raise unseen[-1]
    return Brought(len(exported.ids), exported.left, len(found), len(unseen), asked, len(new), len(over), len(halted))


def _shown(
    site: Site, fresh: Sequence[Stretch], n: int, episodes: Mapping[str, Episode], film: Film, seed: int
) -> tuple[list[Query], dict[str, list[str]], list[JournalError]]:
    """Questions, the clips of each, and why stretches that would have been asked about cannot be shown: others are
    asked about in their place."""
    clips: dict[tuple[str, int, int], str] = {}
    hidden: dict[tuple[str, int], JournalError] = {}
    while True:
        seen = [one for one in fresh if (one.episode, one.start) not in hidden]
        new = [question(*pair, episodes) for pair in pairs(seen, n, np.random.default_rng(seed))]
        known = len(hidden)
        for s in (s for query in new for s in query.segments):
            key = s.episode, s.start, s.stop
            try:
                if key not in clips:
                    drawn = film(episodes[s.episode], s.start, s.stop)
                    lasts = seconds(episodes[s.episode], s.start, s.stop)
                    clips[key] = site.clips.put(encode(drawn, fps=len(drawn) / lasts)).sha256
            except JournalError as error:
                hidden[s.episode, s.start] = error
        if len(hidden) == known:
            of = {query.id: [clips[s.episode, s.start, s.stop] for s in query.segments] for query in new}
            return new, of, list(hidden.values())
