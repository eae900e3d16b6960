"""Pictures of tables, off screen. Importing this module loads no OpenGL; making a `Pictures` does."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from envs.arm_draw import GL_INSTALL_LINE, RenderError, gl
from envs.pixels import table_looks
from envs.pixels.nuisance import Nuisance, disturb, draw_look
from envs.pixels.table_arms import Name
from envs.pixels.table_looks import Camera
from envs.pixels.table_model import Task

Array = npt.NDArray[Any]
FINER = 2  # drawn so many times larger, for smooth edges


class Pictures:
    """Draws one kind of table, size x size pixels, in this process. Close it. Raises RenderError without OpenGL."""

    def __init__(self, task: Task, arm: Name, nuisance: Nuisance, camera: Camera, size: int) -> None:
        backend = gl()
        if backend is None:
            raise RenderError(
                f"no off-screen OpenGL was found, so tables cannot be drawn; install one: {GL_INSTALL_LINE}. "
                "Without pictures (render_mode=None) they work as they are"
            )
        os.environ.setdefault("LP_NUM_THREADS", "0")  # the rasteriser's own threads cost more than they bring
        self.arm, self.nuisance, self.size = arm, nuisance, size
        self.model = table_looks.scene(task, arm, nuisance)
        self._data = mujoco.MjData(self.model)
        wide = FINER * size
        self._gl: Any = importlib.import_module(f"mujoco.{backend}").GLContext(wide, wide)
        self._gl.make_current()
        self._scene = mujoco.MjvScene(self.model, 200)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
        self._camera.fixedcamid = self.model.camera(camera).id
        self._pixels = np.empty((wide, wide, 3), np.uint8)
        self._guests = [self.model.body(f"company{k}").mocapid[0] for k in range(table_looks.COMPANY)]

    def close(self) -> None:
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def frames(self, qpos: Array, seed: int, length: int, first: int = 0) -> Array:
        """uint8 [t,size,size,3] of positions qpos [t,nq] of the simulated model, which are the frames `first`,
        `first` + 1, .. of a video of `length`; the seed says how that video looks."""
        self._gl.make_current()
        ours, shared = np.random.default_rng(seed).spawn(2)
        look = table_looks.draw_table_look(self.arm, self.nuisance, ours)
        table_looks.dress(self.model, look)
        drawn = np.empty((len(qpos), self.size, self.size, 3), np.uint8)
        for k, q in enumerate(qpos):
            self._data.qpos[:] = q
            for guest, place in zip(self._guests, table_looks.company(look, first + k), strict=False):
                self._data.mocap_pos[guest] = place
            drawn[k] = self._draw()
        # What the scene itself does not show: brightness, noise and the trembling of each frame.
        rest = replace(self.nuisance, texture=0.0, colours=0.0, shift=0.0, distractors=0)
        return drawn if rest == Nuisance() else disturb(drawn, None, draw_look(rest, length, shared), first)

    def _draw(self) -> Array:
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)
        mujoco.mj_camlight(self.model, self._data)
        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self.model, self._data, self._option, None, self._camera, every, self._scene)
        wide = FINER * self.size
        whole = mujoco.MjrRect(0, 0, wide, wide)
        mujoco.mjr_render(whole, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, whole, self._context)
        # OpenGL counts rows from the bottom.
        blocks = self._pixels[::-1].reshape(self.size, FINER, self.size, FINER, 3)
        return (blocks.sum((1, 3), dtype=np.uint16) // FINER**2).astype(np.uint8)
