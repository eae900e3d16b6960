"""Direct alignment: optima in closed form, what is refused, a reference that is asked once, and exact resumption."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embodied import methods as m
from embodied.direct import MixedContexts, direct
from embodied.feedback import Feedback, Segments
from embodied.fit import fit
from embodied.label_models import EM
from embodied.losses import pairwise
from embodied.methods import Method
from embodied.planning import expected_features, uniform_policy
from embodied.regret import regret
from embodied.scores import log_ratio, mean_log_ratio
from embodied.walks import answered, labels, walks
from envs.delivery import board
from policies.gaussian import GaussianPolicy
from policies.table import SoftmaxTable

HOME = board()
ARMS = 5
REFERENCE = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
REWARD = torch.tensor([0.0, 0.5, -0.7, 1.2, 0.3], dtype=torch.float64)


def bandit(prefer: Tensor, law: Tensor = REFERENCE) -> Feedback:
    """Every pair of arms with the probability that both are drawn, prefer [A,A] the chance that the row's wins."""
    pairs = torch.cartesian_prod(torch.arange(ARMS), torch.arange(ARMS))
    rows = len(pairs)
    act = pairs.double()[:, :, None, None]
    mask = torch.ones(rows, 2, 1).bool()
    first = prefer[pairs[:, 0], pairs[:, 1]]
    segments = Segments(torch.zeros_like(act), act, mask, torch.zeros(rows, 2, 1))
    weight = law[pairs].prod(-1)
    target = torch.stack([first, 1 - first], -1)
    return Feedback(segments, target, weight, torch.zeros(rows).long(), torch.ones(rows).bool())


def optimum(method: Method, data: Feedback) -> Tensor:
    """The policy [A] that minimises the expected loss, from the reference."""
    policy = SoftmaxTable(REFERENCE.log()[None])
    objective = direct(policy, method, copy.deepcopy(policy) if method.reference else None)
    opt = torch.optim.LBFGS(policy.parameters(), max_iter=2000, tolerance_grad=1e-13, tolerance_change=1e-15)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = (data.weight * objective(data)).sum()
        loss.backward()
        return loss

    for _ in range(5):
        opt.step(closure)
    return policy.logits.detach().softmax(-1)[0]


BRADLEY_TERRY = torch.sigmoid(REWARD[:, None] - REWARD)


@pytest.mark.parametrize("method", [m.dpo(0.4), m.cpl_kl(0.4, bias=1.0), m.rankings(0.4)], ids=lambda x: x.name)
def test_dpo_finds_the_optimum_under_the_kl(method):
    data = bandit(BRADLEY_TERRY)
    if method.name == "rankings":  # of pairs: only the order counts, so each is given both ways, weighted
        ways = [replace(data, target=t, weight=data.weight * data.target[:, k]) for k, t in enumerate(eyes(data))]
        data = Feedback(
            Segments(*(torch.cat([getattr(w.segments, f) for w in ways]) for f in ("obs", "act", "mask", "log_prob"))),
            *(torch.cat([getattr(w, f) for w in ways]) for f in ("target", "weight", "annotator", "same_context")),
        )
    wanted = (REFERENCE.log() + REWARD / 0.4).softmax(-1)
    assert torch.allclose(optimum(method, data), wanted, atol=1e-8)


def eyes(data: Feedback) -> list[Tensor]:
    return [torch.eye(2, dtype=torch.float64)[k].expand(len(data), 2) for k in (0, 1)]


