"""How CupArm looks: an MJCF scene with wood, paint and light around the simulated arm, and the camera. Nothing here has
mass, so a scene shows exactly the poses that were simulated."""

import io

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from envs import arm_model
from envs.arm_model import CUP_HALF_HEIGHT, CUP_RADIUS, SIDE_GRIP
from envs.arm_task import LAPTOP_HALF, LAPTOP_SHIFT

CAMERA = {"lookat": (0.34, -0.015, 0.175), "distance": 1.44, "azimuth": 200.0, "elevation": -41.0}
LAPTOP_TOP = 0.018  # m above the table
GOAL_RADIUS = 0.05

_WHITE, _ORANGE, _DARK = ".93 .94 .96 1", ".96 .47 .12 1", ".13 .14 .17 1"
# Geom groups. A frame is made of four pictures (arm_render): what stands still, what moves, the shadow of each.
LINKS, STILL, MOVING, SOLID, GROUND, UPRIGHT = 0, 1, 2, 3, 4, 5
# The ground casts no shadow, upright things catch none.
_STILL = f'group="{STILL}" mass="0"'
_GROUND = f'group="{GROUND}" mass="0"'
_UPRIGHT = f'group="{UPRIGHT}" mass="0"'
_MOVING = f'group="{MOVING}" mass="0"'


def scene() -> mujoco.MjModel:
    """The arm with its surroundings. Mocap bodies: ``laptop`` and ``goal``."""
    files = {"wood.png": _png(_wood()), "screen.png": _png(_screen()), "keys.png": _png(_keys())}
    text = arm_model.mjcf(_ASSETS + _cup_mesh(), _WORLD + _laptop() + _GOAL, tuple(_link(i) for i in range(7)))
    text = (
        text.replace("<option", _VISUAL + "<option", 1)
        .replace('class="link"', 'class="link" material="white"')
        .replace('<default class="link" material="white">', '<default class="link">')
    )
    # The simulated cup is a solid cylinder. It casts the shadow; what is shown in its place is hollow and filled.
    text = text.replace('<geom name="cup"', f'<geom name="cup" group="{SOLID}"')
    return mujoco.MjModel.from_xml_string(text, files)


_VISUAL = """<visual>
  <headlight ambient=".36 .36 .38" diffuse=".18 .18 .18" specular="0 0 0"/>
  <quality shadowsize="0" offsamples="0" numslices="22" numstacks="10"/>
  <map znear=".2" zfar="8"/>
  <global offwidth="3840" offheight="2160"/>
</visual>
<statistic center=".3 0 .2" extent="1"/>"""

_ASSETS = f"""
<texture name="sky" type="skybox" builtin="gradient" rgb1=".96 .975 .99" rgb2=".74 .84 .93" width="256" height="256"/>
<texture name="wood" type="2d" file="wood.png"/>
<texture name="screen" type="2d" file="screen.png"/>
<texture name="keys" type="2d" file="keys.png"/>
<material name="wood" texture="wood" specular=".15" shininess=".3" reflectance="0"/>
<material name="edge" rgba=".50 .34 .21 1" specular=".1"/>
<material name="screen" texture="screen" emission=".75" specular="0"/>
<material name="keys" texture="keys" specular=".1"/>
<material name="metal" rgba=".68 .70 .73 1" specular=".5" shininess=".6"/>
<material name="white" rgba="{_WHITE}" specular=".35" shininess=".55"/>
<material name="orange" rgba="{_ORANGE}" specular=".4" shininess=".6"/>
<material name="dark" rgba="{_DARK}" specular=".3" shininess=".5"/>
<material name="goal" rgba=".13 .70 .34 1" specular=".3" shininess=".5"/>
<material name="china" rgba=".97 .97 .98 1" emission=".22" specular=".5" shininess=".8"/>
<material name="drink" rgba=".16 .48 .92 1" emission=".35" specular=".6" shininess=".9"/>
"""

_WORLD = f"""
<light directional="true" castshadow="false" dir=".12 .18 -1" diffuse=".55 .54 .52" specular=".3 .3 .3"/>
<light directional="true" castshadow="false" dir="-.8 -.5 -.6" diffuse=".22 .22 .24" specular=".1 .1 .1"/>
<geom name="table" type="plane" pos=".36 0 0" size=".58 .74 .1" material="wood" {_GROUND}/>
<geom type="box" pos=".36 0 -.0205" size=".58 .74 .02" material="edge" {_GROUND}/>
<geom type="cylinder" pos="0 0 .006" size=".1 .006" material="dark" {_GROUND}/>
<geom type="cylinder" pos="0 0 .06" size=".066 .06" material="white" {_GROUND}/>
<geom type="cylinder" pos="0 0 .022" size=".0685 .01" material="orange" {_GROUND}/>
"""


