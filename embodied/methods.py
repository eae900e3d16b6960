"""Methods of direct alignment, as values: a score of log-probabilities, a loss, what is believed of the labels, and
what the three need to be right. `direct` (embodied/direct.py) makes an objective of one for any policy.

A named method is a function that makes one; one's own is `Method("mine", log_ratio, pairwise(f))`, and a variant is
`dataclasses.replace(dpo(), score=mean_log_ratio)`. beta, tau and eta belong to a score: what is right for a sum over
the steps is not for a mean.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from embodied.label_models import EM, LabelModel, as_given, smooth, unbias
from embodied.losses import (
    Loss,
    biased,
    hinge,
    logistic,
    noise_contrastive,
    pairwise,
    plackett_luce,
    pointwise,
    pro_ranking,
    saturating,
    scaled,
    square,
    toward,
)
from embodied.scores import (
    Divergence,
    Score,
    Steps,
    changed,
    discounted_log_prob,
    discounted_log_ratio,
    every_step,
    f_divergence,
    log_odds,
    log_prob,
    log_ratio,
    mean_log_prob,
    mean_log_ratio,
    with_length,
)

Densities = Literal["yes", "equal lengths", "no"]


@dataclass(frozen=True)
class Method:
    """What `direct` minimises: loss(score, label_model(target)) less `likelihood` times the best's log-probability."""

    name: str
    score: Score
    loss: Loss
    label_model: LabelModel = as_given
    steps: Steps = every_step
    """How much each step counts in the score."""
    likelihood: float = 0.0
    """Coefficient of the mean log-probability of a step of the best alternative, which is to rise too."""
    reference: bool = True
    """The score looks at a reference policy."""
    anchor: bool = False
    """Scores are counted from the mean KL of the policy from its reference, not from 0 (KTO)."""
    same_context: bool = True
    """All alternatives must start in one state. `replace(method, same_context=False)` is how to insist otherwise."""
    densities: Densities = "yes"
    """Whether continuous actions will do, whose log-probability has a unit: always, if the alternatives are of equal
    length, or never."""

    equal_lengths: bool = False
    """All alternatives must have as many steps, even where actions have probabilities: every step lowers their sum, so
    that the shorter one would seem the better. `replace(method, equal_lengths=False)` is how to insist otherwise."""

    def __post_init__(self) -> None:
        if not 0 <= self.likelihood < math.inf:
            raise ValueError(f"likelihood is {self.likelihood}; give a finite coefficient of at least 0")
        if self.anchor and not self.reference:
            raise ValueError(f"{self.name} counts from the KL to a reference, but has none; set reference=True")


def dpo(beta: float = 0.1, score: Score = log_ratio) -> Method:
    """Direct preference optimisation (arXiv 2305.18290). With `mean_log_ratio` it is trl's sigmoid_norm."""
    return Method("dpo", score, pairwise(logistic, beta=_above_0("beta", beta)))


def f_dpo(kind: Divergence, beta: float = 0.1, alpha: float = 0.5) -> Method:
    """DPO under another divergence from the reference than the reverse KL (arXiv 2309.16240)."""
    return replace(dpo(beta, f_divergence(kind, alpha)), name=f"f_dpo {kind}")


def cdpo(beta: float = 0.1, eps: float = 0.1) -> Method:
    """Conservative DPO: a label is taken for wrong with probability eps (Mitchell 2023)."""
    return replace(dpo(beta), name="cdpo", label_model=smooth(eps))


def robust_dpo(beta: float = 0.1, eps: float = 0.1) -> Method:
    """DPO whose mean over labels flipped with probability eps is DPO on the true ones (arXiv 2403.00409)."""
    return replace(dpo(beta), name="robust_dpo", label_model=unbias(eps))


def length_dpo(beta: float = 0.1, alpha: float = 0.01) -> Method:
    """R-DPO: what `alpha` a step earns by length alone is not learned (arXiv 2403.19159)."""
    score = with_length(log_ratio, alpha / _above_0("beta", beta))
    return replace(dpo(beta, score), name="length_dpo")


def dense_dpo(beta: float = 0.5, gamma: float = 5.0, unchanged: float = 1.0, window: int | None = None) -> Method:
    """RLHF-V's DPO from corrections: steps in which the pair differs count gamma times (arXiv 2312.00849).

    unchanged = 0 leaves only what was changed. beta and gamma are remembered as the paper's and not checked.
    """
    return replace(dpo(beta, mean_log_ratio), name="dense_dpo", steps=changed(gamma, unchanged, window))


def ipo(tau: float = 0.1, score: Score = mean_log_ratio) -> Method:
    """Identity preference optimisation (arXiv 2310.12036): a certain preference asks for a finite gap, 1/(2 tau)."""
    return Method("ipo", score, pairwise(square, tau=_above_0("tau", tau)))


def slic(beta: float = 0.1) -> Method:
    """The hinge of SLiC (arXiv 2305.10425) on log-ratios: silent once the gap is 1/beta."""
    return Method("slic", log_ratio, pairwise(hinge, beta=_above_0("beta", beta)))


