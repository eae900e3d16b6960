"""Every direct loss that trl has, too, agrees with it: values and gradients, on pairs of all lengths.

trl lives in an environment of its own, `.venv-trl`, made from benchmarks/trl.txt the first time (1.5 GB with PyTorch's
CPU build).
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embodied import methods as m
from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.scores import log_prob, mean_log_ratio

ROOT = Path(__file__).parents[2]
B = 0.3
OURS = {
    "sigmoid": m.dpo(B),
    "hinge": m.slic(B),
    "ipo": m.ipo(B),
    "robust": m.robust_dpo(B, 0.1),
    "sigmoid_norm": m.dpo(B, mean_log_ratio),
    "nca_pair": m.nca(B),
    "bco_pair": m.bco(B),
    "sppo_hard": m.sppo_hard(B),
    "apo_zero": m.apo_zero(B),
    "forward_kl": m.f_dpo("forward_kl", B),
    "js_divergence": m.f_dpo("js", B),
    "alpha_divergence": m.f_dpo("alpha", B, 0.5),
    "kto": m.kto(B),
    "apo_zero_unpaired": m.apo_zero(B),
    "cpo sigmoid": m.cpo(B),
    "cpo hinge": replace(m.slic(B), score=log_prob, reference=False),
    "cpo ipo": replace(m.ipo(B), score=m.mean_log_prob, reference=False),
    "cpo simpo": m.simpo(B, 0.5),
    "cpo smoothed": replace(m.cpo(B), label_model=m.smooth(0.1)),
    "orpo": m.orpo(B),
}
HALF = ("kto", "apo_zero_unpaired")  # a mean over answers, of which a pair has two


class Numbers(nn.Module):
    """A policy with a number for each step, at the same mean distance from any reference that trl is told."""

    density = False

    def __init__(self, logp: Tensor) -> None:
        super().__init__()
        self.logp = nn.Parameter(logp.clone())

    def log_prob(self, segments: Segments) -> Tensor:
        return self.logp[segments.obs[:, 0, 0, 0].long()]

    def kl(self, reference: nn.Module, segments: Segments) -> Tensor:
        return 0.2 / segments.mask.sum(-1, keepdim=True).double().expand(segments.mask.shape)


@pytest.fixture(scope="module")
def pairs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    mask = np.arange(9) < rng.integers(1, 10, (64, 2, 1))
    logp, ref = (np.where(mask, -rng.exponential(0.8, mask.shape), 0.0) for _ in range(2))
    return {"logp": logp, "ref": ref, "mask": mask}


@pytest.fixture(scope="module")
def theirs(pairs, tmp_path_factory) -> dict[str, tuple[float, list[list[list[float]]]]]:
    spec = importlib.util.spec_from_file_location("peer_env", ROOT / "benchmarks/peer_env.py")
    assert spec and spec.loader
    peer_env = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer_env)
    file = tmp_path_factory.mktemp("trl") / "pairs.npz"
    np.savez(file, **pairs)
    return peer_env.run(ROOT / ".venv-trl", "trl_losses", file, pins=ROOT / "benchmarks/trl.txt")


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.timeout(1800)  # the first time pip has much to fetch
def test_trl_agrees(pairs, theirs):
    assert set(theirs) == set(OURS)
    logp, ref, mask = (torch.from_numpy(pairs[name]) for name in ("logp", "ref", "mask"))
    number = torch.arange(64, dtype=torch.float32)[:, None, None, None].expand(*mask.shape, 1)
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(64, 2)
    one = torch.ones(64)
    feedback = Feedback(Segments(number, number, mask, logp), target, one, one.long() * 0, one.bool())
    apart = {}
    for name, method in OURS.items():
        policy = Numbers(logp)
        method = replace(method, likelihood=0.0)
        loss = direct(policy, method, Numbers(ref) if method.reference else None)(feedback).mean()
        loss = loss / 2 if name in HALF else loss
        (gradient,) = torch.autograd.grad(loss, policy.logp)
        value, expected = theirs[name]
        slope = torch.where(mask, torch.tensor(expected, dtype=torch.float64), 0.0)
        apart[name] = max(abs(loss.item() - value), (gradient - slope).abs().max().item())
    assert max(apart.values()) < 1e-6, apart
    # trl itself casts these two to float32; the others agree to rounding
    assert max(v for k, v in apart.items() if k not in ("orpo", "alpha_divergence")) < 1e-9, apart
