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
        self.faults: dict[str, CameraFault | None] = dict.fromkeys(cameras)

    def look(self) -> None:
        for name, camera in self.cameras.items():
            frame, seen = camera.latest(), self._seen[name]
            if frame is not None and (not seen or seen[-1].seq != frame.seq):
                seen.append(frame)
            self.faults[name] = camera_fault(
                list(seen), self.clock.now_ns(), self.sizes.get(name), pause_ns=PAUSE_NS, stop_ns=STOP_NS
            )

    def pictures(self, names: Sequence[str]) -> dict[str, Array]:
        return {name: self._seen[name][-1].data for name in names}

    def amiss(self, names: Sequence[str]) -> CameraFault | None:
        """The worst of these cameras."""
        found = [fault for name in names if (fault := self.faults[name]) is not None]
        return max(found, key=lambda fault: fault.stop, default=None)

    def ages(self) -> dict[str, float]:
        """Seconds since each camera's last frame that was new."""
        now = self.clock.now_ns()
        return {name: (now - seen[-1].time_ns) * 1e-9 for name, seen in self._seen.items() if seen}

    def sentences(self) -> dict[str, str]:
        return {name: "" if fault is None else fault.sentence for name, fault in self.faults.items()}

    def close(self) -> None:
        for camera in self.cameras.values():
            camera.close()
