"""What is aligned: a policy that was exported, one that a function of yours makes, or a new one that imitates first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from embodied import contract
from embodied.feedback import Segments
from policies.export import export, load_policy
from policies.gaussian import LOG_STD, GaussianPolicy
from policies.mlp import mean
from rapport.align.answers import Told
from rapport.train.spaces import import_module

WEIGHTS, FOLDER = "policy.safetensors", "policy"


@dataclass(frozen=True, eq=False)
class Start:
    """`identity` tells this policy from any other; `write(folder, how)` leaves the aligned one in a folder, `how` being
    a sentence on what it was aligned with."""

    policy: Any
    identity: str
    write: Callable[[Path, str], object]
    new: bool = False


def exported(folder: Path, told: Told, log_std: float | None) -> Start:
    """The main job's kind of folder. Its mean alone is learned, since nothing else of it is acted on; its deviation is
    `log_std`, or how far the stored actions are from it. Raises ContractError, and ValueError for other sizes."""
    found = load_policy(folder)
    obs, act = told.segments()
    size = len(found.contract.mean)
    if (obs.shape[1], act.shape[1]) != (size, len(found.layers.biases[-1])):
        raise ValueError(
            f"{folder} acts with {len(found.layers.biases[-1])} numbers on {size}, and the answers are about segments "
            f"with {act.shape[1]} on {obs.shape[1]}: give answers about this policy's environment."
        )
    centre, scale = (np.asarray(x, np.float32) for x in (found.contract.mean, found.contract.std))
    far = act - np.clip(mean(found.layers, (obs - centre) / scale), -1, 1)
    spread = np.log(np.sqrt((far**2).mean(0)).clip(1e-9)) if log_std is None else np.full(act.shape[1], log_std)
    policy = GaussianPolicy.of(found.layers, spread, seed=0)
    policy.obs_mean.copy_(torch.from_numpy(centre))
    policy.obs_std.copy_(torch.from_numpy(scale))
    policy.log_std.requires_grad_(False)

    def write(out: Path, how: str) -> object:
        agreed = replace(found.contract, reward=f"{how}; before that: {found.contract.reward}", hashes={})
        return export(out, policy.layers(), found.cartesian, agreed, found.parts)

    return Start(policy, json.dumps(dict(found.contract.hashes), sort_keys=True), write)


def fresh(told: Told, bounds: tuple[float, float], log_std: float | None, seed: int) -> Start:
    """A Gaussian about a small network. Raises ValueError for actions outside the bounds."""
    obs, act = told.segments()
    low, high = bounds
    numbered = (act == act.round()).all() and act.min() >= 0 and act.max() >= 1
    if numbered and (act.shape[1] == 1 or (act.sum(1) == 1).all()):
        raise ValueError(
            f"All actions are whole numbers, {act.min():g} to {act.max():g}, so they are choices, which a new Gaussian "
            "policy would take for amounts: give --policy file.py:function with a policy of choices."
        )
    if act.min() < low - 1e-6 or act.max() > high + 1e-6:
        raise ValueError(
            f"Actions go from {act.min():.4g} to {act.max():.4g}, outside [{low:g}, {high:g}]: set --bounds LOW HIGH."
        )
    spread = -1.0 if log_std is None else log_std
    policy = GaussianPolicy(obs.shape[1], act.shape[1], seed=seed, low=low, high=high, log_std=spread)
    for part in told.learned[:1]:
        policy.standardise(part.segments)
    return Start(policy, policy.fingerprint(), lambda out, how: write_weights(policy, out), new=True)


def own(name: str) -> Start:
    """`module:function` or `file.py:function`, which is called without arguments. Raises ValueError (SpaceError for a
    module that is not there)."""
    module, _, function = name.rpartition(":")
    found = import_module(module)
    if not hasattr(found, function):
        raise ValueError(f"{module} has no {function}: name a function that makes the policy.")
    try:
        policy = getattr(found, function)()
    except Exception as error:  # of any kind: it is somebody else's code
        raise ValueError(f"{name} made no policy ({type(error).__name__}: {error}): mend it.") from error
    if not isinstance(policy, nn.Module) or not hasattr(policy, "log_prob"):
        raise ValueError(
            f"{name} made {policy!r:.60}: give a torch.nn.Module with density = True or False and "
            "log_prob(segments) -> [B,K,T]."
        )
    return Start(policy, name, lambda out, how: write_weights(policy, out))


def write_weights(policy: nn.Module, folder: Path) -> Path:
    """The tensors of its state_dict, as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {k: v.detach().cpu().clone() for k, v in policy.state_dict().items() if isinstance(v, Tensor)}
    safetensors.torch.save_file(kept, folder / WEIGHTS)
    return folder / WEIGHTS


def start(policy: str | None, told: Told, bounds: tuple[float, float], log_std: float | None, seed: int) -> Start:
    """The policy that `--policy` names. Raises ValueError in a sentence."""
    if log_std is not None and not LOG_STD[0] <= log_std <= LOG_STD[1]:
        raise ValueError(f"--log-std is {log_std}: give a number from {LOG_STD[0]:g} to {LOG_STD[1]:g}.")
    if policy is None:
        return fresh(told, bounds, log_std, seed)
    if Path(policy).is_dir():
        return exported(Path(policy), told, log_std)
    if ":" in policy:
        return own(policy)
    raise ValueError(
        f"There is no folder {policy}: give one with {contract.FILE}, as the main job leaves it in RUN/policy, or "
        "module:function or file.py:function that makes a policy of your own."
    )


def tried(policy: Any, name: str, segments: Segments) -> None:
    """One call of its `log_prob`. Raises ValueError where that is not what `embodied.policy.Policy` says."""
    try:
        logp = policy.log_prob(segments)
    except Exception as error:  # of any kind: it is somebody else's code
        shapes = [list(x.shape) for x in (segments.obs, segments.act) if isinstance(x, Tensor)]
        raise ValueError(
            f"log_prob of {name} cannot take obs and act {shapes} ({type(error).__name__}: {error}): mend it, or give "
            "answers about its environment."
        ) from error
    wanted = list(segments.mask.shape)
    if not isinstance(logp, Tensor) or list(logp.shape) != wanted:
        shape = list(logp.shape) if isinstance(logp, Tensor) else type(logp).__name__
        raise ValueError(f"log_prob of {name} gave {shape}: give one number per step, {wanted}.")
    if logp.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"log_prob of {name} is {str(logp.dtype).removeprefix('torch.')}, in which differences between sums over "
            "many steps are lost: make the policy float32, with .float()."
        )
    if not torch.isfinite(logp[segments.mask]).all():
        raise ValueError(f"log_prob of {name} is not finite on stored actions: mend it, or drop those segments.")
    if not logp.requires_grad:
        raise ValueError(f"log_prob of {name} does not depend on its parameters: compute it without no_grad.")
