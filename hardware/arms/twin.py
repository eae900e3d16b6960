"""An arm that is only simulated, in this process: for trying a policy, a limit or a study with no robot and no bytes.

Any MJCF file, or a chain of links. Each joint has a servo that knows its own dynamics (computed torque), so that it
follows its goals in every model and needs no gains; the model's own actuators are off. Without power a joint is limp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import mujoco
import numpy as np

from hardware.arm import ArmSpec, ArmState, Array, BusLost, Category, Clock, NoAnswer, Refused, StopReport, vector
from hardware.clock import RealClock

STEP_NS = 2_000_000
STIFF = 40.0
"""Of the servos, 1/s: a goal that leaps is reached in about four times its inverse."""
STILL = 0.01
LONGEST_NS = 10_000_000_000
"""Of a pause after which the twin goes on from where it was, rather than catch up."""


@dataclass(frozen=True)
class Link:
    """A hinge about `axis`, and the rod [3] m from it to the next one, both in the zero pose; range in rad."""

    name: str
    axis: tuple[float, float, float]
    rod: tuple[float, float, float]
    range: tuple[float, float] = (-2.8, 2.8)


def chain(links: Sequence[Link]) -> str:
    """As MJCF. Rods weigh a kilogram a metre and touch nothing."""
    text, at = "", (0.0, 0.0, 0.0)
    for link in links:
        if not np.any(link.rod) or not np.any(link.axis):
            raise ValueError(f"link {link.name!r} has the rod {link.rod} and the axis {link.axis}; neither may be zero")
        length = float(np.linalg.norm(link.rod))
        text += (
            f'<body pos="{_row(at)}"><joint name={quoteattr(link.name)} axis="{_row(link.axis)}" '
            f'range="{_row(link.range)}" damping="0.1" armature="0.01"/><geom type="capsule" size="0.02" '
            f'fromto="0 0 0 {_row(link.rod)}" mass="{length}" contype="0" conaffinity="0"/>'
        )
        at = link.rod
    return f'<mujoco><compiler angle="radian"/><worldbody>{text}{"</body>" * len(links)}</worldbody></mujoco>'


class Twin:
    """`model`: a path, or links. `joints`: their names, in order; all hinges and slides without. `speed` rad/s (m/s
    of a slide) that no servo exceeds. `start` [n]: where it is when it is made. Time is the clock's, virtual or real.

    What can be done to it: `silence`, `pull`, `freeze`, `lock`, `jump`, `report`. What it was told: `told`.
    """

    def __init__(
        self,
        model: str | Path | Sequence[Link],
        *,
        joints: Sequence[str] | None = None,
        speed: float = np.pi,
        start: Array | None = None,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(model, (str, Path)):
            self._model = mujoco.MjModel.from_xml_path(str(model))
        else:
            self._model = mujoco.MjModel.from_xml_string(chain(model))
        self._model.opt.timestep = STEP_NS / 1e9
        self._model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION
        self._data = mujoco.MjData(self._model)
        names, self._qpos, self._dof = _joints(self._model, joints)
        self.spec = ArmSpec("twin", names, frozenset({"velocity", "effort", "temperature", "estop"}), 2)
        self._clock, self._speed = clock or RealClock(), speed
        n = len(names)
        self._open, self._pulled = False, False
        self._silent: tuple[str, ...] = ()
        self._faults: tuple[str, ...] = ()
        self._frozen: ArmState | None = None
        self._powered, self._locked = np.zeros(n, bool), np.zeros(n, bool)
        self._offset, self._effort = np.zeros(n), np.zeros(n)
        self.told: deque[tuple[int, Array]] = deque(maxlen=100_000)
        self._seq, self._at = 0, self._clock.now_ns()
        if start is not None:
            self._data.qpos[self._qpos] = vector("start", start, n)
        mujoco.mj_forward(self._model, self._data)
        self._goal = self.position

    @property
    def position(self) -> Array:
        """[n] as it is, whatever the encoders say."""
        return self._data.qpos[self._qpos].copy()

    def open(self) -> None:
        if self._pulled:
            raise BusLost("the twin's cable is out; plug it in with pull(False)")
        self._open = True

    def close(self) -> None:
        self._open = False

    def read(self) -> ArmState:
        self._answers()
        if self._frozen is not None:
            return self._frozen
        self._seq += 1
        return ArmState(
            position=self.position + self._offset,
            velocity=self._data.qvel[self._dof].copy(),
            effort=self._effort.copy(),
            temperature=np.full(len(self.spec.names), 30.0),
            powered=self._powered.copy(),
            faults=self._faults,
            seq=self._seq,
            time_ns=self._clock.now_ns(),
        )

    def write(self, position: Array) -> None:
        goal = vector("position", position, len(self.spec.names))
        self._answers()
        self.told.append((self._clock.now_ns(), goal))
        self._goal = goal - self._offset

    def enable(self) -> None:
        self._answers()
        if self._faults:
            raise Refused(f"the twin reports {', '.join(self._faults)}; clear it with report()")
        if not self._powered.all():
            self._goal = self.position
        self._powered[:] = True

    def stop(self, category: Category) -> StopReport:
        begin = self._clock.now_ns()
        try:
            self._answers(all_of_them=False)
        except BusLost:
            return StopReport(category, (), self.spec.names, 0.0)
        mine = np.array([name not in self._silent for name in self.spec.names])
        if category != 0:
            self._goal[mine] = self.position[mine]
            due = begin + 80_000_000
            while np.abs(self._data.qvel[self._dof]).max() > STILL and self._clock.now_ns() < due:
                self._clock.sleep_until(self._clock.now_ns() + STEP_NS)
                self._advance()
        if category != 2:
            self._powered[mine] = False
        still = np.abs(self._data.qvel[self._dof]) <= STILL
        done = mine & (still if category == 2 else True)
        names = np.array(self.spec.names)
        seconds = (self._clock.now_ns() - begin) / 1e9
        return StopReport(category, tuple(names[done].tolist()), tuple(names[~done].tolist()), seconds)

    def silence(self, *names: str) -> None:
        """These joints answer nothing from now on; without names all answer again."""
        self._silent = tuple(self.spec.names[self._index(name)] for name in names)

    def pull(self, out: bool = True) -> None:
        """The cable. Plugged in again it takes `close` and `open` too."""
        self._pulled, self._open = out, self._open and not out

    def freeze(self, on: bool = True) -> None:
        """It goes on as it was, and every reading is the same old one."""
        self._frozen = None
        self._frozen = self.read() if on else None

    def lock(self, *names: str) -> None:
        """These joints stand where they are, as against a wall; without names none."""
        self._locked[:] = False
        self._locked[[self._index(name) for name in names]] = True

    def jump(self, name: str, by: float) -> None:
        """Its encoder is off by that much more, rad."""
        self._offset[self._index(name)] += by

    def report(self, *faults: str) -> None:
        """The arm's own faults, as words; `estop` takes the power. Without words there are none."""
        self._faults = faults
        if "estop" in faults:
            self._powered[:] = False

    def _answers(self, all_of_them: bool = True) -> None:
        if not self._open:
            raise BusLost("the twin is not open; close and open it")
        self._advance()
        if self._silent and all_of_them:
            raise NoAnswer(f"{', '.join(self._silent)} did not answer", self._silent)

    def _index(self, name: str) -> int:
        if name not in self.spec.names:
            raise ValueError(f"the twin has no joint {name!r}; it has {', '.join(self.spec.names)}")
        return self.spec.names.index(name)

    def _advance(self) -> None:
        now = self._clock.now_ns()
        if now - self._at > LONGEST_NS:
            self._at = now
        while self._at + STEP_NS <= now:
            self._at += STEP_NS
            self._step()

    def _step(self) -> None:
        model, data = self._model, self._data
        q, qd = data.qpos[self._qpos], data.qvel[self._dof]
        wanted = np.clip(STIFF / 2 * (self._goal - q), -self._speed, self._speed)
        acceleration, torque = np.zeros(model.nv), np.zeros(model.nv)
        acceleration[self._dof] = 2 * STIFF * (wanted - qd)
        mujoco.mj_mulM(model, data, torque, acceleration)
        torque += data.qfrc_bias - data.qfrc_passive
        self._effort = np.where(self._powered, torque[self._dof], 0.0)
        data.qfrc_applied[self._dof] = self._effort
        kept = q.copy()
        mujoco.mj_step(model, data)
        if self._locked.any():
            held, dof = self._qpos[self._locked], self._dof[self._locked]
            data.qpos[held], data.qvel[dof] = kept[self._locked], 0.0
        mujoco.mj_forward(model, data)


def _joints(model: mujoco.MjModel, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], Array, Array]:
    """Names, and where they are in qpos and qvel."""
    simple = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    there = {model.joint(i).name: i for i in range(model.njnt) if model.jnt_type[i] in simple}
    names = tuple(there) if wanted is None else tuple(wanted)
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"the model has no hinge or slide {missing[0]!r}; it has {', '.join(there)}")
    if not names:
        raise ValueError("the model has no joint that could be moved; give one with hinges or slides")
    index = [there[name] for name in names]
    return names, model.jnt_qposadr[index].copy(), model.jnt_dofadr[index].copy()


def _row(values: Sequence[float]) -> str:
    return " ".join(repr(float(value)) for value in values)
