"""The robot's cameras as the gateway has them: opened once, looked at when a policy is asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from hardware.arm import Array, Clock
from hardware.camera import Camera, Frame
from hardware.cameras import PAUSE_NS, STOP_NS, CameraError, CameraFault, StreamCamera, camera_fault
from hardware.config import CameraConfig

KEPT = 4
"""Frames that are looked back on to tell whether a camera froze."""
BLIND_NS = 500_000_000
"""Since the last look, after which what it found says nothing any more."""


def open_all(configs: Sequence[CameraConfig]) -> dict[str, Camera]:
    """Raises CameraError for the first that does not open; the others are closed again."""
    found: dict[str, Camera] = {}
    try:
        for config in configs:
            device = config.device.startswith("/dev/")
            size = {"video_size": f"{config.width}x{config.height}", "framerate": f"{config.fps:g}"}
            opening = StreamCamera(config.device, format="v4l2" if device else None, options=size if device else {})
            opening.open()
            found[config.name] = opening
    except CameraError:
        for camera in found.values():
            camera.close()
        raise
    return found


class Watch:
    """`look` at least as often as anybody wants to know: it keeps the last frames of each camera."""

    def __init__(self, cameras: Mapping[str, Camera], sizes: Mapping[str, tuple[int, int]], clock: Clock) -> None:
        self.cameras, self.sizes, self.clock = cameras, sizes, clock
        self._seen: dict[str, deque[Frame]] = {name: deque(maxlen=KEPT) for name in cameras}
        self._faults: dict[str, CameraFault | None] = dict.fromkeys(cameras)
        self._looked_ns = dict.fromkeys(cameras, 0)

    def look(self) -> None:
        """Raises nothing: whoever looks again and again is not to end silently."""
        for name, camera in self.cameras.items():
            try:
                self._faults[name] = self._look(camera, self._seen[name], self.sizes.get(name))
            except Exception as error:  # whatever a driver's frame is made of
                self._faults[name] = CameraFault("none", f"the camera cannot be looked at ({error!r})", False)
            self._looked_ns[name] = self.clock.now_ns()

    def _look(self, camera: Camera, seen: deque[Frame], size: tuple[int, int] | None) -> CameraFault | None:
        frame = camera.latest()
        if frame is not None and (not seen or seen[-1].seq != frame.seq):
            seen.append(frame)
        return camera_fault(list(seen), self.clock.now_ns(), size, pause_ns=PAUSE_NS, stop_ns=STOP_NS)

    def fault(self, name: str) -> CameraFault | None:
        """What the last look found, or that nobody has looked for long."""
        if not self._looked_ns[name]:
            return CameraFault("none", "nobody has looked at the camera yet", False)
        blind = self.clock.now_ns() - self._looked_ns[name]
        if blind > BLIND_NS:
            why = f"nobody has looked at the camera for {blind / 1e9:.1f} s; start the robot again"
            return CameraFault("stale", why, blind > STOP_NS)
        return self._faults[name]

    def pictures(self, names: Sequence[str]) -> dict[str, Array]:
        return {name: self._seen[name][-1].data for name in names}

    def amiss(self, names: Sequence[str]) -> CameraFault | None:
        """The worst of these cameras."""
        found = [fault for name in names if (fault := self.fault(name)) is not None]
        return max(found, key=lambda fault: fault.stop, default=None)

    def ages(self) -> dict[str, float]:
        """Seconds since each camera's last frame that was new."""
        now = self.clock.now_ns()
        return {name: (now - seen[-1].time_ns) * 1e-9 for name, seen in self._seen.items() if seen}

    def sentences(self) -> dict[str, str]:
        faults = {name: self.fault(name) for name in self.cameras}
        return {name: "" if fault is None else fault.sentence for name, fault in faults.items()}

    def close(self) -> None:
        for camera in self.cameras.values():
            camera.close()
