"""Whether a policy is for this robot: its contract against what the robot's file says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from embodied.contract import Contract, Joint, mismatch
from hardware.chunks import LONGEST_NS
from hardware.config import Config

ACTION = "joint_position"


def here(config: Config, contract: Contract) -> Contract:
    """What holds at this robot, in the form of a policy's contract: its joints and their ranges, its scene and cameras.
    What a file does not know (world, rate, what comes from joints, clock or last action) is as the policy has it."""
    limits = config.limits
    joints = tuple(
        Joint(name, float(lower), float(upper))
        for name, lower, upper in zip(limits.names, limits.lower, limits.upper, strict=True)
    )
    scene = {source.name: source for source in config.scene}
    asked = contract.observation
    sources = tuple(s for s in asked if s.origin != "scene" or s.name in scene)
    sources = tuple(scene[s.name] if s.origin == "scene" else s for s in sources)
    cameras = tuple(camera.name for camera in config.cameras)
    numbers = (0.0,) * sum(source.size for source in sources)
    try:
        return replace(
            contract,
            joints=joints,
            action=ACTION,
            observation=sources,
            mean=numbers,
            std=tuple(1.0 for _ in numbers),
            cameras=cameras,
            hashes={},
        )
    except ValueError:  # nothing of what the policy looks at is here
        return replace(contract, joints=joints, action=ACTION, cameras=cameras, hashes={})


def objections(
    config: Config,
    contract: Contract,
    can: Collection[str] | None = None,
    told: Collection[str] | None = None,
) -> list[str]:
    """What keeps a policy from acting on this robot, one sentence each; empty if nothing does. can: what its arm is
    able to; told: the things of the scene of which is known where they are. None where nobody has asked."""
    missing = {s.name for s in contract.observation if s.origin == "scene"} - {s.name for s in config.scene}
    found = mismatch(contract, here(config, contract))
    found = [sentence for sentence in found if not any(f"source {name!r}" in sentence for name in missing)]
    found += [
        f"the policy looks at {name!r} of the scene, and the robot's file has no [scene.{name}]"
        for name in sorted(missing)
    ]
    if told is not None:
        found += [
            f"nobody has told where {source.name!r} of the scene is ({source.size} numbers, {source.unit})"
            for source in contract.observation
            if source.origin == "scene" and source.name not in missing and source.name not in told
        ]
    n = len(config.limits.names)
    for source in contract.observation:
        if source.origin != "joint":
            continue
        if source.unit in ("rad", "rad/s") and source.size > n:
            found.append(f"the policy looks at {source.size} {source.name!r} ({source.unit}), the robot has {n} joints")
        if source.unit.endswith("/s") and can is not None and "velocity" not in can:
            found.append(f"the policy looks at {source.name!r} ({source.unit}), and this arm measures no velocities")
    if contract.rate > config.limits.rate:
        found.append(f"the policy acts at {contract.rate:g} Hz, and the loop runs at {config.limits.rate:g} Hz")
    if contract.rate < (slowest := 1e9 / LONGEST_NS):
        found.append(f"the policy acts at {contract.rate:g} Hz, and actions are followed at {slowest:g} Hz or more")
    return found