def test_ipo_finds_the_exponential_of_the_win_rate():
    prefer = torch.rand(ARMS, ARMS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prefer = (prefer - prefer.T + 1) / 2
    wanted = (REFERENCE.log() + (prefer @ REFERENCE) / 0.3).softmax(-1)
    assert torch.allclose(optimum(m.ipo(0.3), bandit(prefer)), wanted, atol=1e-8)


@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl", "js", "alpha"])
def test_an_f_divergence_has_the_reward_for_its_derivative_up_to_a_constant(kind):
    beta = 0.8
    found = optimum(m.f_dpo(kind, beta), bandit(BRADLEY_TERRY))
    ratio = found / REFERENCE
    slope = {
        "reverse_kl": ratio.log(),
        "forward_kl": -1 / ratio,
        "js": (ratio / (1 + ratio)).log(),
        "alpha": -2 * ratio**-0.5,
    }[kind]
    rest = beta * slope - REWARD
    assert (rest - rest.mean()).abs().max() < 1e-6


def test_without_a_reference_the_mean_score_fits_the_preferences_themselves():
    found = optimum(m.simpo(beta=1.0, margin=0.0), bandit(BRADLEY_TERRY))
    assert torch.allclose(found, REWARD.softmax(-1), atol=1e-7)


def test_labels_that_are_turned_round_at_a_known_rate_are_read_through():
    noisy = 0.8 * BRADLEY_TERRY + 0.2 * BRADLEY_TERRY.T
    wanted = optimum(m.dpo(0.4), bandit(BRADLEY_TERRY))
    assert torch.allclose(optimum(m.robust_dpo(0.4, 0.2), bandit(noisy)), wanted, atol=1e-7)
    assert (optimum(m.dpo(0.4), bandit(noisy)) - wanted).abs().max() > 0.1


# --- any policy


def arm_pairs(rows: int = 24, steps: int = 6, seed: int = 0) -> Feedback:
    gen = torch.Generator().manual_seed(seed)
    obs, act = torch.randn(rows, 2, steps, 3, generator=gen), torch.randn(rows, 2, steps, 2, generator=gen)
    segments = Segments(obs, act, torch.ones(rows, 2, steps).bool(), torch.zeros(rows, 2, steps))
    first = (act[:, 0].sum((1, 2)) > act[:, 1].sum((1, 2))).float()
    one = torch.ones(rows)
    return Feedback(segments, torch.stack([first, 1 - first], -1), one, one.long() * 0, one.bool())


def gaussian(seed: int = 0) -> GaussianPolicy:
    return GaussianPolicy(3, 2, seed=seed, hidden=(16,), low=-3, high=3)


LEGAL = [
    m.dpo(),
    m.ipo(),
    m.slic(),
    m.cdpo(),
    m.robust_dpo(),
    m.length_dpo(),
    m.f_dpo("js"),
    m.dense_dpo(),
    m.kto(),
    m.apo_zero(),
    m.bco(),
    m.nca(),
    m.sppo(1.0),
    m.sppo_hard(1.0),
    m.rankings(),
    m.pro(),
    m.cpo(),
    m.simpo(),
    m.cpl(),
    m.cpl_kl(),
    m.em_preference(m.dpo(), EM()),
]


@pytest.mark.parametrize("method", LEGAL, ids=lambda x: x.name)
def test_a_gaussian_policy_learns_to_prefer_what_was_preferred(method):
    """A few steps on few pairs: the policy's implied scores agree with the labels, and only the policy has moved."""
    feedback, policy = arm_pairs(), gaussian()
    reference = copy.deepcopy(policy)
    before = copy.deepcopy(reference.state_dict())
    objective = direct(policy, method, reference)
    opt = torch.optim.Adam(policy.parameters(), lr=0.01)
    report = fit(objective, feedback, opt, steps=150, batch=24, rng=np.random.default_rng(0))
    assert report.losses[-1] < report.losses[0]
    score = objective.score(feedback.segments)
    agree = (score.argmax(-1) == feedback.target.argmax(-1)).float().mean()
    assert agree >= 0.9
    for name, tensor in reference.state_dict().items():
        assert name == "_extra_state" or torch.equal(tensor, before[name])


def test_without_a_reference_the_policy_as_it_was_is_taken():
    feedback, policy = arm_pairs(), gaussian()
    kept = copy.deepcopy(policy)
    theirs, ours = direct(policy, m.dpo(), kept), direct(policy, m.dpo())
    assert torch.allclose(ours(feedback), torch.full((24,), 2.0).log())
    fit(ours, feedback, torch.optim.Adam(policy.parameters()), steps=3, batch=8, rng=np.random.default_rng(0))
    assert torch.equal(ours(feedback), theirs(feedback))


def test_fit_a_then_fit_b_is_fit_a_and_b():
    feedback, ends = arm_pairs(), []
    for parts in ((6,), (2, 4)):
        policy, rng = gaussian(), np.random.default_rng(3)
        objective = direct(policy, m.kto(), gaussian(1))
        opt = torch.optim.Adam(policy.parameters(), lr=0.01)
        for steps in parts:
            fit(objective, feedback, opt, steps=steps, batch=5, rng=rng)
        ends.append([p.detach().clone() for p in policy.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


class Counted(nn.Module):
    """A policy that counts the rows it was asked about."""

    density = True

    def __init__(self, policy: GaussianPolicy) -> None:
        super().__init__()
        self.policy, self.rows = policy, 0

    def log_prob(self, segments: Segments) -> Tensor:
        self.rows += len(segments)
        return self.policy.log_prob(segments)


def test_the_reference_is_asked_once_about_each_row():
    feedback, policy, reference = arm_pairs(), gaussian(), Counted(gaussian(1))
    objective = direct(policy, m.dpo(), reference)
    opt = torch.optim.SGD(policy.parameters(), lr=0.0)
    fit(objective, feedback, opt, steps=30, batch=7, rng=np.random.default_rng(0))
    assert reference.rows == 24
    order = torch.randperm(24)
    fresh = direct(policy, m.dpo(), gaussian(1))
    assert torch.allclose(objective(feedback[order]), fresh(feedback)[order])
    assert reference.rows == 24


def test_rows_with_the_same_steps_but_another_observation_are_told_apart():
    feedback, reference = arm_pairs(), gaussian(1)
    moved = replace(feedback.segments, obs=feedback.segments.obs + 1)
    objective = direct(gaussian(), m.dpo(), reference)
    objective.score(feedback.segments)
    assert torch.equal(objective.score(moved), direct(gaussian(), m.dpo(), gaussian(1)).score(moved))


def test_units_of_the_action_change_nothing_but_the_sums_without_a_reference():
    """Actions in other units shift every log-density by a constant."""

    class Rescaled(Counted):
        def log_prob(self, segments: Segments) -> Tensor:
            return self.policy.log_prob(segments) + 2.3

    feedback = arm_pairs()
    for method in LEGAL:
        plain = direct(Counted(gaussian()), method, Counted(gaussian(1))) if not method.anchor else None
        if plain is None:
            continue
        other = direct(Rescaled(gaussian()), method, Rescaled(gaussian(1)))
        same = torch.allclose(plain(feedback), other(feedback), atol=1e-4)
        # their likelihood has the unit too, but its gradient has not; CPL's bias makes a sum of half the other
        assert same == (method.name not in ("cpo", "pro", "cpl")), method.name


# --- what is refused


def test_different_starts_are_refused_unless_one_insists_or_the_method_allows_it():
    feedback = replace(arm_pairs(4), same_context=torch.tensor([True, False, True, False]))
    with pytest.raises(MixedContexts, match=r"2 of 4 rows compare segments from different starts.*dpo.*take cpl"):
        direct(gaussian(), m.dpo())(feedback)
    for method in (m.cpl(), m.cpl_kl(), m.kto(), m.bco(), replace(m.dpo(), same_context=False)):
        assert direct(gaussian(), method)(feedback).shape == (4,)


def test_cpl_wants_equal_lengths_of_probabilities_too():
    shown = walks(HOME, uniform_policy(HOME), (300, 2), 6, np.random.default_rng(0))  # some come to an end before
    feedback = answered(shown, labels(-regret(HOME, expected_features(HOME) @ HOME.weights, shown)))
    table = SoftmaxTable(torch.zeros(100, 4))
    with pytest.raises(
        ValueError, match=r"row \d+ compares .* steps, and cpl adds up log-prob.* the shorter one would"
    ):
        direct(table, m.cpl())(feedback)
    for method in (replace(m.cpl(), equal_lengths=False), m.cpl_kl(), replace(m.cpo(), same_context=False)):
        assert direct(table, method)(feedback).shape == (300,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_with_the_mend(dtype):
    feedback = arm_pairs(3)
    for method in (m.dpo(), m.cpl(), m.kto()):
        objective = direct(gaussian(), method)
        logp = objective.policy.log_prob(feedback.segments).to(dtype)
        with pytest.raises(ValueError, match=r"the log-probabilities are torch\..*float16.*logits\.float"):
            objective.losses(logp, feedback)


def test_sums_of_densities_want_equal_lengths():
    feedback = arm_pairs(3)
    mask = feedback.segments.mask.clone()
    mask[1, 0, 4:] = False
    uneven = replace(feedback, segments=replace(feedback.segments, mask=mask))
    for method in (m.cpo(), m.cpl()):
        assert direct(gaussian(), method)(feedback).shape == (3,)
        with pytest.raises(
            ValueError, match=rf"row 1 compares \[4, 6\] steps, and {method.name} adds up log-densities"
        ):
            direct(gaussian(), method)(uneven)
    for method in (m.dpo(), m.simpo(), m.cpl_kl(), m.ipo()):
        assert direct(gaussian(), method)(uneven).shape == (3,)
    table = SoftmaxTable(torch.zeros(1, 2))
    steps = torch.zeros(3, 2, 6, 1)
    words = replace(uneven, segments=Segments(steps, steps, mask, torch.zeros(3, 2, 6)))
    assert direct(table, m.cpo())(words).shape == (3,)


def test_odds_are_of_probabilities():
    with pytest.raises(ValueError, match=r"orpo needs 1 - p of an action.*simpo.*discretise"):
        direct(gaussian(), m.orpo())


def test_policies_that_do_not_fit_are_refused():
    class Silent:
        def log_prob(self, segments: Segments) -> Tensor:
            raise AssertionError("nobody asks")

    class NoDistance(Silent):
        density = True

    with pytest.raises(TypeError, match="Silent does not say what its log_prob is; set density"):
        direct(Silent(), m.dpo(), gaussian())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"kto counts from the policy's KL.*NoDistance has no kl.*take apo_zero"):
        direct(NoDistance(), m.kto(), gaussian())
    policy = gaussian()
    with pytest.raises(ValueError, match="the reference is the policy itself"):
        direct(policy, m.dpo(), policy)


def test_rankings_are_for_listwise_methods():
    three = torch.randn(4, 3, 5, 3), torch.randn(4, 3, 5, 2)
    segments = Segments(*three, torch.ones(4, 3, 5).bool(), torch.zeros(4, 3, 5))
    one = torch.ones(4)
    ranked = Feedback(segments, torch.tensor([[1.0, 0.5, 0.0]] * 4), one, one.long(), one.bool(), "rank")
    for method in (m.rankings(), m.pro(), m.nca(), m.sppo(1.0), m.kto()):
        assert direct(gaussian(), method)(ranked).shape == (4,)
    with pytest.raises(ValueError, match="K = 2"):
        direct(gaussian(), m.dpo())(ranked)


def test_one_s_own_method_is_a_loss_and_a_score():
    def exponential(better: Tensor, worse: Tensor) -> Tensor:
        return torch.exp(0.1 * (worse - better))

    mine = Method("mine", mean_log_ratio, pairwise(exponential))
    feedback, policy = arm_pairs(), gaussian()
    opt = torch.optim.Adam(policy.parameters(), lr=0.01)
    losses = fit(direct(policy, mine), feedback, opt, steps=30, batch=24, rng=np.random.default_rng(0)).losses
    assert losses[-1] < losses[0] == 1.0
    with pytest.raises(ValueError, match=r"make a loss of f\(better, worse\) with pairwise\(f\)"):
        direct(policy, Method("bare", log_ratio, exponential))(feedback)
