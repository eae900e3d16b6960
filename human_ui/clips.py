"""Clips that people watch: frames as a video that browsers play and seek, and a folder that keeps each one once.
Texts that people read are kept beside them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from embodied import atomic

KEY_EVERY = 10  # frames; a browser then shows any frame that is asked for within 25 ms
MAX_SIDE = 4096  # pixels
FPS = (0.1, 240.0)

Codec = Literal["h264", "vp9"]
Frame = NDArray[np.uint8]

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Without these two, the colours depend on the processor's instruction set, and each row of chroma on one of its two.
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
TEXT = "text/plain; charset=utf-8"
MAX_BYTES = 1 << 20  # of a text
_MEDIA = {("mov,mp4,m4a,3gp,3g2,mj2", "h264"): "video/mp4", ("matroska,webm", "vp9"): "video/webm"}


class ClipError(ValueError):
    """A clip that cannot be made, kept or read; the sentence names the value and the mend."""


@dataclass(frozen=True)
class Clip:
    """What is known of a clip: its name, the sha256 of its bytes, and what a player needs. `width` and `height` in
    pixels, both even; `fps` in frames a second."""

    sha256: str
    media_type: str
    frames: int
    fps: float
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class _Writer:
    encoder: Literal["libx264", "libvpx-vp9"]
    container: str
    container_options: dict[str, str]
    options: dict[str, str]


# The key frames stand at fixed places, a change of scene or not, and the index stands before the frames. The bit-exact
# containers carry no time, no version and no random id: the same frames are the same bytes. x264's macroblock tree is
# off, since with AVX-512 it gives other bytes each time at most widths; without it, a moving arm takes a quarter more.
_WRITERS: dict[str, _Writer] = {
    "h264": _Writer(
        "libx264",
        "mp4",
        {"fflags": "+bitexact", "movflags": "+faststart"},
        {"preset": "veryfast", "crf": "23", "sc_threshold": "0", "x264-params": "mbtree=0"},
    ),
    "vp9": _Writer(
        "libvpx-vp9",
        "webm",
        {"fflags": "+bitexact", "cues_to_front": "1"},
        {"deadline": "realtime", "cpu-used": "8", "crf": "32", "lag-in-frames": "0", "keyint_min": str(KEY_EVERY)},
    ),
}


def encode(frames: Iterable[Frame], *, fps: float, codec: Codec = "h264") -> bytes:
    """One clip of frames uint8 [H,W,3] (an array [T,H,W,3], or anything that yields them one by one), shown at `fps`
    frames a second: H.264 in MP4, or VP9 in WebM, with a key frame every `KEY_EVERY` frames.

    Odd sides grow by one pixel, a copy of the last. The same frames give the same bytes, which say nothing of where
    they come from. Raises ClipError for no frame, frames of other types or of unequal sizes, an fps out of `FPS`, and a
    codec that is not known.
    """
    if codec not in _WRITERS:
        raise ClipError(f"codec {codec!r} is not known; give 'h264' or 'vp9'")
    if isinstance(fps, bool) or not isinstance(fps, Real) or not FPS[0] <= fps <= FPS[1]:
        raise ClipError(f"fps is {fps!r}; give a number of frames a second from {FPS[0]:g} to {FPS[1]:g}")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ClipError("there are no frames; give at least one")
    _check(0, first, first)
    # A file, since FFmpeg reopens what it wrote in order to move the index to the front.
    with tempfile.TemporaryDirectory(prefix="rapport-clip-") as folder:
        path = Path(folder) / "clip"
        try:
            _write(path, first, remaining, Fraction(fps).limit_denominator(1001), _WRITERS[codec])
        except av.FFmpegError as error:
            raise ClipError(
                f"frames of {first.shape[1]} x {first.shape[0]} pixels were not encoded as {codec} ({error}); "
                f"see that {tempfile.gettempdir()} has room, or give another size or codec"
            ) from error
        return path.read_bytes()


def _write(path: Path, first: Frame, remaining: Iterator[Frame], rate: Fraction, writer: _Writer) -> None:
    with av.open(str(path), "w", format=writer.container, options=writer.container_options) as out:
        stream = out.add_stream(writer.encoder, rate=rate, options=writer.options)
        stream.height, stream.width = (side + side % 2 for side in first.shape[:2])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1  # several would share the work out differently from run to run
        context.gop_size = KEY_EVERY
        context.bit_rate = 0  # quality decides
        # Untagged, a small and a large video are given different colours by the same browser.
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        reformatter = VideoReformatter()

        def mux(frame: Frame) -> None:
            rgb = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
            yuv = reformatter.reformat(
                rgb,
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=_EXACT,
                threads=1,
            )
            out.mux(stream.encode(yuv))

        mux(first)
        for k, frame in enumerate(remaining, 1):
            _check(k, frame, first)
            mux(frame)
        out.mux(stream.encode())


def _check(k: int, frame: object, first: Frame) -> None:
    if not isinstance(frame, np.ndarray):
        raise ClipError(f"frame {k} is of type {type(frame).__name__}; give numpy arrays, uint8 [H, W, 3]")
    what = f"frame {k} is {frame.dtype} {list(frame.shape)}"
    if frame.dtype != np.uint8:
        raise ClipError(f"{what}; give uint8 [H, W, 3], from 0 (dark) to 255")
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        raise ClipError(f"{what}, which is grey; repeat it as red, green and blue: uint8 [H, W, 3]")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ClipError(f"{what}; give uint8 [H, W, 3]: height, width, and red, green and blue")
    if not all(1 <= side <= MAX_SIDE for side in frame.shape[:2]):
        raise ClipError(f"{what}; give sides of 1 to {MAX_SIDE} pixels")
    if frame.shape != first.shape:
        raise ClipError(f"{what}, and the first is {list(first.shape)}; give frames of one size")


def _even(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    return np.ascontiguousarray(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def decode(source: bytes | Path) -> Iterator[Frame]:
    """The frames of a clip, uint8 [H,W,3], one by one. Raises ClipError for what is no clip; one that breaks off may
    only yield fewer frames, and it is `Clips.get` that notices."""
    reformatter = VideoReformatter()
    with _opened(source) as file:
        none = True
        for frame in file.decode(video=0):
            none = False
            rgb = reformatter.reformat(frame, format="rgb24", interpolation=_EXACT, threads=1)
            yield rgb.to_ndarray().astype(np.uint8, copy=False)
        if none:
            raise ClipError(f"{_named(source)} has no whole frame; give what `encode` returned")


def describe(data: bytes) -> Clip:
    """What a clip's bytes say of themselves; nothing is decoded. Raises ClipError for anything but one video of the
    two kinds that `encode` makes."""
    with _opened(data) as file:
        stream = file.streams.video[0]
        kind = file.format.name, stream.codec_context.codec.canonical_name
        frames = sum(packet.size > 0 for packet in file.demux(stream))
        if kind not in _MEDIA or len(file.streams) != 1 or not frames or not stream.average_rate:
            raise ClipError(
                f"{_named(data)} has {frames} frames of {kind[1]} in {len(file.streams)} streams; "
                "give one video, H.264 in MP4 or VP9 in WebM, as `encode` returns it"
            )
        sha256, fps = hashlib.sha256(data).hexdigest(), float(stream.average_rate)
        return Clip(sha256, _MEDIA[kind], frames, fps, stream.width, stream.height, len(data))


@contextmanager
def _opened(source: bytes | Path) -> Iterator[InputContainer]:
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as raw,
            # Some of FFmpeg's formats are lists of other files, which it would go and read.
            av.open(raw, "r", options={"format_whitelist": "mp4,webm"}) as file,
        ):
            if not file.streams.video:
                raise ClipError(f"{_named(source)} has no video; give what `encode` returned")
            yield file
    except (OSError, av.FFmpegError) as error:
        raise ClipError(f"{_named(source)} cannot be read ({error.strerror}); give what `encode` returned") from error


def _named(source: bytes | Path) -> str:
    return f"the clip of {len(source)} bytes" if isinstance(source, bytes) else f"the clip {source}"


class Clips:
    """A folder of clips, each in a file that is named by the sha256 of its bytes, with what `describe` says of it in a
    JSON beside it. Any number of processes may read and put at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def put(self, data: bytes) -> Clip:
        """Durable when it returns. A clip that is there whole is left as it is; one that is damaged is mended.

        Raises ClipError for what is no clip, and when the disk is full (then what was there before still is).
        """
        return self._keep(describe(data), data)

    def put_text(self, text: str) -> Clip:
        """A text is kept and shown as a clip is; without frames. Raises ClipError when it is longer than MAX_BYTES."""
        data = text.encode()
        if len(data) > MAX_BYTES:
            raise ClipError(f"a text has {len(data)} bytes; give at most {MAX_BYTES:,}")
        return self._keep(Clip(hashlib.sha256(data).hexdigest(), TEXT, 0, 0.0, 0, 0, len(data)), data)

    def copy(self, sha256: str, source: Clips) -> None:
        """From another folder, which is believed only that it is a text. Raises ClipError as `get` and `put` do."""
        data = source.get(sha256)
        if source.info(sha256).media_type != TEXT:
            self.put(data)
            return
        try:
            self.put_text(data.decode())
        except UnicodeDecodeError as error:
            raise ClipError(f"text {sha256} is no UTF-8 ({error}); put back a copy") from error

    def _keep(self, clip: Clip, data: bytes) -> Clip:
        path = self._path(clip.sha256)
        try:
            there = self.info(clip.sha256) == clip and self.get(clip.sha256) == data
        except ClipError:
            there = False
        try:
            self._make(path.parent)
            if not there:
                atomic.write(path, data)
                # Last, for it says that the clip is there.
                atomic.write(_beside(path), json.dumps(asdict(clip), indent=1).encode())
        except OSError as error:
            raise ClipError(atomic.explain(error, path)) from error
        return clip

    def get(self, sha256: str) -> bytes:
        """A clip's bytes, which are those that were put. Raises ClipError for a name that is no sha256, and for a clip
        that is missing or damaged."""
        path = self.path(sha256)
        data = _read(path)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ClipError(
                f"{path} is damaged: its {len(data)} bytes have the sha256 {found[:12]}...; "
                "put the clip again, or put back a copy"
            )
        return data

    def info(self, sha256: str) -> Clip:
        """What is known of a clip, its bytes unread. Raises ClipError as `get` does."""
        path = _beside(self.path(sha256))
        text = _read(path)
        try:
            known = json.loads(text)
            clip = Clip(**known)
            whole = clip.sha256 == sha256 and all(type(known[f.name]).__name__ == f.type for f in fields(Clip))
        except (TypeError, ValueError):
            whole = False
        if not whole:
            raise ClipError(f"{path} is damaged; put the clip again, or put back a copy")
        return clip

    def path(self, sha256: str) -> Path:
        """A clip's file, to be served in ranges; unlike with `get`, its bytes are not looked at. Raises ClipError for a
        name that is no sha256 and for a clip that is missing."""
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ClipError(f"clip {sha256!r} is no sha256; give its 64 digits, 0 to 9 and a to f")
        path = self._path(sha256)
        if not path.is_file() or not _beside(path).is_file():
            raise ClipError(f"there is no clip {sha256} in {self.folder}; put it first")
        return path

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256[2:4] / sha256

    def _make(self, leaf: Path) -> None:
        """The folders down to a clip's own, durable whoever made them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        leaf.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, leaf.parent, leaf):
            atomic.sync_folder(folder)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClipError(f"{path} cannot be read ({error.strerror}); mend that or put back a copy") from error
