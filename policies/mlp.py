"""The mean of a multi-layer policy in numpy: what pools, old snapshots and exported policies act with. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Layers:
    """weights [out,in] and biases [out] of the layers, first to last; tanh between them. ValueError if unfit."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __post_init__(self) -> None:
        shapes = [(*weight.shape, *bias.shape) for weight, bias in zip(self.weights, self.biases, strict=True)]
        fit = shapes and all(len(shape) == 3 and shape[0] == shape[2] for shape in shapes)
        if not fit or any(before[0] != after[1] for before, after in pairwise(shapes)):
            raise ValueError(f"layers (out, in, bias) of {shapes} do not follow each other; give a whole network")

    @classmethod
    def of(cls, parameters: Mapping[str, Array]) -> Layers:
        """From a policy's parameters under the names of stable-baselines3 (mlp_extractor.policy_net.*, action_net)."""
        net = "mlp_extractor.policy_net."
        hidden = sorted({int(name[len(net) :].split(".")[0]) for name in parameters if name.startswith(net)})
        names = [f"{net}{i}" for i in hidden] + ["action_net"]
        missing = [name for stem in names for name in (f"{stem}.weight", f"{stem}.bias") if name not in parameters]
        if missing:
            raise ValueError(f"the policy has no {missing[0]}; give the parameters of an MlpPolicy")
        return cls(tuple(parameters[f"{n}.weight"] for n in names), tuple(parameters[f"{n}.bias"] for n in names))


def mean(layers: Layers, obs: Array) -> Array:
    """Mean action [...,A], not clipped, for observations [...,O]; float32 like the network."""
    x = np.asarray(obs, dtype=np.float32)
    last = len(layers.weights) - 1
    for i, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        x = x @ weight.T + bias
        if i < last:
            x = np.tanh(x)
    return x
