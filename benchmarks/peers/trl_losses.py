"""trl's losses on log-probabilities from an .npz: logp, ref, mask [B,2,T], the chosen answer first. Run by
tests/embodied/test_trl.py, in trl's own environment; prints one JSON object, name -> [loss, its gradient [B,2,T]].

The trainers' own methods are called on what they would have had from a model: no text, no weights."""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

BETA, EPS, GAMMA, Z = 0.3, 0.1, 0.5, 0.2
ALONE = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
PLAIN = dict(
    model=SimpleNamespace(training=False),
    ref_model=None,
    accelerator=ALONE,
    aux_loss_enabled=False,
    precompute_ref_logps=True,
    ld_alpha=None,
    beta=BETA,
    label_smoothing=EPS,
    f_alpha_divergence_coef=0.5,
    loss_weights=[1.0],
    use_weighting=False,
    args=SimpleNamespace(discopop_tau=0.05),
    _total_train_tokens=0,
    _tp_size=1,
)


def rows(x: Tensor) -> Tensor:
    """[B,2,T] -> [2B,T], all chosen ones first."""
    return torch.cat([x[:, 0], x[:, 1]])


def outputs(logp: Tensor) -> Callable[..., SimpleNamespace]:
    nothing = torch.zeros(logp.shape)
    seen = SimpleNamespace(log_probs=logp, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
    return lambda **inputs: seen


def tokens(mask: Tensor) -> dict[str, Tensor]:
    """A prompt of one token before the answers."""
    answer = torch.cat([torch.zeros(len(mask), 1), mask], 1).long()
    return dict(input_ids=torch.ones_like(answer), attention_mask=torch.ones_like(answer), completion_mask=answer)


def dpo(logp: Tensor, ref: Tensor, mask: Tensor, loss_type: str, divergence: str = "reverse_kl") -> Tensor:
    trainer = SimpleNamespace(
        **PLAIN, loss_types=[loss_type], f_divergence_type=divergence, _metrics=defaultdict(lambda: defaultdict(list))
    )
    chosen, rejected = ref.sum(-1).T
    inputs = tokens(rows(mask)) | dict(ref_chosen_logps=chosen, ref_rejected_logps=rejected)
    return DPOTrainer._compute_loss(trainer, outputs(rows(logp)), inputs, False)


def kto(logp: Tensor, ref: Tensor, mask: Tensor, loss_type: str) -> Tensor:
    """The anchor, which trl estimates from mismatched answers, is given; both answers of a pair are rows."""
    trainer = SimpleNamespace(
        **PLAIN,
        loss_type=loss_type,
        calculate_KL=loss_type == "kto",
        desirable_weight=1.0,
        undesirable_weight=1.0,
        _compute_kl_logps=lambda model, batch: torch.full((2 * len(logp),), Z, dtype=logp.dtype),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    inputs = tokens(rows(mask)) | dict(
        label=torch.arange(2 * len(logp)) < len(logp),
        ref_logps=rows(ref).sum(-1),
        ref_KL_logps=torch.zeros(2 * len(logp), dtype=logp.dtype),
    )
    return KTOTrainer._compute_loss(trainer, outputs(rows(logp)), inputs, False)


def cpo(logp: Tensor, mask: Tensor, loss_type: str, smoothing: float = 0.0) -> Tensor:
    score = logp.sum(-1) / (mask.sum(-1) if loss_type in ("simpo", "ipo") else 1)
    trainer = SimpleNamespace(
        beta=BETA, loss_type=loss_type, label_smoothing=smoothing, simpo_gamma=GAMMA, alpha=0.0, accelerator=ALONE
    )
    return CPOTrainer.cpo_loss(trainer, *score.T)[0].mean()


def orpo(logp: Tensor, mask: Tensor) -> Tensor:
    """The odds term; the trainer subtracts what this method gives."""
    trainer = SimpleNamespace(beta=BETA, accelerator=ALONE)
    return -ORPOTrainer.odds_ratio_loss(trainer, *(logp.sum(-1) / mask.sum(-1)).T)[0].mean()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs")
    data = np.load(parser.parse_args().pairs)
    logp, ref, mask = (torch.from_numpy(data[name]) for name in ("logp", "ref", "mask"))
    plain = ["sigmoid", "hinge", "ipo", "robust", "sigmoid_norm", "nca_pair", "bco_pair", "sppo_hard", "apo_zero"]
    calls: dict[str, Callable[[Tensor], Any]] = {name: lambda x, n=name: dpo(x, ref, mask, n) for name in plain}
    calls |= {n: lambda x, n=n: dpo(x, ref, mask, "sigmoid", n) for n in ("forward_kl", "js_divergence")}
    # its clamp knows no float64
    calls["alpha_divergence"] = lambda x: dpo(x.float(), ref.float(), mask, "sigmoid", "alpha_divergence")
    calls |= {name: lambda x, n=name: kto(x, ref, mask, n) for name in ("kto", "apo_zero_unpaired")}
    calls |= {f"cpo {name}": lambda x, n=name: cpo(x, mask, n) for name in ("sigmoid", "hinge", "ipo", "simpo")}
    calls["cpo smoothed"] = lambda x: cpo(x, mask, "sigmoid", EPS)
    calls["orpo"] = lambda x: orpo(x, mask)
    found = {}
    for name, call in calls.items():
        leaf = logp.clone().requires_grad_()
        value = call(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        found[name] = [value.item(), gradient.tolist()]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
