"""The main job's exported policy gives the joint targets that its environment would have moved to."""

import subprocess
import sys

import numpy as np

from envs.arm import HORIZON, CupArms
from envs.arm_control import DT
from policies.export import load_policy
from rapport.cup.agent import held_out
from rapport.cup.handover import agreed


def test_joint_targets_equal_the_environments_over_an_episode(tiny_run):
    policy = load_policy(tiny_run / "policy", agreed("whatever it was trained for"))
    envs = CupArms(32, seed=0)
    obs, _ = envs.reset(options={"layouts": held_out(5, 32)})
    for _ in range(HORIZON):
        action = policy.act(obs)
        joints = envs.qpos
        expected = joints + DT * envs.command(action)
        np.testing.assert_allclose(policy.joint_targets(obs, joints), expected, atol=1e-9, rtol=0)
        obs, *_ = envs.step(action)


def test_a_robot_loads_it_without_torch_or_mujoco(tiny_run):
    code = (
        "import sys; from policies.export import load_policy; load_policy(sys.argv[1]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'mujoco', 'gymnasium')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tiny_run / "policy")]).returncode == 0
