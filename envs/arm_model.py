"""The seven-joint arm with a cup in its hand, as MJCF. Lengths in m, angles in rad, masses in kg."""

import mujoco
import numpy as np

JOINT_NAMES = ("base", "shoulder", "upper_arm", "elbow", "forearm", "wrist", "hand")
AXES = "zyzyzyz"
OFFSETS = (0.12, 0.20, 0.17, 0.17, 0.16, 0.16, 0.08)  # along z of the link before
RADII = (0.055, 0.052, 0.049, 0.047, 0.044, 0.041, 0.038)  # capsule that leads to the next joint
JOINT_LIMIT = float(2 * np.pi)  # rad; all joints may turn once round either way
REST = np.array([0.0, -0.3, 0.0, 1.75, 0.0, 0.12, 0.0])
GRIP = 0.05  # from the last joint to the cup's centre
CUP_RADIUS, CUP_HALF_HEIGHT = 0.036, 0.05
TIME_STEP, SUBSTEPS = 0.01, 5

# The cup stands upright when the hand points forward: its axis is the hand's -x.
SIDE_GRIP = f'pos="0 0 {GRIP}" euler="0 {-np.pi / 2!r} 0"'
_CUP = f'<geom name="cup" type="cylinder" {SIDE_GRIP} size="{CUP_RADIUS} {CUP_HALF_HEIGHT}" mass=".3"/>'


def mjcf(assets: str = "", world: str = "", links: tuple[str, ...] = ("",) * 7) -> str:
    """MJCF text. The arguments add looks (``links[i]``: elements inside link i); as long as these have no mass the
    dynamics stay the same."""
    bodies = ""
    for i, (name, axis, offset) in enumerate(zip(JOINT_NAMES, AXES, OFFSETS, strict=True)):
        turn = "0 0 1" if axis == "z" else "0 1 0"
        length = OFFSETS[i + 1] if i < 6 else GRIP / 2
        bodies += (
            f'<body name="{name}" pos="0 0 {offset}" gravcomp="1"><joint name="{name}" axis="{turn}"/>'
            f'<geom name="{name}" class="link" size="{RADII[i]}" fromto="0 0 0 0 0 {length}"/>{links[i]}'
        )
    bodies += f'{_CUP}<site name="cup" {SIDE_GRIP} size=".005" rgba="0 0 0 0"/>' + "</body>" * 7
    servos = "".join(f'<velocity joint="{name}" kv="60"/>' for name in JOINT_NAMES)
    return f"""<mujoco model="cup arm">
  <compiler angle="radian"/>
  <option timestep="{TIME_STEP}" integrator="implicitfast"><flag contact="disable"/></option>
  <default>
    <joint type="hinge" armature=".1" damping="2" range="{-JOINT_LIMIT} {JOINT_LIMIT}"/>
    <default class="link"><geom type="capsule" density="600"/></default>
  </default>
  <asset>{assets}</asset>
  <worldbody>{world}{bodies}</worldbody>
  <actuator>{servos}</actuator>
</mujoco>"""


def build() -> mujoco.MjModel:
    """The model that is simulated: arm and cup, no looks."""
    return mujoco.MjModel.from_xml_string(mjcf())
