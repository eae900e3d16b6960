"""The example that leads an SO-101 and a UR5e to points, run as it is run; and what its policy is made of."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardware.config import read
from hardware.contracts import objections
from policies.export import load_policy
from policies.observer import asked
from rapport.robot.emulating import emulate
from tests.hardware.gateway.robot import free_port

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "robot_reach.py"


def example():
    spec = importlib.util.spec_from_file_location("robot_reach", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["robot_reach"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", ["so101", "ur5e"])
def test_the_policy_is_for_that_robot_and_goes_straight_to_the_goal(tmp_path, family, monkeypatch):
    for name in ("hardware.emulators.__main__.main", "hardware.emulators.ur.main"):
        monkeypatch.setattr(name, lambda words: None)
    emulate(family, tmp_path, 8601)
    robot, reach = read(tmp_path / "robot.toml"), example()
    reach.policy(tmp_path / "policy", robot)
    policy = load_policy(tmp_path / "policy")
    assert objections(robot, asked(policy.parts, policy.contract)) == []
    chain = robot.limits.chain
    carrying = len(chain.axes)
    for goal in reach.POINTS[family].values():
        joints = np.array(robot.home)
        slant = chain.frames(joints[:carrying])[1]
        for _ in range(200):
            point, upright, _ = policy.cartesian.kinematics(joints)
            aim = policy.joint_targets(np.concatenate([goal - point, upright[:2]]), joints)
            assert np.abs(aim - joints).max() * reach.RATE <= 0.5 * robot.limits.velocity.min() + 1e-9
            joints = aim
        np.testing.assert_allclose(chain.point(joints[:carrying]), goal, atol=2e-3)
        turned = slant.T @ [0, 0, 1] @ chain.frames(joints[:carrying])[1].T  # what was upright at home, now
        assert turned[2] > np.cos(0.02)
        np.testing.assert_allclose(joints[carrying:], robot.home[carrying:], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["so101", "ur5e"])
def test_an_emulated_arm_reaches_every_point(tmp_path, family):
    port = free_port()
    run = subprocess.run(
        [sys.executable, str(EXAMPLE), family, "--patient", "--out", str(tmp_path), "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 of 5 points reached" in run.stdout
    errors = [float(mm) for mm in re.findall(r"([\d.]+) mm away", run.stdout)]
    assert len(errors) == 5 and max(errors) < 3
