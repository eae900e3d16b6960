"""A robot for LeRobot, registered the way third parties do: three joints in degrees that go where they are told, at
once. It has no bus. Past 90 degrees it cuts off, silently, as LeRobot's own do."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from lerobot.robots import Robot, RobotConfig

NAMES = ("pan", "lift", "gripper")


@RobotConfig.register_subclass("rapport_trial")
@dataclass
class TrialConfig(RobotConfig):
    folder: str = ""
    base: bool = False


class Trial(Robot):
    config_class = TrialConfig
    name = "rapport_trial"

    def __init__(self, config):
        super().__init__(config)
        self.folder, self.connected = Path(config.folder), False
        self.at = dict.fromkeys((f"{name}.pos" for name in NAMES), 0.0)
        self.extra = {"x.vel": float} if config.base else {}

    @property
    def observation_features(self):
        return dict.fromkeys(self.at, float)

    @property
    def action_features(self):
        return dict.fromkeys(self.at, float) | self.extra

    @property
    def is_connected(self):
        return self.connected

    def connect(self, calibrate=True):
        self.connected = True

    @property
    def is_calibrated(self):
        return not (self.folder / "uncalibrated").exists()

    def calibrate(self):
        raise AssertionError("it was asked not to")

    def configure(self):
        pass

    def get_observation(self):
        if (self.folder / "silent").exists():
            raise ConnectionError("Failed to sync read 'Present_Position'")
        if (self.folder / "gone").exists():
            os.stat(self.folder / "nothing")
        if (self.folder / "slow").exists():
            time.sleep(60)
        if (self.folder / "abort").exists():
            os.abort()
        return {key: float("nan") for key in self.at} if (self.folder / "nan").exists() else dict(self.at)

    def send_action(self, action):
        with (self.folder / "told").open("a") as file:
            file.write(json.dumps(action) + "\n")
        self.at = {key: max(-90.0, min(90.0, value)) for key, value in action.items()}
        return action

    def disconnect(self):
        (self.folder / "disconnected").touch()
