"""Clips of CupArm: one panel, or several side by side, with labels, as MP4.

Drawing happens in another process (``python -m envs.arm_render``): it needs its own environment variables, and a broken
driver must not take a training run with it.
"""

import functools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from envs.arm_control import DT
from envs.arm_draw import GL_INSTALL_LINE, SPILL, Renderer, RenderError, check, environment, gl
from envs.arm_task import NEAR, Array, Layouts, over_laptop

__all__ = ["GL_INSTALL_LINE", "Clip", "RenderError", "Renderer", "gl", "render_clips", "render_frames", "write_mp4"]

PANEL = (560, 420)  # pixels
_GAP = 8  # pixels of white between panels
_INK, _GOOD, _BAD = (24, 28, 36), (24, 140, 70), (208, 38, 38)


@dataclass(frozen=True, eq=False)
class Clip:
    """Joint angles qpos [T,7] rad at 20 Hz in one layout, and the label burned into the corner."""

    qpos: Array
    layout: Layouts
    title: str = ""

    def __post_init__(self) -> None:
        check(self.qpos, self.layout)


def render_clips(jobs: Mapping[str, Sequence[Clip]], folder: Path, *, size: tuple[int, int] = PANEL) -> dict[str, Path]:
    """Writes ``folder/NAME.mp4`` for every job: its clips side by side, in real time. Raises RenderError where nothing
    can be drawn. size: of a panel, width and height in pixels, both even."""
    _render(jobs, folder, "mp4", size)
    return {name: folder / f"{name}.mp4" for name in jobs}


def render_frames(clips: Sequence[Clip], *, size: tuple[int, int] = PANEL) -> Array:
    """The frames uint8 [T,H,W,3] of a side-by-side clip."""
    with tempfile.TemporaryDirectory() as folder:
        _render({"frames": clips}, Path(folder), "npy", size)
        return np.asarray(np.load(Path(folder) / "frames.npy"))


def write_mp4(frames: Array, path: Path, *, fps: int = round(1 / DT)) -> None:
    """H.264 that every browser plays and seeks in, its index at the front. frames: uint8 [T,H,W,3], H and W even."""
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"frames are {width} x {height} pixels; H.264 needs both even")
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "veryfast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


def side_by_side(panels: Sequence[Array]) -> Array:
    """Frames uint8 [T,H,W,3] of panels of one size; one that ends before the others holds its last frame."""
    steps, (height, width, _) = max(map(len, panels)), panels[0].shape[1:]
    out = np.full((steps, height, (width + _GAP) * len(panels) - _GAP, 3), 255, np.uint8)
    for k, panel in enumerate(panels):
        x = k * (width + _GAP)
        out[: len(panel), :, x : x + width] = panel
        out[len(panel) :, :, x : x + width] = panel[-1]
    return out


def _panel(renderer: Renderer, clip: Clip) -> Array:
    """Frames with the title, and what a viewer should notice: tilt, laptop, goal."""
    frames = renderer.frames(clip.qpos, clip.layout)
    cups, tilts = renderer.cups(clip.qpos)
    over = over_laptop(cups, clip.layout.laptop[0]) > 0
    there = np.linalg.norm(cups - clip.layout.goal[0], axis=1) < NEAR
    unit = renderer.height / 420
    margin = round(12 * unit)
    for k, pixels in enumerate(frames):
        image = Image.fromarray(pixels)
        if clip.title:
            title = _chip(clip.title, _INK, round(34 * unit))
            image.paste(title, (margin, margin), title)
        spilling = tilts[k] > SPILL
        chips = [(f"tilt {math.degrees(tilts[k]):.0f}°", _BAD if spilling else _GOOD)]
        chips += [("over the laptop", _BAD)] if over[k] else []
        chips += [("at the goal", _GOOD)] if there[k] else []
        x = margin
        for text, colour in chips:
            chip = _chip(text, colour, round(26 * unit))
            image.paste(chip, (x, renderer.height - margin - chip.height), chip)
            x += chip.width + round(8 * unit)
        frames[k] = np.asarray(image)
    return frames


