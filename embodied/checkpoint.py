"""The whole state of a run in a folder, saved atomically: tensors in safetensors, the rest in JSON, nothing pickled."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from embodied import atomic

VERSION = 1
KEPT = 2
_ARRAYS, _STATE = "arrays.safetensors", "state.json"


@runtime_checkable
class Stateful(Protocol):
    """torch's protocol. A state nests dict, list and tuple of tensors, numpy arrays, numbers, text, bool, None."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, or is not of these parts; the sentence names the part and the mend."""


def save(folder: Path, step: int, **parts: Stateful | np.random.Generator) -> Path:
    """Save all parts as `folder/step-XXXXXXXX`, keep the last two; killed at any instant, the one before is loadable.

    A part may have `fingerprint() -> str`, which `load` compares. Raises CheckpointError for a state that holds
    anything else than `Stateful` says, a step before the latest, a full disk (then the ones before it are whole).
    """
    folder = Path(folder)
    newest = latest(folder)
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise CheckpointError(f"step is {step!r}; give a whole number, 0 or more")
    if newest is not None and step < newest:
        raise CheckpointError(
            f"{folder} already holds step {newest}, and step {step} would be taken for older; choose another folder"
        )
    if not parts:
        raise CheckpointError(f"{folder}: nothing to save; name the parts, as in save(folder, step, policy=policy)")
    arrays: dict[str, Tensor] = {}
    saved = {
        name: {"fingerprint": _fingerprint(part), "tree": _encode(_state(name, part), name, arrays)}
        for name, part in parts.items()
    }
    text = json.dumps({"version": VERSION, "step": step, "parts": saved})
    path = folder / f"step-{step:08d}"
    temporary = path.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary.mkdir()
        atomic.write(temporary / _ARRAYS, safetensors.torch.save(arrays))
        atomic.write(temporary / _STATE, text.encode())
        if path.exists():
            path.rename(path.with_suffix(".bak"))
        temporary.rename(path)
        atomic.sync_folder(folder)
        for old in list(_whole(folder).values())[:-KEPT]:
            # Renamed first, so that a kill while deleting leaves no folder that looks whole.
            old.rename(old.with_suffix(".old"))
        _sweep(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(atomic.explain(error, path)) from error
    return path


def load(folder: Path, **parts: Stateful | np.random.Generator) -> int:
    """Put the latest checkpoint's state into the parts and return its step; 0, and no part touched, if there is none.

    Parts that were saved and are not asked for stay where they are. Raises CheckpointError for a damaged checkpoint, a
    part that is missing, of another fingerprint (another environment, say), or of other names or shapes; all of these
    are checked before the first part is touched.
    """
    step = latest(folder)
    if step is None:
        return 0
    path = _whole(Path(folder))[step]
    saved = _read(path)
    states = {}
    for name, part in parts.items():
        if name not in saved:
            raise CheckpointError(
                f"{path} has no part {name!r}, it holds {', '.join(sorted(saved))}; ask for these, or save it too"
            )
        (theirs, state), ours = saved[name], _fingerprint(part)
        if theirs != ours:
            raise CheckpointError(
                f"checkpoint {path} is of {theirs or 'something without a fingerprint'}, this {name} is "
                f"{ours or 'without one'}; use the settings it was saved with, or another folder"
            )
        states[name] = state
        if problem := _misfit(part, state):
            raise CheckpointError(f"{path} does not fit part {name!r}: {problem}; build it as it was when it was saved")
    for name, part in parts.items():
        try:
            if isinstance(part, np.random.Generator):
                part.bit_generator.state = states[name]
            else:
                part.load_state_dict(states[name])
        except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} does not fit part {name!r}: {error}; build it as it was when it was saved"
            ) from error
    return step


def latest(folder: Path) -> int | None:
    """The step of the newest whole checkpoint, or None."""
    return max(_whole(Path(folder)), default=None)


def _whole(folder: Path) -> dict[int, Path]:
    """Step -> folder, in the order of steps. A .bak counts while the one that replaces it is not there."""
    found: dict[int, Path] = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(r"step-(\d{8,})(\.bak)?", entry.name):
            step = int(match[1])
            found[step] = min(entry, found.get(step, entry))
    return dict(sorted(found.items()))


def _sweep(folder: Path) -> None:
    """Remove what a kill left."""
    for path in _whole(folder).values():
        if path.suffix == ".bak":
            path.rename(path.with_suffix(""))
    for entry in folder.iterdir():
        if re.fullmatch(r"step-\d{8,}\.(tmp|old|bak)", entry.name):
            shutil.rmtree(entry)


def _fingerprint(part: object) -> str | None:
    own = getattr(part, "fingerprint", None)
    return None if own is None else str(own())


def _state(name: str, part: object) -> Any:
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if isinstance(part, Stateful):
        return part.state_dict()
    raise CheckpointError(
        f"part {name!r} is a {type(part).__name__}; give what has state_dict and load_state_dict, or a numpy Generator"
    )


