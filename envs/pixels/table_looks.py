"""How a table looks: an MJCF scene round the simulated one, two cameras, and what `Nuisance` changes in it per video.

Nothing here has mass or touches anything, and it is another model than the simulated one: looks cannot change states.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np
import numpy.typing as npt
from PIL import Image

from envs.pixels.nuisance import Nuisance, palette
from envs.pixels.table_arms import ARMS, Name
from envs.pixels.table_model import GOAL, GOAL_HALF, MATERIALS, RADIUS, STRIP, TABLE, Task, mjcf

Array = npt.NDArray[Any]
Camera = Literal["front", "top"]

CAMERAS: tuple[Camera, ...] = ("front", "top")
COMPANY = 4  # distractors that a scene has room for
_PATTERNS = 10  # textures among which a video draws
_GRAIN = 96  # pixels across a texture
_FLOOR, _TABLE, _GOAL = (96, 104, 116), (206, 196, 180), (120, 190, 128)
_LIKED, _OTHER = (40, 92, 210), (150, 84, 160)
# Where the cameras look, m; how far they are, m; their elevation, rad; and how much they see, m
_AT, _FAR, _ELEVATION, _WIDE = (0.50, 0.0, 0.02), 1.5, {"front": 0.84, "top": 1.40}, 0.80


@dataclass(frozen=True, eq=False)
class Look:
    """All that was drawn for one video. colours [8,3] of `table_model.MATERIALS`, 0 to 255; pattern and scale of the
    textures of floor and table [2]; camera: offset right and up (m), roll (rad); light: direction [3] and strength; of
    D distractors the shape, the start [D,2], the velocity [D,2] per frame (shares of the table) and the colour [D,3]."""

    colours: Array
    pattern: Array
    scale: Array
    camera: Array
    light: Array
    strength: float
    shape: Array
    start: Array
    velocity: Array
    company: Array


def draw_table_look(arm: Name, nuisance: Nuisance, rng: np.random.Generator) -> Look:
    """Draws for one video. Every kind has a stream of its own, so turning one on leaves the others."""
    texture, camera, light, company, *_ = rng.spawn(4)
    own = np.array([_FLOOR, _TABLE, _GOAL, _LIKED, _OTHER, *ARMS[arm].colours], np.float64)
    d = min(nuisance.distractors, COMPANY)
    angle, speed = company.uniform(0, 2 * np.pi, d), company.choice([0.0, 0.02, 0.04], d)  # some only lie about
    return Look(
        colours=palette(own, nuisance, rng),
        pattern=texture.integers(1, _PATTERNS, 2) if nuisance.texture else np.zeros(2, int),
        scale=texture.uniform(0.6, 2.5, 2),
        camera=nuisance.shift * camera.uniform(-1, 1, 3) * [_WIDE, _WIDE, 3.0],
        light=np.array([-0.25, 0.2, -1.0]) + 3 * nuisance.flicker * light.uniform(-1, 1, 3) * [1, 1, 0],
        strength=1 + 1.5 * nuisance.flicker * float(light.uniform(-1, 0.5)),
        shape=company.integers(0, 3, d),
        start=company.uniform(0, 2, (d, 2)),
        velocity=speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1),
        company=company.uniform(0, 255, (d, 3)),
    )


def scene(task: Task, arm: Name, nuisance: Nuisance) -> mujoco.MjModel:
    """The table with its surroundings, textures of this contrast ready."""
    files = {f"pattern{k}.png": _png(_pattern(k, nuisance.texture)) for k in range(_PATTERNS)}
    assets = "".join(
        f'<texture name="pattern{k}" type="2d" file="pattern{k}.png"/>'
        + "".join(f'<material name="{on}{k}" texture="pattern{k}" specular=".1"/>' for on in ("floor", "table"))
        for k in range(_PATTERNS)
    )
    text = mjcf(task, arm, assets=assets, world=_world(task))
    return mujoco.MjModel.from_xml_string(text.replace("<option", _VISUAL + "<option", 1), files)


def dress(model: mujoco.MjModel, look: Look) -> None:
    """Gives the scene the look of a video."""
    for i, name in enumerate(MATERIALS):
        model.mat_rgba[model.material(name).id, :3] = look.colours[i] / 255
    for i, name in enumerate(("floor", "table")):
        material = model.material(f"{name}{look.pattern[i]}").id
        model.mat_rgba[material, :3] = look.colours[i] / 255
        model.mat_texrepeat[material] = look.scale[i] * (4.0 if name == "floor" else 1.0)
        model.geom_matid[model.geom(name).id] = material
    for name in CAMERAS:
        camera = model.camera(name).id
        place, turn = _camera(name, look.camera)
        model.cam_pos[camera] = place
        mujoco.mju_mat2Quat(model.cam_quat[camera], turn.ravel())
    model.light_dir[0] = look.light / np.linalg.norm(look.light)
    model.light_diffuse[0] = 0.55 * look.strength
    for k in range(COMPANY):
        for shape in range(3):
            geom = model.geom(f"company{k}{shape}").id
            shown = k < len(look.shape) and look.shape[k] == shape
            model.geom_rgba[geom] = (*look.company[k] / 255, 1.0) if shown else 0.0


def company(look: Look, frame: int) -> Array:
    """Places [D,3] of the distractors; at the table's edges they turn round."""
    share = 1 - np.abs(1 - (look.start + look.velocity * frame) % 2)
    low, high = np.array(TABLE).T
    return np.concatenate([low + 0.04 + (high - low - 0.08) * share, np.zeros((len(share), 1))], 1)


