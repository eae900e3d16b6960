"""Frames of CupArm, off screen. Importing this module loads no OpenGL; making a ``Renderer`` does.

A frame is put together from four pictures: what stands still and its shadow (drawn once per clip), and what moves and
its shadow. That is several times faster than MuJoCo's own shadows and multisampling, and the shadows are soft.
"""

import functools
import importlib
import os
import subprocess
import sys
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
from PIL import Image, ImageChops, ImageFilter
from scipy import ndimage

from envs import arm_looks
from envs.arm_looks import GROUND, LAPTOP_TOP, LINKS, MOVING, SOLID, STILL, UPRIGHT
from envs.arm_task import Array, Layouts, over_laptop

BACKENDS = ("egl", "osmesa")
GL_INSTALL_LINE = "apt-get install -y --no-install-recommends libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"
SPILL = float(np.deg2rad(15))  # rad; the trail is red where the cup leans more than this
_LIGHT = np.array([0.10, 0.16, -1.0])  # direction in which shadows fall
_GREEN, _RED = (38, 186, 92), (232, 52, 48)
TRAIL = 0.007  # m, half its width
MAX_STEPS = 400
_GHOST = 0.4  # how much of the trail is seen through what stands before it
_SHADE = 0.58  # of the light that is left in a full shadow


class RenderError(RuntimeError):
    """There is no way to draw here."""


@functools.cache
def gl() -> str | None:
    """The off-screen OpenGL that works on this machine, "egl" or "osmesa", or None. Tried once, in another process, as
    a broken driver may take its process with it."""
    for backend in BACKENDS:
        run = [sys.executable, "-c", _PROBE, backend]
        if subprocess.run(run, env=environment(backend), capture_output=True).returncode == 0:
            return backend
    return None


_PROBE = """
import importlib, sys, mujoco
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(8, 8)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100).free()
context.free()
"""


def environment(backend: str) -> dict[str, str]:
    """Variables for a process that draws with this backend."""
    # The rasteriser's own threads cost more than they bring at these sizes.
    return {**os.environ, "MUJOCO_GL": backend, "LP_NUM_THREADS": "0"}


