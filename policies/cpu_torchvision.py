"""torchvision beside PyTorch's CPU build, which timm, transformers and peft import."""

from __future__ import annotations

import sys
from typing import Any

import torch

_kept: list[Any] = []  # a torch library is undone when nobody holds it any more


def ensure_torchvision() -> bool:
    """Make torchvision importable beside PyTorch's CPU build; True where that needed anything.

    The package index offers torchvision's CUDA build alone. Its compiled operators do not load beside a CPU torch,
    which it bears, but for two whose shapes it describes unasked: these are declared here, without code. So
    `torchvision.ops.nms` still fails when called, and nothing here calls it.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
    import torchvision  # noqa: F401

    return True
