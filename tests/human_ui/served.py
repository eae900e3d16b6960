"""A study with clips, served as `rapport ask` serves it."""

import os
from pathlib import Path

import numpy as np

from embodied.episodes import Episode, cut
from embodied.records import Query
from human_ui import desk
from human_ui.clips import encode
from human_ui.site import TERMS

WIDTH, HEIGHT, FPS = 160, 120, 20


def clip(number, steps=20, codec="vp9"):
    """A bright square goes over a ground whose colour tells the clips apart; its place tells the frame."""
    frames = np.zeros((steps, HEIGHT, WIDTH, 3), np.uint8)
    frames[:] = (40 + 29 * number % 160, 60, 200 - 23 * number % 160)
    for t in range(steps):
        frames[t, 40:80, 6 * t : 6 * t + 20] = 250
    return encode(frames, fps=FPS, codec=codec)


def make_study(folder, terms='name = "Cups"\n'):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TERMS).write_text(terms)
    return folder


def ask(site, n, kind="compare", k=2, prefix="q", anchor=False, **kwargs):
    """n queries of k clips each."""
    episodes = site.store.episodes
    queries, clips = [], {}
    for i in range(n):
        made = [
            Episode(f"{prefix}{i}-{j}", np.full((20, 1), i + 0.1 * j), np.zeros((20, 1))) for j in range(k + anchor)
        ]
        episodes.save(made)
        parts = tuple(cut(episode, 0, 20) for episode in made)
        queries.append(Query(f"{prefix}{i}", parts[:k], kind, anchor=parts[k] if anchor else None))
        clips[f"{prefix}{i}"] = [site.clips.put(clip(i * 5 + j)).sha256 for j in range(k + anchor)]
    desk.offer(site.store, queries, clips, want=kwargs.pop("want", 1), **kwargs)


SHOTS = Path(os.environ.get("SHOTS", "/nonexistent"))


def shot(page, name):
    """A picture for whoever looks, where the environment variable SHOTS names a folder."""
    if SHOTS.is_dir():
        page.screenshot(path=SHOTS / f"{name}.png")