def _link(i: int) -> str:
    """Looks inside link i: a coloured ring or hub at its joint, and the hand on the last."""
    r = arm_model.RADII[i]
    if i == 6:
        return _hand()
    if arm_model.AXES[i] == "z":
        return f'<geom type="cylinder" pos="0 0 .02" size="{r + 0.004} .010" material="orange" {_MOVING}/>'
    hub = f'<geom type="cylinder" zaxis="0 1 0" size="{r + 0.002} {r + 0.008}" material="white" {_MOVING}/>'
    for side in (-1, 1):
        at = side * (r + 0.010)
        hub += (
            f'<geom type="cylinder" zaxis="0 1 0" pos="0 {at} 0" size="{r - 0.010} .006" material="orange" {_MOVING}/>'
        )
    return hub


def _hand() -> str:
    """A dark gripper round the cup; the cup itself, its drink, its handle."""
    palm = f'<geom type="box" pos="0 0 .004" size=".022 .046 .010" material="dark" {_MOVING}/>'
    for side in (-1, 1):
        palm += f'<geom type="box" pos="0 {side * 0.042} .034" size=".012 .0045 .034" material="dark" {_MOVING}/>'
    top = CUP_HALF_HEIGHT - 0.012
    cup = f'''<geom type="mesh" mesh="cup" material="china" {_MOVING}/>
<geom type="cylinder" pos="0 0 {top}" size="{0.87 * CUP_RADIUS} .001" material="drink" {_MOVING}/>'''
    # Body frames may be rotated without a joint: this one turns the cup's axis to the hand's -x.
    return palm + f"<body {SIDE_GRIP}>{cup}</body>"


def _cup_mesh(sides: int = 40) -> str:
    """A lathed cup: up the outer wall, over the rim, down the inner wall."""
    r, h = CUP_RADIUS, CUP_HALF_HEIGHT
    profile = [(0.0, -h), (0.80 * r, -h), (0.84 * r, -0.96 * h), (r, 0.97 * h), (0.98 * r, h), (0.94 * r, h)]
    profile += [(0.91 * r, 0.97 * h), (0.78 * r, -0.85 * h), (0.0, -0.85 * h)]
    angles = 2 * np.pi * np.arange(sides) / sides
    points = np.array([(x * np.cos(a), x * np.sin(a), z) for x, z in profile for a in angles])
    faces = []
    for i in range(len(profile) - 1):
        for k in range(sides):
            a, b, c, d = (
                i * sides + k,
                i * sides + (k + 1) % sides,
                (i + 1) * sides + k,
                (i + 1) * sides + (k + 1) % sides,
            )
            faces += [(a, b, d), (a, d, c)]
    faces = [
        f for f in faces if np.linalg.norm(np.cross(points[f[1]] - points[f[0]], points[f[2]] - points[f[0]])) > 1e-12
    ]
    vertex = " ".join(f"{v:.6f}" for v in points.ravel())
    face = " ".join(str(v) for f in faces for v in f)
    return f'<mesh name="cup" inertia="shell" vertex="{vertex}" face="{face}"/>'


def _laptop() -> str:
    x, y = LAPTOP_HALF
    t = LAPTOP_TOP / 2
    lean = 0.14  # rad; more would lean the screen into the corridor that is free to the cup
    h = 0.098  # half height of the screen
    screen = (
        f'<body pos="{-x + 0.004} 0 {LAPTOP_TOP}" euler="0 {-lean} 0">'
        f'<geom type="box" pos="-.003 0 {h}" size=".0035 {y} {h}" material="metal" {_UPRIGHT}/>'
        f'<geom type="box" pos=".0008 0 {h}" size=".0005 {y - 0.002} {h - 0.002}" material="dark" {_UPRIGHT}/>'
        f'<geom type="plane" pos=".0018 0 {h + 0.002}" xyaxes="0 1 0 0 0 1" size="{y - 0.009} {h - 0.010} .1" '
        f'material="screen" {_UPRIGHT}/></body>'
    )
    return (
        f'<body name="laptop" mocap="true"><body pos="{LAPTOP_SHIFT} 0 0">'
        f'<geom type="box" pos="0 0 {t}" size="{x} {y} {t}" material="metal" {_STILL}/>'
        f'<geom type="plane" pos="0 0 {2 * t + 0.0006}" xyaxes="0 1 0 -1 0 0" size="{y - 0.004} {x - 0.004} .1" '
        f'material="keys" {_STILL}/>{screen}</body></body>'
    )


