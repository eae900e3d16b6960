"""A reward that somebody wrote down, taken as evidence of what they want, not as the reward itself.

Inverse reward design (Hadfield-Menell et al. 2017, arXiv 1711.02827): a designer writes the proxy whose best
policy does well, under the true reward, where they tried it; of places they did not try, it says nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from embodied.evidence.options import Options, options
from embodied.planning import Tables, evaluate, expected_features, optimal
from embodied.records import Array


def designs(world: Tables, proxies: Array) -> Tensor:
    """What the best policy for each of the proxies [N,D] is expected to find from each state, [N,S,D] float64."""
    phi = expected_features(world)
    policies = optimal(world, np.einsum("sad,nd->nsa", phi, proxies)).policy()
    return torch.from_numpy(evaluate(world, policies, np.broadcast_to(phi, (len(proxies), *phi.shape))))


def proxy_choices(found: Tensor, tried: Tensor) -> Options:
    """Which of N proxies a designer writes who tries it from state `tried` [B], [B,N,D]: P(proxy) is proportional to
    e^(true weights . what its policy finds there). The N candidates are the normaliser: what could have been written.
    """
    return options(found[:, tried].transpose(0, 1))
