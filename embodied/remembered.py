"""Log-probabilities of a policy that does not change: each computed once, and found again by what was done.

memory = Remembered(policy)
memory.load(path)                               # what earlier runs found, if there is such a file
objective = direct(learner, dpo(), memory)
memory.save(path)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from embodied import atomic
from embodied.feedback import Segments
from embodied.policy import Policy
from embodied.records import Array

VERSION = "1"


class RememberedError(ValueError):
    """A file of log-probabilities that is damaged, of another policy, or cannot be written; the sentence says which."""


class Remembered:
    """A policy that does not change: each alternative's log-probabilities are computed once.

    An alternative is known by what its mask selects, the observations and actions of its steps, whatever it is padded
    to and held against. Of observations in a dict each tensor [B,1,...], shared, or [B,K,...] counts whole, or where
    the dict's bool `NAME_mask` is true (`prompt` and `prompt_mask`, say).
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.density = getattr(policy, "density", False)
        self._known: dict[bytes, Tensor] = {}  # on the CPU, steps alone

    def __len__(self) -> int:
        """How many alternatives are known."""
        return len(self._known)

    @torch.no_grad()
    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T], 0 on padding; never differentiated. The policy is asked about rows with an unknown alternative."""
        keys = list(_keys(segments))
        if new := [b for b, row in enumerate(keys) if any(key not in self._known for key in row)]:
            found, mask = self.policy.log_prob(segments[new]).cpu(), segments.mask[new].cpu()
            for n, b in enumerate(new):
                for k, key in enumerate(keys[b]):
                    self._known.setdefault(key, found[n, k][mask[n, k]])
        mask = segments.mask
        if not keys:
            return torch.zeros(mask.shape, device=mask.device)
        steps = torch.cat([self._known[key] for row in keys for key in row]).to(mask.device)
        return torch.zeros(mask.shape, dtype=steps.dtype, device=mask.device).masked_scatter(mask, steps)

    def forget(self) -> None:
        """Nothing is known any more: the policy has changed, or its segments will not come again."""
        self._known.clear()

    def save(self, path: Path) -> None:
        """What is known as one safetensors file, written whole or not at all. Raises RememberedError for a full disk,
        TypeError for a policy without a `state_dict`, which says whose log-probabilities they are."""
        keys = b"".join(self._known)
        steps = list(self._known.values())
        arrays = {
            "keys": torch.frombuffer(bytearray(keys), dtype=torch.uint8) if keys else torch.zeros(0, dtype=torch.uint8),
            "steps": torch.tensor([len(x) for x in steps], dtype=torch.int64),
            "log_prob": torch.cat(steps) if steps else torch.zeros(0),
        }
        about = {"version": VERSION, "policy": weights_fingerprint(self.policy), "content": _digest(arrays)}
        try:
            atomic.write(path, safetensors.torch.save(arrays, about))
        except OSError as error:
            raise RememberedError(atomic.explain(error, path)) from error

    def load(self, path: Path) -> int:
        """Add what a file knows, and return how many alternatives that is; 0 if there is no file.

        Raises RememberedError for a damaged file and for one of other weights, TypeError as `save` does.
        """
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as file:
                about, arrays = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            keys, steps, logp = (arrays[name] for name in ("keys", "steps", "log_prob"))
            theirs, version = about["policy"], about["version"]
            if version != VERSION:
                raise RememberedError(f"{path} has version {version}, this program reads {VERSION}; delete the file")
            if about["content"] != _digest(arrays):
                raise RememberedError(f"{path} is damaged: its content is not what was written; delete the file")
            known = [bytes(key) for key in keys.reshape(-1, 32).numpy()]
            parts = torch.split(logp, steps.tolist())
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise RememberedError(
                f"{path} is no whole file of log-probabilities ({type(error).__name__}: {error}); delete it, and they "
                "are worked out again"
            ) from error
        if (ours := weights_fingerprint(self.policy)) != theirs:
            raise RememberedError(
                f"{path} is of a policy with weights {theirs[:12]}, this one has {ours[:12]}; give the policy that it "
                "was written for, or another file"
            )
        self._known.update(zip(known, (part.clone() for part in parts), strict=True))
        return len(known)


def weights_fingerprint(policy: object) -> str:
    """The hash of all tensors of its `state_dict`, their names and the policy's class; random streams do not count.

    Raises TypeError for a policy without a `state_dict`.
    """
    if not hasattr(policy, "state_dict"):
        raise TypeError(
            f"{type(policy).__name__} has no state_dict, so nobody can tell whose log-probabilities these are; add one"
        )
    state = policy.state_dict()
    return _digest({name: x for name, x in state.items() if isinstance(x, Tensor)}, type(policy).__name__)


def _digest(arrays: dict[str, Tensor], about: str = "") -> str:
    total = hashlib.blake2b(about.encode(), digest_size=32)
    for name in sorted(arrays):
        x = arrays[name]
        total.update(f"{name} {x.dtype} {list(x.shape)}".encode())
        total.update(_bytes(x).numpy().data)
    return total.hexdigest()


def _bytes(x: Tensor) -> Tensor:
    """uint8 [...,N]: of any dtype, also those that numpy has not."""
    return x.detach().cpu().contiguous().unsqueeze(-1).view(torch.uint8)


def _keys(segments: Segments) -> Iterator[list[bytes]]:
    """Of each row, the keys of its K alternatives."""
    rows, alternatives = segments.mask.shape[:2]
    parts = [(segments.act, segments.mask)]
    if isinstance(segments.obs, dict):
        whole = torch.ones(rows, 1, dtype=torch.bool)
        for name in sorted(segments.obs):
            if not name.endswith("_mask"):
                parts.append((segments.obs[name], segments.obs.get(f"{name}_mask", whole)))
    else:
        parts.append((segments.obs, segments.mask))
    told: list[tuple[bytes, Array, Array, bool]] = []
    for x, mask in parts:
        select = mask.detach().cpu().numpy()
        about = f"{x.dtype} {list(x.shape[select.ndim :])}".encode()
        told.append((about, _bytes(x).numpy(), select, bool(select.all())))
    for b in range(rows):
        row = []
        for k in range(alternatives):
            key = hashlib.blake2b(digest_size=32)
            for about, bytes_of, select, everything in told:
                # Shared by the alternatives where there is one for all of them.
                content = bytes_of[b, k if bytes_of.shape[1] > 1 else 0]
                if not everything:
                    content = content[select[b, k if select.shape[1] > 1 else 0]]
                key.update(about + len(content).to_bytes(8, "little"))
                key.update(content.tobytes())
            row.append(key.digest())
        yield row