def _camera(name: Camera, offset: Array) -> tuple[Array, Array]:
    """Place [3] and rotation [3,3] of a camera across the table from the robot."""
    up = _ELEVATION[name]
    back = np.array([np.cos(up), 0.0, np.sin(up)])
    right, above = np.array([0.0, 1.0, 0.0]), np.array([-np.sin(up), 0.0, np.cos(up)])
    place = np.array(_AT) + _FAR * back + offset[0] * right + offset[1] * above
    c, s = np.cos(offset[2]), np.sin(offset[2])
    return place, np.stack([c * right + s * above, c * above - s * right, back], 1)


def _world(task: Task) -> str:
    (x0, x1), (y0, y1) = TABLE
    middle, half = f"{(x0 + x1) / 2} {(y0 + y1) / 2}", f"{(x1 - x0) / 2} {(y1 - y0) / 2}"
    fov = np.rad2deg(2 * np.arctan(_WIDE / 2 / _FAR))
    text = '<light directional="true" castshadow="false" dir="0 0 -1" specular=".15 .15 .15"/>'
    text += "".join(f'<camera name="{name}" fovy="{fov:.4f}"/>' for name in CAMERAS)
    text += '<geom name="floor" class="look" type="plane" pos=".5 0 -.4" size="3 3 .1" material="floor"/>'
    text += f'<geom name="table" class="look" type="plane" pos="{middle} 0" size="{half} .1" material="table"/>'
    text += f'<geom class="look" type="box" pos="{middle} -.021" size="{half} .02" rgba=".35 .30 .27 1"/>'
    if task == "wipe":
        (a, b), (c, d) = STRIP.x, STRIP.y
        size = f"{(b - a) / 2 + 0.05:.4f} {(d - c) / 2 + 0.07:.4f}"
        text += f'<geom class="look" type="plane" pos="{(a + b) / 2} {(c + d) / 2} .001" size="{size} .1" material="goal"/>'
    else:
        far = GOAL + GOAL_HALF + RADIUS
        near = GOAL - GOAL_HALF
        size = f"{(far - near) / 2:.4f} {(y1 - y0) / 2 - 0.02:.4f}"
        text += f'<geom class="look" type="plane" pos="{(near + far) / 2:.4f} 0 .001" size="{size} .1" material="goal"/>'
    for k in range(COMPANY):
        text += (
            f'<body name="company{k}" mocap="true">'
            f'<geom name="company{k}0" class="look" type="cylinder" size=".030 .02" pos="0 0 .02"/>'
            f'<geom name="company{k}1" class="look" type="box" size=".028 .020 .025" pos="0 0 .025"/>'
            f'<geom name="company{k}2" class="look" type="sphere" size=".030" pos="0 0 .03"/></body>'
        )
    return text


_VISUAL = """<visual>
  <headlight ambient=".38 .38 .40" diffuse=".25 .25 .25" specular="0 0 0"/>
  <quality shadowsize="0" offsamples="0" numslices="14" numstacks="6"/>
  <map znear=".2" zfar="8"/>
  <global offwidth="2048" offheight="2048"/>
</visual>
<statistic center=".5 0 .2" extent="1"/>"""


def _pattern(k: int, contrast: float) -> Image.Image:
    """Of ten patterns the first is plain; stripes, squares, and clouds of growing grain."""
    rng = np.random.default_rng(k)
    at = np.arange(_GRAIN) / _GRAIN
    if k == 0 or contrast == 0:
        tone = np.full((_GRAIN, _GRAIN), 1.0)
    elif k <= 2:
        tone = np.broadcast_to(np.sin(2 * np.pi * (3 + 3 * k) * at) > 0, (_GRAIN, _GRAIN)).T.astype(float)
    elif k <= 4:
        stripe = np.sin(2 * np.pi * (2 * k - 4) * at) > 0
        tone = (stripe[:, None] ^ stripe).astype(float)
    else:
        cells = 3 * (k - 3)
        cloud = Image.fromarray(rng.uniform(0, 255, (cells, cells)).astype(np.uint8))
        tone = np.asarray(cloud.resize((_GRAIN, _GRAIN), Image.Resampling.BICUBIC)) / 255.0
    tint = 1 - 0.5 * rng.uniform(0, 1, 3)
    pale = 1 - contrast * (1 - tone[..., None]) * tint
    return Image.fromarray(np.rint(255 * np.clip(pale, 0, 1)).astype(np.uint8))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()