class Renderer:
    """Draws frames of width x height pixels in this process. Close it, or use it in a ``with``."""

    def __init__(self, width: int = 640, height: int = 480, *, backend: str | None = None) -> None:
        backend = backend or gl()
        if backend is None:
            raise RenderError(f"no off-screen OpenGL was found; install one: {GL_INSTALL_LINE}")
        os.environ.setdefault("LP_NUM_THREADS", "0")
        self.width, self.height = width, height
        self.model = arm_looks.scene()
        self._data = mujoco.MjData(self.model)
        self._gl: Any = importlib.import_module(f"mujoco.{backend}").GLContext(2 * width, 2 * height)
        self._gl.make_current()
        self._scene = mujoco.MjvScene(self.model, 2 * MAX_STEPS + 200)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._camera = mujoco.MjvCamera()
        for key, value in arm_looks.CAMERA.items():
            setattr(self._camera, key, value)
        self._option = mujoco.MjvOption()

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def frames(self, qpos: Array, layout: Layouts) -> Array:
        """uint8 [T,H,W,3] of joint angles qpos [T,7] rad in a layout (one row), with the cup's trail on the table: red
        where it is over the laptop or leans more than 15 degrees, else green."""
        check(qpos, layout)
        self._gl.make_current()
        at = {"laptop": (*layout.laptop[0], 0.0), "goal": layout.goal[0], "foot": (*layout.goal[0, :2], 0.0)}
        for name, place in at.items():
            self._data.mocap_pos[self.model.body(name).mocapid[0]] = place
        cups, tilts = self.cups(qpos)
        over = over_laptop(cups, layout.laptop[0]) > 0
        self._show((GROUND, STILL, UPRIGHT), sky=True)
        still, still_depth = self._read(2)
        flat = self._without((UPRIGHT,), still_depth)
        which, trail_depth = self._trail(cups, over)
        ahead = trail_depth < still_depth
        spots = ndimage.find_objects(which, len(qpos))
        colours = np.where((over | (tilts > SPILL))[:, None], _RED, _GREEN).astype(np.uint8)
        light = _half(still)
        shade = ImageChops.multiply(self._without((STILL, UPRIGHT), still_depth), self._shadow((STILL, UPRIGHT), 2.5))
        light = Image.composite(_dim(light), light, shade)
        dark = _dim(light)
        out = np.empty((len(qpos), self.height, self.width, 3), np.uint8)
        for k, q in enumerate(qpos):
            if spots[k] is not None:
                # The trail grows: repaint the box of its newest piece, in even pixels.
                y, x = (slice(part.start & ~1, part.stop + 1 & ~1) for part in spots[k])
                here = which[y, x] == k + 1
                share = np.where(ahead[y, x][here], 1.0, _GHOST)[:, None]
                still[y, x][here] = share * colours[k] + (1 - share) * still[y, x][here]
                box = (x.start // 2, y.start // 2, x.stop // 2, y.stop // 2)
                piece = _half(still[y, x])
                piece = Image.composite(_dim(piece), piece, shade.crop(box))
                light.paste(piece, box)
                dark.paste(_dim(piece), box)
            self._pose(q)
            shadow = ImageChops.multiply(flat, self._shadow((LINKS, SOLID), 4.0))
            frame = Image.composite(dark, light, shadow)
            self._show((LINKS, MOVING), sky=False)
            x, y = self._bounds()
            colour, depth = self._read(2, x, y)
            front = Image.fromarray(np.where(depth < still_depth[y, x], np.uint8(255), np.uint8(0)))
            moving = Image.fromarray(colour)
            moving = Image.composite(moving, Image.new("RGB", moving.size), front).reduce(2)
            box = (x.start // 2, y.start // 2, x.stop // 2, y.stop // 2)
            clear = ImageChops.invert(front.reduce(2))
            behind = ImageChops.multiply(frame.crop(box), Image.merge("RGB", (clear,) * 3))
            frame.paste(ImageChops.add(behind, moving), box)
            out[k] = np.asarray(frame)
        return out

    def cups(self, qpos: Array) -> tuple[Array, Array]:
        """Positions [T,3] m and tilts [T] rad of the cup."""
        site = self._data.site("cup")
        cups, up = np.empty((len(qpos), 3)), np.empty(len(qpos))
        for k, q in enumerate(qpos):
            self._pose(q)
            cups[k], up[k] = site.xpos, site.xmat[8]
        return cups, np.arccos(np.clip(up, -1, 1))

    def _pose(self, q: Array) -> None:
        self._data.qpos[:] = q
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)
        mujoco.mj_camlight(self.model, self._data)

    def _show(self, groups: tuple[int, ...], *, sky: bool) -> None:
        self._option.geomgroup[:] = 0
        self._option.geomgroup[list(groups)] = 1
        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self.model, self._data, self._option, None, self._camera, every, self._scene)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = sky

    def _read(self, scale: float, x: slice | None = None, y: slice | None = None) -> tuple[Array, Array]:
        """Colour uint8 [h,w,3] and depth [h,w] of the scene at ``scale`` times the frame, or of its part x, y."""
        width, height = int(scale * self.width), int(scale * self.height)
        x, y = x or slice(0, width), y or slice(0, height)
        w, h = x.stop - x.start, y.stop - y.start
        colour, depth = np.empty((h, w, 3), np.uint8), np.empty((h, w), np.float32)
        mujoco.mjr_render(mujoco.MjrRect(0, 0, width, height), self._scene, self._context)
        # OpenGL counts rows from the bottom.
        mujoco.mjr_readPixels(colour, depth, mujoco.MjrRect(x.start, height - y.stop, w, h), self._context)
        return np.ascontiguousarray(colour[::-1]), depth[::-1]

    def _bounds(self) -> tuple[slice, slice]:
        """The part x, y (even pixels of the doubled frame) in which the scene's geoms lie."""
        eye = self._scene.camera[0]
        geoms = self._scene.geoms[: self._scene.ngeom]
        at = np.array([g.pos for g in geoms]) - eye.pos
        reach = np.array([self.model.geom_rbound[g.objid] for g in geoms])
        ahead = at @ eye.forward
        focus = self.height * 2 * eye.frustum_near / (eye.frustum_top - eye.frustum_bottom)
        reach = reach / ahead * focus * 1.1 + 2
        px = self.width + at @ np.cross(eye.forward, eye.up) / ahead * focus
        py = self.height - at @ np.array(eye.up) / ahead * focus
        low = np.maximum([(px - reach).min(), (py - reach).min()], 0).astype(int) & ~1
        high = np.minimum([(px + reach).max(), (py + reach).max()], [2 * self.width, 2 * self.height]).astype(int) & ~1
        high = np.maximum(high, low + 2)
        return slice(low[0], high[0]), slice(low[1], high[1])

    def _without(self, groups: tuple[int, ...], still_depth: Array) -> Image.Image:
        """255 [H,W] where these groups are not in front."""
        self._show(groups, sky=False)
        _, depth = self._read(2)
        return _half(np.where((depth < 1) & (depth < still_depth + 1e-6), np.uint8(0), np.uint8(255)))

    def _shadow(self, groups: tuple[int, ...], blur: float) -> Image.Image:
        """How much of the light is taken, 0 to 255 [H,W]: the geoms pressed flat on the table along the light."""
        self._show(groups, sky=False)
        flat = np.eye(3)
        flat[:, 2] -= _LIGHT / _LIGHT[2]
        for geom in self._scene.geoms[: self._scene.ngeom]:
            geom.pos[:] = flat @ geom.pos
            geom.mat[:] = flat @ geom.mat
        _, depth = self._read(0.5)
        mask = Image.fromarray(np.where(depth < 1, np.uint8(255), np.uint8(0)))
        mask = mask.filter(ImageFilter.GaussianBlur(blur / 2))
        return mask.resize((self.width, self.height), Image.Resampling.BILINEAR)

    def _trail(self, cups: Array, over: Array) -> tuple[Array, Array]:
        """int [2H,2W]: 1 + the step at which the trail gets there, 0 where it never does; and its depth."""
        scene, flags = self._scene, mujoco.mjtRndFlag
        scene.ngeom = 0
        # A hair lower with each step: where the cup comes back or rests, what is painted first stays on top.
        ground = np.where(over, LAPTOP_TOP, 0.0) + np.linspace(0.004, 0.002, len(cups))
        points = np.column_stack([cups[:, :2], ground])
        for k, at in enumerate(points):
            self._add(k, mujoco.mjtGeom.mjGEOM_CYLINDER, [TRAIL, 0.0005, 0], at, np.eye(3))
            along = at[:2] - points[k - 1][:2]
            length = float(np.hypot(*along))
            if k and length > 1e-4:
                c, s = along / length
                turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
                middle = np.array([*(at[:2] - along / 2), at[2]])
                self._add(k, mujoco.mjtGeom.mjGEOM_BOX, [length / 2, TRAIL, 0.0005], middle, turn)
        for flag in (flags.mjRND_SEGMENT, flags.mjRND_IDCOLOR):
            scene.flags[flag] = True
        scene.flags[flags.mjRND_SKYBOX] = False
        colour, depth = self._read(2)
        for flag in (flags.mjRND_SEGMENT, flags.mjRND_IDCOLOR):
            scene.flags[flag] = False
        which = colour[..., 0] + 256 * colour[..., 1].astype(np.int32)
        return which, depth

    def _add(self, step: int, kind: mujoco.mjtGeom, size: list[float], at: Array, turn: Array) -> None:
        geom = self._scene.geoms[self._scene.ngeom]
        mujoco.mjv_initGeom(geom, kind.value, np.array(size), at, turn.ravel(), np.ones(4, np.float32))
        geom.segid = step
        self._scene.ngeom += 1


def check(qpos: Array, layout: Layouts) -> None:
    """Raises ValueError if these cannot be drawn as a clip."""
    if qpos.ndim != 2 or qpos.shape[1] != 7 or not 1 <= len(qpos) <= MAX_STEPS or not np.isfinite(qpos).all():
        raise ValueError(f"qpos has shape {qpos.shape}; give finite joint angles [T,7] in rad, T from 1 to {MAX_STEPS}")
    if len(layout) != 1:
        raise ValueError(f"a clip shows one layout, got {len(layout)}; choose one, as in layouts[0]")


def _half(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels).reduce(2)


def _dim(image: Image.Image) -> Image.Image:
    return Image.blend(Image.new("RGB", image.size), image, _SHADE)
