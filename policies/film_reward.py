"""A reward of whole videos as files: a trunk, what was learned on its features, and in what units it is paid.

It knows nothing of the environment that it was learned in. So what people said about videos of one robot can be paid
to another: load it, and film the other (`policies.filmed`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError

from embodied import atomic
from embodied.rapl import Head, Matching, Rapl
from embodied.video_rewards import FrameNet, VideoNet
from embodied.videos import padding
from policies import encoders
from policies.encoders import FrozenTrunk, embed

Array = npt.NDArray[Any]
Model = Rapl | FrameNet | VideoNet
ABOUT, WEIGHTS, TRUNK = "reward.json", "reward.safetensors", "trunk.safetensors"


class RewardFileError(ValueError):
    """A saved reward that cannot be used; the sentence names the file and the mend."""


@dataclass(frozen=True, eq=False)
class FilmReward:
    """kind: what it is called where it was learned. frames: pictures of an episode that it was learned from. scale:
    what is paid is the worth times it, so that videos such as those differ in it by a deviation of 1. Raises
    ValueError for a model of other features than the trunk's, and for impossible numbers."""

    trunk: FrozenTrunk
    model: Model
    kind: str
    frames: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.trunk.size != (wanted := _size(self.model)):
            raise ValueError(f"a trunk of {self.trunk.size} features, and a model of {wanted}; give those that belong")
        if self.frames < 1 or not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"{self.frames} frames and a scale of {self.scale}; give at least 1, and above 0")

    def worth(self, features: Array) -> float:
        """Of one video by its features, float [T,F]: more is better; for RAPL -W."""
        return float(self.worths([features])[0])

    def worths(self, features: Sequence[Array]) -> Array:
        """[N] of videos by their features, float [T,F] each."""
        return np.asarray(self.model.worth(*padding(features)).double().numpy())

    def __call__(self, videos: Sequence[Array], cache: Path | None = None) -> Array:
        """[N] of videos, uint8 [T,H,W,3] each."""
        return self.worths(embed(self.trunk, videos, cache))

    def save(self, folder: Path) -> None:
        """Three files, of which reward.json is the last: where it is, all are. Raises RewardFileError."""
        about = {"kind": self.kind, "frames": self.frames, "scale": self.scale, "trunk": self.trunk.fingerprint()}
        weights = {name: value.contiguous().clone() for name, value in self.model.state_dict().items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.trunk.save(folder / TRUNK)
            atomic.write(folder / WEIGHTS, safetensors.torch.save(weights))
            atomic.write(folder / ABOUT, json.dumps({**about, "model": _told(self.model)}, indent=1).encode())
        except OSError as error:
            raise RewardFileError(atomic.explain(error, folder)) from error


def load(folder: Path) -> FilmReward:
    """What `FilmReward.save` wrote. Raises RewardFileError where that is not there, or not whole."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        weights = safetensors.torch.load((folder / WEIGHTS).read_bytes())
        trunk = encoders.load(folder / TRUNK)
        model = _made(about["model"], weights)
        fits = trunk.fingerprint() == about["trunk"]
        found = FilmReward(trunk, model, str(about["kind"]), int(about["frames"]), float(about["scale"]))
        if not all(bool(torch.isfinite(x).all()) for x in model.state_dict().values()):
            raise ValueError("a number in it is not finite")
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RuntimeError, SafetensorError) as error:
        raise RewardFileError(
            f"{folder} holds no whole reward of videos ({type(error).__name__}: {error}); give a finished run, or the "
            "folder `reward` in it, or learn it again"
        ) from error
    if not fits:
        raise RewardFileError(f"{folder / TRUNK} is not the trunk that the reward was learned with; put that back")
    return found


def _size(model: Model) -> int:
    return model.head.size if isinstance(model, Rapl) else model.standard.size


def _told(model: Model) -> dict[str, Any]:
    """What has to be known to make it again, before its weights."""
    if isinstance(model, Rapl):
        dims = model.head.dims if len(model.head.net) else 0
        head = {"size": model.head.size, "dims": dims, "hidden": list(model.head.hidden)}
        return {"is": "rapl", "head": head, "demos": list(model.there.shape), "matching": asdict(model.matching)}
    net = {"size": model.standard.size, "hidden": list(model.hidden)}
    return {"is": "frames", **net, "total": model.total} if isinstance(model, FrameNet) else {"is": "video", **net}


def _made(told: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Model:
    model: Model
    if told["is"] == "rapl":
        head, (demos, steps) = Head(**told["head"]), told["demos"]
        model = Rapl(head, [np.zeros((steps, head.size), np.float32)] * demos, Matching(**told["matching"]))
    else:
        frames = np.zeros((2, told["size"]), np.float32)
        model = (
            FrameNet(frames, told["hidden"], total=told["total"])
            if told["is"] == "frames"
            else VideoNet(frames, told["hidden"])
        )
    model.load_state_dict(dict(weights))
    return model
