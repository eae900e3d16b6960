"""A trained policy as files a robot can trust: weights, the Cartesian step, how its observation is made of what a robot
measures, and the contract that names them by hash.

Numpy only, so that what runs beside a robot loads in a moment and carries no training code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from embodied import atomic, contract
from embodied.contract import Contract, ContractError
from policies import observer
from policies.cartesian import Cartesian
from policies.mlp import Layers, mean

Array = npt.NDArray[Any]
WEIGHTS, CARTESIAN, OBSERVER = "policy.safetensors", "cartesian.json", "observer.json"


@dataclass(frozen=True, eq=False)
class ExportedPolicy:
    """What `load_policy` gives. The Cartesian action is the policy's own; joint targets are what a robot is sent.
    parts: of its observation, or nothing where nobody said how it is made."""

    contract: Contract
    cartesian: Cartesian
    layers: Layers
    parts: tuple[observer.Part, ...] = ()

    def act(self, obs: Array) -> Array:
        """Cartesian action [...,5] in [-1,1] for observations [...,O], the deterministic one; ValueError if unfit."""
        obs = np.asarray(obs, dtype=np.float32)
        size = len(self.contract.mean)
        if obs.shape[-1:] != (size,) or not np.isfinite(obs).all():
            raise ValueError(f"the observation is {obs}; give {size} finite numbers in the order of the contract")
        scaled = (obs - np.asarray(self.contract.mean, np.float32)) / np.asarray(self.contract.std, np.float32)
        return np.clip(mean(self.layers, scaled), -1.0, 1.0)

    def joint_targets(self, obs: Array, joints: Array) -> Array:
        """Joint positions [...,n] rad to be reached in one control period, within the contract's limits.

        obs [...,O] as in `act`; joints [...,n] rad are the present angles, in the contract's order.
        """
        return self.reached(self.act(obs), joints)

    def reached(self, action: Array, joints: Array) -> Array:
        """The same for a Cartesian action [...,5]."""
        joints = np.asarray(joints, dtype=np.float64)
        aim = joints + self.cartesian.velocity(joints, action) / self.contract.rate
        return np.clip(aim, [j.lower for j in self.contract.joints], [j.upper for j in self.contract.joints])


def export(
    folder: Path,
    parameters: Mapping[str, Array] | Layers,
    cartesian: Cartesian,
    agreed: Contract,
    parts: Sequence[observer.Part] = (),
) -> Contract:
    """Write policy.safetensors, cartesian.json, observer.json if there are parts, and contract.json; returns the
    contract with the files' hashes.

    parameters: an agent's `snapshot()`, or the layers of its mean. parts: how each source of the observation is made.
    Raises ContractError, with nothing written, if what is given does not fit together.
    The contract is written last: a folder in which an export was cut short is refused by `load_policy`.
    """
    layers = parameters if isinstance(parameters, Layers) else Layers.of(parameters)
    _check(agreed, cartesian, layers, parts)
    arrays = {f"{i}.weight": np.ascontiguousarray(a) for i, a in enumerate(layers.weights)}
    arrays |= {f"{i}.bias": np.ascontiguousarray(a) for i, a in enumerate(layers.biases)}
    files = {
        WEIGHTS: safetensors.numpy.save(arrays),
        CARTESIAN: json.dumps(cartesian.to_json(), indent=1).encode(),
    }
    if parts:
        files[OBSERVER] = json.dumps(observer.to_json(parts), indent=1).encode()
    signed = replace(agreed, hashes={name: sha256(data).hexdigest() for name, data in files.items()})
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            atomic.write(folder / name, data)
    except OSError as error:
        raise ContractError(atomic.explain(error, folder)) from error
    contract.write(signed, folder)
    return signed


def load_policy(folder: Path, expected: Contract | None = None) -> ExportedPolicy:
    """The policy that `export` wrote. Raises ContractError where the files differ from their hashes, do not fit each
    other, or the contract is not one for where `expected` holds, the contract of the robot or environment at hand.
    """
    folder = Path(folder)
    agreed = contract.read(folder)
    if expected is not None and (wrong := contract.mismatch(agreed, expected)):
        raise ContractError(f"the policy in {folder} does not fit: {'; '.join(wrong)}")
    for name in (WEIGHTS, CARTESIAN):
        if name not in agreed.hashes:
            raise ContractError(f"the contract in {folder} has no hash of {name}; export the policy again")
    try:
        arrays = safetensors.numpy.load((folder / WEIGHTS).read_bytes())
        count = range(len(arrays) // 2)
        layers = Layers(tuple(arrays[f"{i}.weight"] for i in count), tuple(arrays[f"{i}.bias"] for i in count))
        cartesian = Cartesian.from_json(json.loads((folder / CARTESIAN).read_bytes()))
        there = OBSERVER in agreed.hashes
        parts = observer.from_json(json.loads((folder / OBSERVER).read_bytes())) if there else ()
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ContractError(f"the policy in {folder} cannot be read ({error}); export it again") from error
    _check(agreed, cartesian, layers, parts)
    return ExportedPolicy(agreed, cartesian, layers, parts)


def _check(agreed: Contract, cartesian: Cartesian, layers: Layers, parts: Sequence[observer.Part]) -> None:
    inputs, outputs = layers.weights[0].shape[1], layers.weights[-1].shape[0]
    size = sum(source.size for source in agreed.observation)
    joints = len(agreed.joints)
    wrong = [
        (agreed.action != "joint_position", f"the contract's action is {agreed.action}, and joint_position is written"),
        (size != inputs, f"the contract's observation has {size} numbers and the policy reads {inputs}"),
        (outputs != 5, f"the policy gives {outputs} numbers and a Cartesian action has 5"),
        (joints != len(cartesian.axes), f"the contract has {joints} joints and the chain {len(cartesian.axes)}"),
        (agreed.rate != cartesian.rate, f"the contract's rate is {agreed.rate} Hz and the step's {cartesian.rate} Hz"),
        (not all(np.isfinite(a).all() for a in (*layers.weights, *layers.biases)), "a weight is NaN or infinite"),
    ]
    if found := [sentence for is_wrong, sentence in wrong if is_wrong]:
        raise ContractError(f"{'; '.join(found)}: export parts of one environment")
    if parts:
        observer.check(parts, agreed, cartesian)
