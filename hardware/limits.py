"""What an arm may do at most: refused when it makes no sense, and never absent.

`WIDEST` is what no arm of the supported families can do: a limit beyond it is a slip of units or of a decimal point,
not a wish. This is software: no certified safety function, and no replacement for an e-stop that cuts the
motors' power.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from hardware.arm import Array, vector
from policies.chain import Chain

REDUCED_SPEED = 0.25
"""m/s: what ISO 10218 calls reduced speed, at which a person may be near an arm under manual control."""
WIDEST: Mapping[str, float] = MappingProxyType(
    {"lower": 13.0, "upper": 13.0, "velocity": 15.0, "acceleration": 100.0, "tracking": 1.0, "start": 0.5}
    | {"tracking_seconds": 1.0, "rate": 1000.0, "tool_speed": 2.0, "box": 10.0}
)
"""Of absolute values, in each field's unit: two turns; a small servo without load; a second of a stalled joint."""
SLOWEST = 10.0
"""Hz: below it a stop comes too late."""


class LimitsError(ValueError):
    """Limits that cannot be; the sentence names the joint, the value and the mend."""


@dataclass(frozen=True, eq=False)
class Limits:
    """Of n joints, each array [n] float64 in the order of `names`, and of the tool that the chain carries.

    lower, upper: position, rad. velocity: rad/s. acceleration: rad/s^2, also of every stop. tracking: how far the arm
    may be from its command, rad, for at most `tracking_seconds`. start: how far the first action may be from what is
    measured, rad. rate: of the control loop, Hz. chain: of the first joints, as many as it has hinges; later ones (a
    gripper) do not move the tool. tool_speed: m/s, REDUCED_SPEED if there is a chain and nothing else is said. box
    [2,3]: where the tool may be, m, in the chain's frame. Raises LimitsError.
    """

    names: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    tracking: Array
    start: Array
    rate: float
    tracking_seconds: float = 0.05
    chain: Chain | None = None
    tool_speed: float | None = None
    box: Array | None = None

    def __post_init__(self) -> None:
        n = len(self.names)
        if n == 0 or len(set(self.names)) < n:
            raise LimitsError(f"the joints are {self.names}; name at least one, each once")
        for name in ("lower", "upper", "velocity", "acceleration", "tracking", "start"):
            self._keep(name, _numbers(name, getattr(self, name), n))
            for joint, value in zip(self.names, getattr(self, name), strict=True):
                _sensible(f"{name} of joint {joint!r}", name, value, positive=name not in ("lower", "upper"))
        for joint, lower, upper in zip(self.names, self.lower, self.upper, strict=True):
            if lower >= upper:
                raise LimitsError(f"joint {joint!r} may be from {lower} to {upper} rad; give lower < upper")
        for name in ("rate", "tracking_seconds"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
            _sensible(name, name, getattr(self, name))
        if self.rate < SLOWEST:
            raise LimitsError(f"rate is {self.rate} Hz; give {SLOWEST:g} or more, or a stop comes too late")
        self._check_tool(n)

    def _check_tool(self, n: int) -> None:
        if self.chain is None:
            for name in ("tool_speed", "box"):
                if getattr(self, name) is not None:
                    raise LimitsError(f"{name} is {getattr(self, name)}, but there is no chain; give the chain too")
            return
        if not isinstance(self.chain, Chain) or len(self.chain.axes) > n:
            raise LimitsError(f"the chain is {self.chain}; give a Chain of at most {n} hinges, of the first joints")
        with np.errstate(over="ignore"):
            reach = self.chain.reaches[0]
        if not 0 < reach <= WIDEST["box"]:
            raise LimitsError(
                f"the chain reaches {reach:.3g} m; give offsets and a tool in m, {WIDEST['box']:g} at most"
            )
        speed = REDUCED_SPEED if self.tool_speed is None else _number("tool_speed", self.tool_speed)
        _sensible("tool_speed", "tool_speed", speed)
        object.__setattr__(self, "tool_speed", speed)
        if self.box is None:
            return
        flat = _numbers("box", np.ravel(np.asarray(self.box, dtype=object)), 6)
        for value in flat:
            _sensible("box", "box", value, positive=False)
        low, high = flat.reshape(2, 3)
        if (low >= high).any():
            raise LimitsError(f"the box is from {low} to {high} m; give its lower corner, then its upper one")
        foot = np.array(self.chain.offsets[0])
        away = np.linalg.norm(np.clip(foot, low, high) - foot)
        if away >= reach:
            raise LimitsError(
                f"the box from {low} to {high} m begins {away:.3g} m from the arm, which reaches {reach:.3g} m: "
                "the tool cannot be in it; give another box"
            )
        self._keep("box", flat.reshape(2, 3))

    def _keep(self, name: str, value: Array) -> None:
        value = value.copy()
        value.flags.writeable = False
        object.__setattr__(self, name, value)


def _numbers(what: str, value: object, n: int) -> Array:
    try:
        return vector(what, value, n)
    except ValueError as error:
        raise LimitsError(str(error)) from None


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not np.isfinite(value):
        raise LimitsError(f"{what} is {value!r}; give a finite number")
    return float(value)


def _sensible(what: str, name: str, value: float, positive: bool = True) -> None:
    if positive and value <= 0:
        raise LimitsError(f"{what} is {value}; give a number above 0")
    if abs(value) > WIDEST[name]:
        raise LimitsError(f"{what} is {value}, and no arm has more than {WIDEST[name]:g}; look at its unit")