def kto(beta: float = 0.1, good: float = 1.0, bad: float = 1.0) -> Method:
    """Kahneman-Tversky optimisation (arXiv 2402.01306): each alternative alone, good or bad, no pairs needed.

    Its anchor is the policy's exact KL from the reference at the stored states, summed over a segment; the paper
    estimates it from answers put to other prompts, which for segments, made of states of their own, means nothing.
    """
    loss = pointwise(saturating, good=good, bad=bad, beta=_above_0("beta", beta))
    return Method("kto", log_ratio, loss, anchor=True, same_context=False)


def apo_zero(beta: float = 0.1) -> Method:
    """Anchored preference optimisation (arXiv 2408.06266): KTO's loss, counted from the reference itself."""
    return Method("apo_zero", log_ratio, pointwise(saturating, beta=_above_0("beta", beta)), same_context=False)


def bco(beta: float = 0.1) -> Method:
    """Binary classifier optimisation (arXiv 2404.04656), as trl's bco_pair: without its moving shift of the reward."""
    return Method("bco", log_ratio, pointwise(logistic, beta=_above_0("beta", beta)), same_context=False)


def nca(beta: float = 0.1) -> Method:
    """Noise contrastive alignment (arXiv 2402.05369); its targets are shares that sum to 1."""
    return Method("nca", log_ratio, noise_contrastive(_above_0("beta", beta)))


def sppo(eta: float = 1000.0) -> Method:
    """Self-play (arXiv 2405.00675): log-ratios to the policy before go toward eta times the win rate above 1/2."""
    return Method("sppo", log_ratio, toward(_above_0("eta", eta)))


def sppo_hard(beta: float = 0.001) -> Method:
    """The same for hard labels, as trl: log-ratios go toward +-1/(2 beta); twice `sppo` with eta = 1/beta."""
    return Method("sppo_hard", log_ratio, pointwise(square, tau=_above_0("beta", beta)))


def rankings(beta: float = 0.1) -> Method:
    """DPO on rankings of any length, ties included (Plackett and Luce; arXiv 2305.18290, appendix A.3)."""
    return Method("rankings", log_ratio, scaled(plackett_luce, _above_0("beta", beta)))


def pro(likelihood: float = 0.05) -> Method:
    """Preference ranking optimisation (arXiv 2306.17492): rewards as targets, whose gaps are the temperatures.

    The official code weighs the *sum* of the best's log-probabilities by .05 (K-1)^2; here it is the mean, as ever.
    """
    return Method("pro", mean_log_prob, pro_ranking, likelihood=likelihood, reference=False)


def cpo(beta: float = 0.1, likelihood: float = 1.0) -> Method:
    """Contrastive preference optimisation (arXiv 2401.08417): no reference, a likelihood term instead."""
    loss = pairwise(logistic, beta=_above_0("beta", beta))
    return Method("cpo", log_prob, loss, likelihood=likelihood, reference=False, densities="equal lengths")


def simpo(beta: float = 2.0, margin: float = 0.5) -> Method:
    """SimPO (arXiv 2405.14734): mean log-probabilities and a margin, no reference."""
    return Method(
        "simpo", mean_log_prob, pairwise(logistic, beta=_above_0("beta", beta), margin=margin), reference=False
    )


def orpo(weight: float = 0.1) -> Method:
    """ORPO (arXiv 2403.07691): likelihood, and `weight` times the logistic loss of the odds. Probabilities only."""
    _above_0("weight", weight)
    odds = pairwise(logistic)

    def loss(score: Tensor, target: Tensor) -> Tensor:
        return weight * odds(score, target)

    return Method("orpo", log_odds, loss, likelihood=1.0, reference=False, densities="no")


def cpl(alpha: float = 0.1, bias: float = 0.5, gamma: float = 1.0) -> Method:
    """Contrastive preference learning (arXiv 2310.13639): people compare regret, so segments may start anywhere."""
    loss = pairwise(biased, beta=_above_0("alpha", alpha), bias=_bias(bias))
    score = discounted_log_prob(gamma)
    return Method(
        "cpl", score, loss, reference=False, same_context=False, densities="equal lengths", equal_lengths=True
    )


def cpl_kl(alpha: float = 0.2, bias: float = 0.75, gamma: float = 1.0) -> Method:
    """CPL against a reference: with bias 1 and gamma 1 it is DPO."""
    loss = pairwise(biased, beta=_above_0("alpha", alpha), bias=_bias(bias))
    return Method("cpl_kl", discounted_log_ratio(gamma), loss, same_context=False)


def em_preference(method: Method, em: EM) -> Method:
    """LCPO, later RE-PO (arXiv 2509.24159): the method, with each label as right as its annotator is reliable.

    Who fits calls `em.update` now and then; docs/direct.md shows the loop.
    """
    return replace(method, name=f"em {method.name}", label_model=em)


def _above_0(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; give a finite number above 0")
    return value


def _bias(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"bias is {value}; give a number above 0 and at most 1, where there is none")
    return value