def _encode(value: object, where: str, arrays: dict[str, Tensor]) -> Any:
    """JSON for a nest: plain values as they are, a container or array as an object whose one key says which."""
    match value:
        case None | bool() | str():
            return value
        case np.ndarray() | np.generic():
            try:
                tensor = torch.from_numpy(np.array(value, order="C"))
            except (TypeError, ValueError):
                raise CheckpointError(f"{where} is an array of {value.dtype}; save numbers or bool") from None
            return {"array" if isinstance(value, np.ndarray) else "scalar": _put(tensor, where, arrays)}
        case int() | float():
            return value
        case Tensor():
            # A copy of its own, because tied weights share memory, which safetensors refuses.
            if value.layout is not torch.strided or value.is_quantized:
                raise CheckpointError(f"{where} is a sparse or quantized tensor; save it dense")
            tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {"tensor": _put(tensor, where, arrays)}
        case list() | tuple():
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [_encode(v, f"{where}[{i}]", arrays) for i, v in enumerate(value)]}
        case Mapping():
            for key in value:
                if isinstance(key, bool) or not isinstance(key, int | str):
                    raise CheckpointError(f"{where} has the key {key!r}; use text or whole numbers")
            # Pairs, because JSON would make text of an optimiser's whole-number keys.
            return {"dict": [[key, _encode(v, f"{where}[{key!r}]", arrays)] for key, v in value.items()]}
    raise CheckpointError(
        f"{where} is a {type(value).__name__}, which cannot be saved; give tensors, arrays, numbers, text, bool or None"
    )


def _put(tensor: Tensor, where: str, arrays: dict[str, Tensor]) -> str:
    if tensor.is_complex():
        raise CheckpointError(f"{where} is complex; save view_as_real of it")
    name = where if where not in arrays else f"{where} #{len(arrays)}"
    arrays[name] = tensor
    return name


def _decode(tree: Any, arrays: Mapping[str, Tensor]) -> Any:
    match tree:
        case {"dict": pairs}:
            return {key: _decode(value, arrays) for key, value in pairs}
        case {"list": values}:
            return [_decode(value, arrays) for value in values]
        case {"tuple": values}:
            return tuple(_decode(value, arrays) for value in values)
        case {"tensor": name}:
            return arrays[name]
        case {"array": name}:
            return arrays[name].numpy()
        case {"scalar": name}:
            return arrays[name].numpy()[()]
    return tree


def _read(path: Path) -> dict[str, tuple[str | None, Any]]:
    """Part -> fingerprint, state."""
    mend = f"delete {path} to go on from the checkpoint before it"
    try:
        state = json.loads((path / _STATE).read_bytes())
        if state["version"] > VERSION:
            raise CheckpointError(
                f"{path} has version {state['version']}, this program reads up to {VERSION}; update the program"
            )
        arrays = safetensors.torch.load((path / _ARRAYS).read_bytes())
        return {name: (part["fingerprint"], _decode(part["tree"], arrays)) for name, part in state["parts"].items()}
    except (OSError, SafetensorError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({type(error).__name__}: {error}); {mend}") from error


def _misfit(part: object, state: Any) -> str:
    """What torch would find only after it had overwritten half of a module, or not at all (an optimiser's moments)."""
    try:
        if isinstance(part, np.random.Generator):
            theirs, ours = state["bit_generator"], part.bit_generator.state["bit_generator"]
            return "" if theirs == ours else f"it is a {theirs} generator, here {ours}"
        if isinstance(part, torch.nn.Module):
            own = part.state_dict()
            if own.keys() != state.keys():
                return f"it has {_few(state.keys() - own.keys())} more and {_few(own.keys() - state.keys())} less"
            looks = {key: (_look(state[key]), _look(own[key])) for key in own}
        elif isinstance(part, torch.optim.Optimizer):
            params = [param for group in part.param_groups for param in group["params"]]
            order = [index for group in state["param_groups"] for index in group["params"]]
            if len(params) != len(order):
                return f"it is of {len(order)} parameters, here {len(params)}"
            looks = {
                f"{key} of parameter {index}": (_look(value), _look(param))
                for index, param in zip(order, params, strict=True)
                for key, value in state["state"].get(index, {}).items()
                if key.startswith(("exp_avg", "max_exp_avg", "momentum_buffer"))
            }
        else:
            return ""
    except (KeyError, TypeError, AttributeError):
        return "it was saved from something of another kind"
    return "; ".join(f"{key} is {theirs}, here {ours}" for key, (theirs, ours) in looks.items() if theirs != ours)


def _look(value: object) -> str:
    if not isinstance(value, Tensor):
        return "no tensor"
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _few(keys: Any) -> str:
    return ", ".join(sorted(map(str, keys))[:3]) or "nothing"