@functools.cache
def _chip(text: str, colour: tuple[int, int, int], height: int) -> Image.Image:
    """A label on a rounded ground, RGBA; drawn larger and scaled down for smooth corners."""
    big = 4 * height
    font = ImageFont.load_default(round(0.54 * big))
    width = font.getlength(text) + 0.9 * big
    image = Image.new("RGBA", (4 * math.ceil(width / 4), big), (*colour, 0))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((0, 0, image.width - 1, big - 1), big * 0.32, fill=(*colour, 225))
    pen.text((image.width / 2, big / 2), text, (255, 255, 255, 255), font, "mm", stroke_width=0.012 * big)
    return image.reduce(4)


def _render(jobs: Mapping[str, Sequence[Clip]], folder: Path, kind: str, size: tuple[int, int]) -> None:
    for name, clips in jobs.items():
        if not clips or Path(name).name != name:
            raise ValueError(f"clip {name!r} has {len(clips)} panels; give a plain file name and at least one panel")
    if size[0] % 2 or size[1] % 2:
        raise ValueError(f"panels of {size[0]} x {size[1]} pixels; give even numbers")
    backend = gl()
    if backend is None:
        raise RenderError(f"no off-screen OpenGL was found, so no clip can be drawn; install one: {GL_INSTALL_LINE}")
    folder.mkdir(parents=True, exist_ok=True)
    variables = environment(backend)
    # This package, not a folder of the same name where the user happens to be (hence -P as well).
    root = str(Path(__file__).parent.parent)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [root, variables.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as scratch:
        plan = Path(scratch) / "jobs.npz"
        _save(plan, jobs, kind, size)
        run = [sys.executable, "-P", "-m", "envs.arm_render", str(plan), str(folder.resolve())]
        done = subprocess.run(run, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise RenderError(f"drawing failed: {done.stderr.strip()[-2000:]}")


def _save(path: Path, jobs: Mapping[str, Sequence[Clip]], kind: str, size: tuple[int, int]) -> None:
    arrays: dict[str, Array] = {}
    plan: dict[str, list[str]] = {}
    for name, clips in jobs.items():
        plan[name] = [clip.title for clip in clips]
        for k, clip in enumerate(clips):
            layout = clip.layout
            arrays[f"{name}/{k}/qpos"] = np.asarray(clip.qpos)
            arrays[f"{name}/{k}/layout"] = np.concatenate([layout.start, layout.goal, layout.laptop], 1)
    arrays["plan"] = np.array(json.dumps({"kind": kind, "size": size, "titles": plan}))
    np.savez(path, allow_pickle=False, **arrays)


def main(jobs: str, folder: str) -> None:
    with np.load(jobs) as file, ExitStack() as stack:
        plan = json.loads(str(file["plan"]))
        titles: dict[str, list[str]] = plan["titles"]
        # Panels are drawn at the same time: a thread each, as an OpenGL context belongs to the thread that uses it.
        count = min(max(map(len, titles.values())), os.cpu_count() or 1)
        hands = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(count)]
        renderers = []
        for hand in hands:
            renderers.append(hand.submit(Renderer, *plan["size"], backend=os.environ["MUJOCO_GL"]).result())
            stack.callback(hand.submit, renderers[-1].close)
        for name, labels in titles.items():
            drawn = []
            for k, label in enumerate(labels):
                row = file[f"{name}/{k}/layout"]
                clip = Clip(file[f"{name}/{k}/qpos"], Layouts(row[:, :3], row[:, 3:6], row[:, 6:]), label)
                drawn.append(hands[k % count].submit(_panel, renderers[k % count], clip))
            frames = side_by_side([panel.result() for panel in drawn])
            target = Path(folder) / f"{name}.{plan['kind']}"
            if plan["kind"] == "mp4":
                write_mp4(frames, target)
            else:
                np.save(target, frames)


if __name__ == "__main__":
    main(*sys.argv[1:])
