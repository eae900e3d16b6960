"""Rewards from videos: what is filmed, asked, learned, and acted on. `rapport train --reward` and `--videos`."""

from policies.film_reward import FilmReward, load
from rapport.visual.settings import Settings
from rapport.visual.training import learn_from_videos

__all__ = ["FilmReward", "Settings", "learn_from_videos", "load"]
