"""Trunks, frozen networks that make features of frames, and videos embedded by one, each once, kept on disk.

`soft_argmax.pretrain` and `timm_trunk.timm_trunk` make one; what has the three members of `Trunk` is one too.
"""

from __future__ import annotations

import fcntl
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import interpolate

from embodied import atomic

Frames = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
CHUNK = 64  # frames at a time, to bound memory


class TrunkError(ValueError):
    """Frames, weights or files that cannot be used; the sentence names the value and the mend."""


class Trunk(Protocol):
    """What turns frames into features. The same frames give the same features; `fingerprint` is another for another."""

    @property
    def size(self) -> int: ...

    def __call__(self, frames: Frames, /) -> Features:
        """uint8 [...,H,W,3] -> float32 [...,size]."""

    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False)
class FrozenTrunk:
    """A network that no longer learns. net: float [B,3,side,side] in [0,1] -> [B,size], on whatever device its weights
    are; settings rebuild it.

    Frames of another size or shape are resized to side x side (bilinear, antialiased, the aspect not kept).
    """

    net: nn.Module
    size: int
    side: int
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.net.eval().requires_grad_(False)
        for name, value in self.net.state_dict().items():
            if not torch.isfinite(value).all():
                raise TrunkError(f"weights {name} hold NaN or infinity; train or fetch them again")

    def __call__(self, frames: Frames, /) -> Features:
        """uint8 [...,H,W,3] -> float32 [...,size], no gradient. Raises TrunkError for what are no such frames."""
        flat = checked(frames).reshape(-1, *frames.shape[-3:])
        found = np.empty((len(flat), self.size), np.float32)
        device = next(iter(self.net.state_dict().values())).device
        with torch.inference_mode():
            for start in range(0, len(flat), CHUNK):
                some = resized(flat[start : start + CHUNK], self.side)
                found[start : start + CHUNK] = self.net(some.to(device).float() / 255).cpu().numpy()
        return found.reshape(*frames.shape[:-3], self.size)

    def fingerprint(self) -> str:
        """A hash of weights and settings, hexadecimal."""
        found = sha256(json.dumps([self.settings, self.size, self.side], sort_keys=True).encode())
        for name, value in sorted(self.net.state_dict().items()):
            found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            found.update(value.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """One safetensors file, the settings as JSON in its header. Raises TrunkError where it cannot be written."""
        about = {"size": self.size, "side": self.side, "settings": dict(self.settings)}
        weights = {name: value.contiguous().clone() for name, value in self.net.state_dict().items()}
        data = safetensors.torch.save(weights, {"trunk": json.dumps(about, sort_keys=True)})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(path, data)
        except OSError as error:
            raise TrunkError(atomic.explain(error, path)) from error


def load(path: Path) -> FrozenTrunk:
    """What `FrozenTrunk.save` wrote. Raises TrunkError for any other file, and for a damaged one."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("trunk", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise TrunkError(f"the trunk {path} cannot be read ({error}); make it again") from error
    if about is None:
        raise TrunkError(
            f"{path} holds weights, but no trunk; give what FrozenTrunk.save wrote, or timm_trunk(weights=)"
        )
    try:
        net = _net(about["settings"])
        net.load_state_dict(weights)
        side = int(about["side"])
        with torch.no_grad():
            size = net.eval()(torch.zeros(1, 3, side, side)).shape[-1]
        if size != about["size"]:
            raise KeyError(f"{size} features, and it says {about['size']}")
        return FrozenTrunk(net, size, side, about["settings"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise TrunkError(f"the trunk {path} is of another version of Rapport ({error}); make it again") from error


def _net(settings: Mapping[str, Any]) -> nn.Module:
    # Here, not above: each of the two imports this file, and timm takes a second to load.
    if settings["kind"] == "soft-argmax":
        from policies.soft_argmax import Streams

        return Streams(tuple(settings["channels"]), settings["streams"])
    if settings["kind"] == "timm":
        from policies.timm_trunk import built

        return built(settings)
    raise KeyError(f"kind {settings['kind']!r}")


def cached_trunk(folder: Path, key: Mapping[str, Any], make: Callable[[], FrozenTrunk]) -> FrozenTrunk:
    """The trunk made earlier under the same key, or a new one, kept for the next time.

    key: everything the trunk depends on, as JSON: the settings of `make`, and of the films it looks at. A file that
    cannot be read is made again. Who comes second, in another process, waits and takes what was made. Raises TrunkError
    for a folder that cannot be had.
    """
    path = folder / f"trunk-{sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        raise TrunkError(atomic.explain(error, folder)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a kill lets it go
        if path.exists():
            try:
                return load(path)
            except TrunkError:
                pass  # a copy cut short, or of an older version
        trunk = make()
        trunk.save(path)
        return trunk


def embed(trunk: Trunk, videos: Sequence[Frames], cache: Path | None = None) -> list[Features]:
    """The features of videos, uint8 [T,H,W,3] each -> float32 [T,size] each; T, H and W may differ.

    With a cache folder every video is embedded once per trunk, and a kill at any instant leaves no half file. Features
    of a video do not depend on those beside it. Raises TrunkError for what is no video, or a folder that cannot be had.
    """
    folder = None if cache is None else cache / trunk.fingerprint()[:16]
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrunkError(atomic.explain(error, folder)) from error
    return [_embedded(trunk, _video(i, video), folder) for i, video in enumerate(videos)]


def _video(i: int, video: Frames) -> Frames:
    try:
        checked(video)
    except TrunkError as error:
        raise TrunkError(f"video {i}: {error}") from None
    if video.ndim != 4 or not len(video):
        raise TrunkError(f"video {i} is {list(video.shape)}; give frames [T,H,W,3], at least one")
    return video


def _embedded(trunk: Trunk, video: Frames, folder: Path | None) -> Features:
    if folder is None:
        return trunk(video)
    shape = str(video.shape).encode()
    path = folder / f"{sha256(shape + np.ascontiguousarray(video).tobytes()).hexdigest()[:32]}.npy"
    if path.exists():
        try:
            kept: Features = np.load(path, allow_pickle=False)
            if kept.shape == (len(video), trunk.size) and kept.dtype == np.float32:
                return kept
        except (ValueError, EOFError):
            pass  # not a file of ours, or a disk that lost some of it: made again
    found = trunk(video)
    file = io.BytesIO()
    np.save(file, found, allow_pickle=False)
    try:
        atomic.write(path, file.getvalue())
    except OSError as error:
        raise TrunkError(atomic.explain(error, path)) from error
    return found


def checked(frames: object) -> Frames:
    """The frames as they are, uint8 [...,H,W,3]. Raises TrunkError, which says what they are and what to do."""
    if not isinstance(frames, np.ndarray):
        raise TrunkError(f"frames are a {type(frames).__name__}; give a numpy array, uint8 [...,H,W,3]")
    what = f"frames are {frames.dtype} {list(frames.shape)}"
    if frames.dtype != np.uint8:
        bad = int((~np.isfinite(frames)).sum()) if np.issubdtype(frames.dtype, np.floating) else 0
        lost = f", {bad} of the numbers NaN or infinite" if bad else ""
        raise TrunkError(
            f"{what}{lost}; give uint8 from 0 to 255: (255 * x).round().astype(numpy.uint8) if x is in [0,1]"
        )
    if frames.ndim >= 3 and frames.shape[-1] == 3 and min(frames.shape[-3:-1]) > 0:
        return frames
    if frames.ndim >= 3 and frames.shape[-3] == 3:
        mend = "the colours come first: give numpy.moveaxis(frames, -3, -1)"
    elif frames.ndim >= 3 and frames.shape[-1] == 4:
        mend = "the fourth channel is opacity: give frames[..., :3]"
    elif frames.ndim >= 3 and frames.shape[-1] == 1:
        mend = "they are grey: give frames.repeat(3, -1)"
    else:
        mend = "give [...,H,W,3]: height, width, and red, green and blue"
    raise TrunkError(f"{what}; {mend}")


def resized(frames: Frames, side: int) -> Tensor:
    """uint8 [B,H,W,3] -> uint8 [B,3,side,side]."""
    found = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if found.shape[-2:] == (side, side):
        return found
    return interpolate(found.float(), (side, side), mode="bilinear", antialias=True).round().to(torch.uint8)