# A little stand: the cup, once there, seems to be put on it. Its stem ends somewhere below the table top.
_GOAL = f"""<body name="goal" mocap="true"><body pos="0 0 {-CUP_HALF_HEIGHT}">
<geom type="cylinder" pos="0 0 -.006" size="{GOAL_RADIUS} .005" material="goal" {_UPRIGHT}/>
<geom type="cylinder" pos="0 0 -.001" size="{0.8 * GOAL_RADIUS} .001" rgba=".80 .95 .84 1" {_UPRIGHT}/>
<geom type="cylinder" pos="0 0 -.2" size=".008 .19" material="metal" {_UPRIGHT}/></body></body>
<body name="foot" mocap="true">
<geom type="cylinder" pos="0 0 .004" size=".034 .004" material="metal" {_STILL}/></body>"""


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _wood(size: int = 768, planks: int = 7) -> Image.Image:
    """Planks along the table's y, each with its own tone and grain."""
    rng = np.random.default_rng(4)
    across = size // planks + 1
    rows = []
    along = np.linspace(0, 1, size)
    for _ in range(planks):
        tone = rng.uniform(-0.045, 0.045)
        v = np.linspace(0, 1, across)[:, None]
        wave = sum(rng.uniform(0.02, 0.09) * np.sin(2 * np.pi * (f * along + rng.uniform())) for f in (0.7, 1.3, 2.9))
        rings = np.sin(2 * np.pi * rng.uniform(3, 5) * (v + wave + 0.5 * (v - rng.uniform()) ** 2))
        streaks = rng.normal(size=(across, size // 64 + 2))
        streaks = np.repeat(streaks, 64, 1)[:, :size]
        smooth = np.cumsum(streaks, 1)
        streaks = (np.roll(smooth, -48, 1) - smooth) / 48
        plank = tone + 0.030 * rings + 0.030 * np.clip(streaks, -1, 1)
        plank[:2] -= 0.16  # the gap
        plank[-2:] += 0.02
        rows.append(plank)
    shade = np.concatenate(rows)[:size] + rng.normal(0, 0.008, (size, size))
    colour = np.array([0.80, 0.62, 0.42]) * (1 + shade[..., None] * np.array([0.9, 1.0, 1.15]))
    return Image.fromarray((np.clip(colour, 0, 1) * 255).astype(np.uint8))


def _screen(width: int = 640, height: int = 384) -> Image.Image:
    """A blue desktop with a window on it."""
    top, bottom = np.array([46, 120, 236]), np.array([22, 60, 170])
    ramp = np.linspace(0, 1, height)[:, None, None]
    image = Image.fromarray(np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((70, 60, 400, 320), 14, fill=(238, 244, 255))
    pen.rounded_rectangle((70, 60, 400, 92), 14, fill=(206, 222, 250))
    for k, wide in enumerate((250, 210, 270, 180, 235, 120)):
        pen.rounded_rectangle((96, 116 + 32 * k, 96 + wide, 128 + 32 * k), 6, fill=(150, 182, 236))
    pen.rounded_rectangle((430, 60, 570, 180), 14, fill=(120, 176, 255))
    pen.ellipse((462, 82, 538, 158), fill=(238, 244, 255))
    pen.rounded_rectangle((430, 204, 570, 320), 14, fill=(88, 146, 246))
    return image


def _keys(width: int = 640, height: int = 440) -> Image.Image:
    """The deck: keys near the screen, a touch pad near the user."""
    image = Image.new("RGB", (width, height), (176, 180, 188))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((36, 26, width - 36, 250), 10, fill=(52, 55, 62))
    for row in range(5):
        for column in range(13):
            x, y = 44 + column * 42.6, 34 + row * 43
            if row == 4 and 3 < column < 9:
                continue
            pen.rounded_rectangle((x, y, x + 37, y + 36), 6, fill=(30, 32, 38))
    pen.rounded_rectangle((44 + 4 * 42.6, 34 + 4 * 43, 44 + 9 * 42.6 - 6, 34 + 4 * 43 + 36), 6, fill=(30, 32, 38))
    pen.rounded_rectangle((width / 2 - 105, 275, width / 2 + 105, 415), 12, fill=(160, 164, 173))
    return image
