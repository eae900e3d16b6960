"""What is said about features: which matters more, what there should have been more or less of, and what decided.

A statement "more of j" or "less of j" is worth what one more or less of j is worth, plus or minus weight j.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embodied.evidence.options import Options, options


def statements(possible: Tensor) -> Options:
    """possible bool [B,2D]: first the D statements "more of j", then the D "less of j"."""
    unit = torch.eye(possible.shape[-1] // 2, dtype=torch.float64)
    return options(torch.cat([unit, -unit]).expand(len(possible), -1, -1), possible)


def feature_queries(pairs: Tensor, features: int) -> Options:
    """Which of two features, int [B,2], matters more, and is more of it good or bad: four statements are possible."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError(f"pairs are {list(pairs.shape)}; name two different features in each row, [B,2]")
    asked = torch.zeros(len(pairs), features, dtype=torch.bool).scatter_(1, pairs, True)
    return statements(torch.cat([asked, asked], 1))


def critiques(found: Tensor) -> Options:
    """What can be said of a stretch that found [B,D]: more of anything, less of what there was."""
    there = found > 0
    return statements(torch.cat([torch.ones_like(there), there], 1))


def reasons(found: Tensor) -> Options:
    """Which of two stretches [B,2,D] is better, and which feature decided it: options (first, j), then (second, j).

    Only features of which one has more can decide. A comparison with its reason is so held against that feature alone,
    whatever else differs. Raises ValueError for a pair that differs in nothing.
    """
    gap = torch.diag_embed(found[:, 0] - found[:, 1])
    differs = found[:, 0] != found[:, 1]
    return options(torch.cat([gap, -gap], 1), torch.cat([differs, differs], 1))
