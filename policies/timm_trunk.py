"""Trunks trained on photographs, from timm: a name and a file of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from policies.cpu_torchvision import ensure_torchvision
from policies.encoders import FrozenTrunk, TrunkError

Colours = tuple[float, float, float]
SIDE = 112  # pixels, of models that take any number


def timm_trunk(
    name: str = "resnet18",
    weights: Path | None = None,
    *,
    pretrained: bool = True,
    side: int | None = None,
    seed: int = 0,
    mean: Colours | None = None,
    std: Colours | None = None,
) -> FrozenTrunk:
    """timm's model of this name without its classifier, frozen: pooled features of frames of side x side pixels.

    weights: a safetensors file with timm's names of layers, read from disk; without one, those of timm's hub are
    downloaded. `pretrained=False` is a random trunk drawn by the seed, a baseline and nothing else. side: by default
    that of a model which takes no other (most vision transformers), else 112. Frames in [0,1] are standardised by mean
    and std per colour, by default those that timm trained the model with; (0, 0, 0) and (1, 1, 1) leave them, as in the
    published RAPL (arXiv 2310.07932). Raises TrunkError for an unknown name, a file that is not of this model, a side
    that it does not take, and where no weights can be had.
    """
    timm = _timm()
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0]}*")[:5]) or "resnet18, vit_small_patch16_224"
        raise TrunkError(
            f"timm {timm.__version__} has no model {name!r}; it has {near} and more, see timm.list_models()"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = timm.create_model(name, num_classes=0)
    if weights is not None or pretrained:
        _fill(net, name, _downloaded(name) if weights is None else Path(weights))
    trained = net.pretrained_cfg
    mean, std = (trained["mean"] if mean is None else mean), (trained["std"] if std is None else std)
    if not (len(mean) == len(std) == 3 and np.isfinite([*mean, *std]).all() and min(std) > 0):
        raise TrunkError(f"mean {mean} and std {std}; give three finite numbers each, the latter above 0")
    if side is not None and side != int(side):
        raise TrunkError(f"the side is {side}; give a whole number of pixels")
    if side is None:
        side = trained["input_size"][-1] if trained.get("fixed_input_size") else SIDE
    colours = {"mean": [float(x) for x in mean], "std": [float(x) for x in std]}
    settings = {"kind": "timm", "name": name, "side": side, **colours}
    whole = Standardised(net, mean, std)
    return FrozenTrunk(whole, _size(whole, name, side), side, settings)


class Standardised(nn.Module):
    """A network behind the standardisation of colours that it was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32).reshape(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """float [B,3,H,W] in [0,1] -> [B,size]."""
        return self.net((frames - self.mean) / self.std)


def built(settings: Mapping[str, Any]) -> nn.Module:
    """The network of these settings, its weights yet to be filled in. Raises KeyError for a name that is not timm's
    own: a file of somebody's may name a folder, or a place to load from."""
    if not _timm().is_model(settings["name"]):
        raise KeyError(f"timm has no model {settings['name']!r}")
    return Standardised(_timm().create_model(settings["name"], num_classes=0), settings["mean"], settings["std"])


def _fill(net: nn.Module, name: str, path: Path) -> None:
    """What the file has beyond this network, a classifier say, is left there."""
    mend = f"give a safetensors file of timm's {name}, or take the self-trained trunk"
    try:
        found = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrunkError(f"weights {path} cannot be read ({error}); {mend}") from error
    own = net.state_dict()
    lost = [key for key in own if key not in found and not key.endswith("num_batches_tracked")]
    odd = [key for key in own if key in found and found[key].shape != own[key].shape]
    if lost or odd:
        wrong = f"lack {lost[0]} and {len(lost) - 1} more" if lost else f"have {odd[0]} as {list(found[odd[0]].shape)}"
        raise TrunkError(f"weights {path} {wrong}, so they are not of {name}; {mend}")
    net.load_state_dict({key: found[key] for key in own if key in found}, strict=False)


def _downloaded(name: str) -> Path:
    """The hub's own file, in the cache of huggingface_hub. Not by timm, which falls back to a pickle."""
    from huggingface_hub import hf_hub_download

    mend = (
        "give them as a safetensors file (`weights`; on the command line --trunk NAME=FILE), or take the self-trained "
        "trunk, which needs none"
    )
    where = _timm().get_pretrained_cfg(name)
    if where is None or not where.hf_hub_id:
        raise TrunkError(f"timm knows no weights for {name}; {mend}")
    try:
        return Path(hf_hub_download(where.hf_hub_id, where.hf_hub_filename or "model.safetensors"))
    except Exception as error:  # of the network, the hub or its cache: too many kinds to name
        said = str(error).splitlines()[0]
        raise TrunkError(
            f"the weights of {name} cannot be downloaded ({type(error).__name__}: {said}); {mend}"
        ) from error


def _size(net: nn.Module, name: str, side: int) -> int:
    """How many numbers it makes: what it calls `num_features` may be those before the last layers."""
    try:
        with torch.no_grad():
            return int(net.eval()(torch.zeros(1, 3, side, side)).shape[-1])
    except (AssertionError, RuntimeError, ValueError) as error:
        raise TrunkError(
            f"{name} does not take {side} x {side} pixels ({error}); give the side that it was made for"
        ) from error


def _timm() -> Any:
    """timm, imported when it is first needed: it takes a second or two."""
    ensure_torchvision()
    import timm

    return timm
