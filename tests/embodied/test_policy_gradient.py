"""Policy gradients: the expected gradient is the closed form's, clips are where they should be, golden numbers."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from embodied.advantages import GAE, critic_loss, group, leave_one_out, nash, plain
from embodied.direct import MixedContexts
from embodied.feedback import Feedback, Segments
from embodied.fit import fit, plus
from embodied.online import collect
from embodied.policy_gradient import (
    Advantage,
    Surrogate,
    clipped,
    jointly_clipped,
    pairwise_clipped,
    policy_gradient,
    reinforce,
)
from embodied.reference import Reference
from policies.table import SoftmaxTable
from tests.embodied.bandits import (
    REWARD,
    chain,
    every,
    feedback,
    gradient,
    near,
    policy,
    reference,
    reward,
    slope,
    walk_law,
)

KL = 0.3


def critic(segments: Segments) -> Tensor:
    """Wrong, but of the context alone."""
    assert isinstance(segments.obs, Tensor)
    return torch.tensor([0.4, -1.3, 2.0], dtype=torch.float64)[segments.obs[..., 0].long()]


SETTINGS: dict[str, tuple[Surrogate, Advantage, int, float]] = {
    "REINFORCE": (reinforce, plain(kl=KL), 1, 1.0),
    "REINFORCE, a baseline": (reinforce, plain(baseline=5.0, kl=KL), 3, 1.0),
    "RLOO of 2": (clipped(0.2, "sequence"), leave_one_out(kl=KL), 2, 1.0),
    "RLOO of 3": (clipped(0.2, "sequence"), leave_one_out(kl=KL), 3, 1.0),
    "GRPO of 3 without std": (clipped(0.2, mean=True), group(std=False, kl=KL), 3, 2 / 3),
    "PPO": (clipped(0.2), GAE(critic, kl=KL), 1, 1.0),
    "P3O, separate": (pairwise_clipped(0.2), plain(kl=KL), 2, 1.0),
    "P3O, joint": (jointly_clipped(0.4), plain(kl=KL), 2, 1.0),
    "P3O of 3, separate": (pairwise_clipped(0.2), plain(kl=KL), 3, 1.0),
    "P3O of 3, joint": (jointly_clipped(0.4), plain(kl=KL), 3, 1.0),
}


def regularised(logp: Tensor) -> Tensor:
    """What is to be maximised: the expected reward less the price of the KL, mean over contexts."""
    law = logp.exp()
    return (law * (REWARD - KL * (logp - reference().logits.detach()))).sum(-1).mean()


@pytest.mark.parametrize("name", SETTINGS)
def test_the_expected_gradient_is_that_of_the_regularised_reward_and_its_twin_s_is_not(name: str) -> None:
    surrogate, advantage, k, factor = SETTINGS[name]
    table = policy()
    data, wanted = every(table, k), -factor * slope(regularised, table)
    found = gradient(policy_gradient(table, surrogate, advantage, reference()), data, table)
    assert near(found, wanted, 1e-12)
    twin = policy_gradient(table, surrogate, lambda f, r: -advantage(f, r), reference())
    assert not near(gradient(twin, data, table), wanted, 1e-2)


@pytest.mark.parametrize("name", ["RLOO of 2", "P3O, separate", "P3O, joint"])
def test_at_the_start_p3o_is_rloo_of_two_and_twice_grpo_sample_by_sample(name: str) -> None:
    surrogate, advantage, k, _ = SETTINGS[name]
    table = policy()
    data = collect(torch.arange(2).repeat(20), table.sample, reward, k, np.random.default_rng(0))
    grpo = policy_gradient(table, clipped(), group(std=False, kl=KL), reference())
    each = policy_gradient(table, surrogate, advantage, reference())
    for row in range(40):
        one = data[row]
        assert near(gradient(each, one, table), 2 * gradient(grpo, one, table), 1e-14)


def test_the_ratio_is_one_before_the_first_step() -> None:
    table = policy()
    data = collect(torch.arange(2).repeat(50), table.sample, reward, 3, np.random.default_rng(0))
    assert torch.equal(table.log_prob(data.segments), data.segments.log_prob)


# --- the chain: several steps, and where each is to be credited

WALK_REWARD = torch.tensor([[1.0, -0.5], [0.3, 2.0]], dtype=torch.float64)  # by first and second action


def chain_policy() -> tuple[SoftmaxTable, SoftmaxTable]:
    ours, theirs = ([0.3, -0.8, 1.1], [-0.5, 0.4, 0.2])
    return tuple(  # type: ignore[return-value]
        SoftmaxTable(torch.tensor([[0.0, x] for x in logits], dtype=torch.float64)) for logits in (ours, theirs)
    )


def chain_feedback(table: SoftmaxTable, k: int) -> Feedback:
    segments, chance = chain(table, k)
    act = segments.act[..., 0].long()
    return feedback(segments, WALK_REWARD[act[..., 0], act[..., 1]], chance)


def true_values(table: SoftmaxTable) -> Tensor:
    """What is still to come in each of the three states."""
    law = table.logits.detach().softmax(-1)
    second = (law[1:] * WALK_REWARD).sum(-1)
    return torch.cat([(law[0] * second).sum(-1, keepdim=True), second])


def test_on_a_chain_gae_is_exact_with_any_critic_for_lam_1_and_with_the_true_one_for_any_lam() -> None:
    table, _ = chain_policy()
    data = chain_feedback(table, 1)
    wanted = -slope(lambda logp: (walk_law(logp).exp() * WALK_REWARD).sum(), table)

    def right(segments: Segments) -> Tensor:
        assert isinstance(segments.obs, Tensor)
        return true_values(table)[segments.obs[..., 0].long()]

    for lam, who in ((1.0, critic), (1.0, right), (0.5, right), (0.0, right)):
        found = gradient(policy_gradient(table, clipped(), GAE(who, lam=lam)), data, table)
        assert near(found, wanted, 1e-12), (lam, who)
    wrong = gradient(policy_gradient(table, clipped(), GAE(critic, lam=0.0)), data, table)
    assert not near(wrong, wanted, 1e-2)


@pytest.mark.parametrize(
    ("surrogate", "advantage", "k"),
    [
        (clipped(0.2, "sequence"), leave_one_out(kl=KL), 2),
        (clipped(0.2), leave_one_out(kl=KL), 2),
        (pairwise_clipped(), plain(kl=KL), 2),
        (jointly_clipped(), plain(kl=KL), 2),
        (clipped(), GAE(critic, kl=KL, lam=1.0), 1),
    ],
)
def test_on_a_chain_the_kl_in_the_reward_is_the_kl_of_the_walks(
    surrogate: Surrogate, advantage: Advantage, k: int
) -> None:
    table, anchor = chain_policy()
    data, ref = chain_feedback(table, k), walk_law(anchor.logits.detach().log_softmax(-1))
    wanted = -slope(lambda logp: (walk_law(logp).exp() * (WALK_REWARD - KL * (walk_law(logp) - ref))).sum(), table)
    assert near(gradient(policy_gradient(table, surrogate, advantage, anchor), data, table), wanted, 1e-12)


def test_nash_credits_a_step_with_the_log_ratios_from_it_on() -> None:
    """The golden chain: all that is judged is a tie, so what is left is tau times the gradient of the KL."""
    table, anchor = chain_policy()
    data = chain_feedback(table, 1)
    ties = replace(data, target=torch.full_like(data.target, 0.5))
    found = gradient(policy_gradient(table, reinforce, nash(1.0), anchor), ties, table)[:, 1]
    assert found.tolist() == pytest.approx([0.17507, -0.10924, 0.09687], abs=5e-6)

    def by_step(given: Feedback, log_ratio: Tensor | None) -> Tensor:
        assert log_ratio is not None
        return -log_ratio

    token = gradient(policy_gradient(table, reinforce, by_step, anchor), ties, table)[:, 1]
    assert token.tolist() == pytest.approx([0.19557, -0.10924, 0.09687], abs=5e-6)


def test_nash_teaches_the_players_alone() -> None:
    """Against an opponent of fixed law: the gradient of the win rate, whatever else is in the row."""
    table, opponent = policy(), reference()
    ours, theirs = table.every(1), opponent.every(1)
    pairs = [(a, b) for a, b in itertools.product(range(8), range(8)) if a // 4 == b // 4]
    first, second = (torch.tensor(x) for x in zip(*pairs, strict=True))
    parts = [
        torch.cat([getattr(ours[0], field)[first], getattr(theirs[0], field)[second]], 1)
        for field in ("obs", "act", "mask", "log_prob")
    ]
    chance = torch.sigmoid(REWARD[:, :, None] - REWARD[:, None])  # [S,A,A]
    state, mine, other = (x.long() for x in (parts[0][:, 0, 0, 0], parts[1][:, 0, 0, 0], parts[1][:, 1, 0, 0]))
    win = chance[state, mine, other]
    data = feedback(Segments(*parts), torch.stack([win, 1 - win], -1), ours[1][first] * theirs[1][second])
    law = opponent.logits.detach().exp()
    wanted = -slope(lambda logp: torch.einsum("sa,sab,sb->s", logp.exp(), chance, law).mean(), table)
    found = gradient(policy_gradient(table, reinforce, nash(0.0)), data, table)
    assert near(found, wanted, 1e-12)
    with pytest.raises(ValueError, match="players is 3 of K = 2"):
        policy_gradient(table, reinforce, nash(0.0, players=3))(data)


def test_gae_is_stable_baselines_3_s() -> None:
    rng = np.random.default_rng(0)
    steps, envs = 7, 3
    rewards, values = rng.normal(size=(2, steps, envs))
    buffer = RolloutBuffer(steps, Box(-1, 1, (1,)), Box(-1, 1, (1,)), gamma=0.9, gae_lambda=0.8, n_envs=envs)
    buffer.rewards, buffer.values = rewards.astype(np.float32), values.astype(np.float32)
    buffer.episode_starts[:] = 0
    buffer.compute_returns_and_advantage(torch.zeros(envs), np.ones(envs))
    pad = torch.full((1, envs, 2), torch.nan, dtype=torch.float64)  # whatever is behind the end
    given = torch.cat([torch.from_numpy(rewards.T)[None], pad], -1)
    mask = torch.arange(9).expand(1, envs, 9) < steps
    obs = torch.zeros(1, envs, 9, 1)
    segments = Segments(obs, obs, mask, torch.zeros(1, envs, 9))
    data = feedback(segments, torch.zeros(1, envs), torch.ones(1))
    said = torch.cat([torch.from_numpy(values.T)[None], pad], -1)
    estimate = GAE(lambda s: said, kl=1.0, gamma=0.9, lam=0.8)
    worth, returns = estimate.estimate(data, torch.where(mask, -given, 0.0))
    assert near(worth[0, :, :7].T.float(), torch.from_numpy(buffer.advantages), 1e-5)
    assert near(returns[0, :, :7].T.float(), torch.from_numpy(buffer.returns), 1e-5)
    assert (worth[..., 7:] == 0).all() and (returns[..., 7:] == 0).all()
    white = replace(estimate, whiten=True)(data, torch.where(mask, -given, 0.0))[mask]
    assert white.mean().item() == pytest.approx(0, abs=1e-6)
    assert white.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_a_critic_learns_what_is_still_to_come() -> None:
    table, _ = chain_policy()
    value = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def learned(segments: Segments) -> Tensor:
        assert isinstance(segments.obs, Tensor)
        return value[segments.obs[..., 0].long()]

    estimate = GAE(learned, lam=1.0)
    both = plus(policy_gradient(table, clipped(), estimate), (1.0, critic_loss(estimate)))
    opt = torch.optim.SGD([value], lr=1.0)
    fit(both, chain_feedback(table, 1), opt, steps=200, batch=99, rng=np.random.default_rng(0))
    assert near(value.detach(), true_values(table), 1e-8)


# --- clips

Pair = tuple[float, float]
GRID = [-0.9, -0.5, -0.3, -0.1, 0.0, 0.1, 0.3, 0.5, 0.9]


def coefficients(surrogate: Surrogate, logp: Tensor, old: Tensor, worth: Tensor) -> tuple[float, Tensor]:
    """Value and derivative of the loss of one row in the log-probabilities [1,K,T]."""
    leaf = logp.clone().requires_grad_()
    value = surrogate(leaf, old, worth, torch.ones_like(logp).bool())
    (found,) = torch.autograd.grad(value.sum(), leaf)
    return value.item(), found


@pytest.mark.parametrize("level", ["step", "sequence"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ppo_stops_where_it_would_go_further_by_finite_differences(level: str, sign: float) -> None:
    surrogate = clipped(0.2, level)  # type: ignore[arg-type]
    for moved in GRID:
        old = torch.tensor([[[-1.0, -2.0]]], dtype=torch.float64)
        logp = old + torch.tensor([moved, 0.0])
        worth = torch.full((1, 1, 1), 1.7 * sign, dtype=torch.float64)
        _, found = coefficients(surrogate, logp, old, worth)
        nudge = torch.tensor([[[1e-6, 0.0]]], dtype=torch.float64)
        mask = torch.ones_like(logp).bool()
        numeric = (surrogate(logp + nudge, old, worth, mask) - surrogate(logp - nudge, old, worth, mask)) / 2e-6
        assert found[0, 0, 0].item() == pytest.approx(numeric.item(), abs=1e-8)
        beyond = math.exp(moved) > 1.2 if sign > 0 else math.exp(moved) < 0.8
        assert (found[0, 0, 0].item() == 0) == beyond
        if not beyond:
            assert found[0, 0, 0].item() == pytest.approx(-1.7 * sign * math.exp(moved))


def separate(moved: Pair, begun: Pair, gap: float, eps: float) -> float:
    """V1 as it is written, in plain numbers: what is held constant stays as it is for `begun`."""
    return sum(
        -min(c * math.exp(m), c * min(max(math.exp(m), 1 - eps), 1 + eps)) / 2
        for c, m in zip((gap * math.exp(begun[1]), -gap * math.exp(begun[0])), moved, strict=True)
    )


def joint(moved: Pair, begun: Pair, gap: float, delta: float) -> float:
    c, g = gap * math.exp(begun[0] + begun[1]), moved[0] - moved[1] + 2.35
    return -min(c * g, c * min(max(g, 2.35 - delta), 2.35 + delta)) / 2


@pytest.mark.parametrize(
    ("surrogate", "plainly", "width"), [(pairwise_clipped(0.2), separate, 0.2), (jointly_clipped(0.45), joint, 0.45)]
)
@pytest.mark.parametrize("gap", [0.9, -0.9])
def test_p3o_s_clips_by_finite_differences_of_its_plain_form(
    surrogate: Surrogate, plainly: Callable[[Pair, Pair, float, float], float], width: float, gap: float
) -> None:
    old = torch.tensor([[[-5.1], [-7.45]]], dtype=torch.float64)
    worth = torch.tensor([[[1.3], [1.3 - gap]]], dtype=torch.float64)
    stopped = 0
    for first, second in itertools.product(GRID, GRID):
        moved = torch.tensor([first, second], dtype=torch.float64)[None, :, None]
        value, found = coefficients(surrogate, old + moved, old, worth)
        assert value == pytest.approx(plainly((first, second), (first, second), gap, width), abs=1e-12)
        for i, (a, b) in enumerate(((1e-6, 0.0), (0.0, 1e-6))):
            up, down = (plainly((first + s * a, second + s * b), (first, second), gap, width) for s in (1.0, -1.0))
            assert found[0, i, 0].item() == pytest.approx((up - down) / 2e-6, abs=1e-8)
        stopped += int((found == 0).all())
    assert 0 < stopped < len(GRID) ** 2


def test_golden_numbers_of_p3o() -> None:
    logp = torch.tensor([[[-5.0], [-7.5]]], dtype=torch.float64)
    worth = torch.tensor([[[1.3], [0.4]]], dtype=torch.float64)
    near, far = (torch.tensor([[[a], [b]]], dtype=torch.float64) for a, b in ((-5.1, -7.45), (-5.3, -7.1)))
    for surrogate, wanted in ((pairwise_clipped(0.2), 0.0), (jointly_clipped(0.4), -1.182679983)):
        value, found = coefficients(surrogate, logp, near, worth)
        assert value == pytest.approx(wanted, abs=1e-8)
        assert found.flatten().tolist() == pytest.approx([-0.473071993, 0.473071993], abs=1e-8)
        assert (coefficients(surrogate, logp, far, worth)[1] == 0).all()


def test_of_two_grpo_hears_the_sign_alone() -> None:
    data = every(policy(), 2)
    worth = group()(data, None)[..., 0]
    decided = (data.target[:, 0] - data.target[:, 1]).abs() > 0
    assert worth[decided].abs().sub(math.sqrt(0.5)).abs().max() < 1e-3
    assert (worth[~decided] == 0).all()


# --- invariances


def test_what_a_context_pays_is_nothing_to_a_pair_and_something_to_a_baseline() -> None:
    """Rewards shifted in each context: P3O, RLOO and GRPO end where they did, PPO with a frozen critic does not."""
    apart = {}
    shift = torch.tensor([[57.0], [-88.0]], dtype=torch.float64)
    settings: dict[str, tuple[Surrogate, Advantage]] = {
        "separate": (pairwise_clipped(), plain()),
        "joint": (jointly_clipped(), plain()),
        "RLOO": (clipped(level="sequence"), leave_one_out()),
        "GRPO": (clipped(), group()),
        "PPO, a frozen critic": (clipped(), GAE(critic)),
        "PPO, whitened": (clipped(), GAE(critic, whiten=True)),
        "batch": (clipped(), plain(baseline="batch")),
    }
    for name, (surrogate, advantage) in settings.items():
        ends = []
        for more in (torch.zeros_like(shift), shift):
            table = policy()
            data = collect(torch.arange(2).repeat(30), table.sample, reward, 2, np.random.default_rng(1))
            assert isinstance(data.segments.obs, Tensor)
            data = replace(data, target=data.target + more[data.segments.obs[:, 0, 0, 0].long()])
            objective = policy_gradient(table, surrogate, advantage)
            opt = torch.optim.SGD(table.parameters(), lr=0.05)
            fit(objective, data, opt, steps=100, batch=16, rng=np.random.default_rng(2))
            ends.append(table.logits.detach())
        apart[name] = (ends[0] - ends[1]).abs().max().item()
    exact = ("separate", "joint", "RLOO", "GRPO")
    assert all((gap < 1e-9) == (name in exact) for name, gap in apart.items()), apart
    assert all(gap > 0.1 for name, gap in apart.items() if name not in exact), apart


@pytest.mark.parametrize("name", SETTINGS)
def test_padding_order_and_a_shifted_reference_change_nothing(name: str) -> None:
    surrogate, advantage, k, _ = SETTINGS[name]
    table = policy()
    data = every(table, k)
    objective = policy_gradient(table, surrogate, advantage, reference())
    with torch.no_grad():
        table.logits += 0.1 * torch.randn(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    wanted = objective(data)

    def padded(x: Tensor, value: float) -> Tensor:
        more = torch.full_like(x[:, :, :1], value) if x.dtype != torch.bool else torch.zeros_like(x[:, :, :1])
        return torch.cat([x, more], 2)

    s = data.segments
    assert isinstance(s.obs, Tensor)
    long = Segments(padded(s.obs, 1.0), padded(s.act, 2.0), padded(s.mask, 0), padded(s.log_prob, math.nan))
    assert near(objective(replace(data, segments=long)), wanted, 1e-14)
    turned = Segments(s.obs.flip(1), s.act.flip(1), s.mask.flip(1), s.log_prob.flip(1))
    assert near(objective(replace(data, segments=turned, target=data.target.flip(1))), wanted, 1e-14)

    class Shifted:
        density = False

        def log_prob(self, segments: Segments) -> Tensor:
            return reference().log_prob(segments) + 3.0

    if "REINFORCE" not in name and name != "PPO":
        other = policy_gradient(table, surrogate, advantage, Shifted())
        assert near(other(data), wanted, 1e-12)


def test_only_the_policy_is_differentiated() -> None:
    for surrogate, advantage, k, _ in SETTINGS.values():
        table, ref = policy(), reference()
        data = every(table, k)
        target, old = data.target.clone().requires_grad_(), data.segments.log_prob.clone().requires_grad_()
        tracked = replace(data, target=target, segments=replace(data.segments, log_prob=old))
        loss = policy_gradient(table, surrogate, advantage, ref)(tracked).sum()
        found = torch.autograd.grad(loss, [target, old, ref.logits], allow_unused=True)
        assert found == (None, None, None)


# --- what is refused


def test_unknown_log_probabilities_are_loud_where_they_are_needed() -> None:
    table = policy()
    data = every(table, 2)
    old = data.segments.log_prob.clone()
    old[7, 1] = math.nan
    unknown = replace(data, segments=replace(data.segments, log_prob=old))
    wants = r"segments.log_prob of row 7 is not known, and .* asks how likely .* or take reinforce"
    for surrogate in (clipped(), clipped(level="sequence"), pairwise_clipped(), jointly_clipped()):
        with pytest.raises(ValueError, match=wants):
            policy_gradient(table, surrogate, plain())(unknown)
    with pytest.raises(ValueError, match=wants):
        policy_gradient(table, reinforce, plain(kl=0.1), reference())(unknown)
    found = policy_gradient(table, reinforce, leave_one_out())(unknown)
    assert torch.equal(found, policy_gradient(table, reinforce, leave_one_out())(data))


def test_a_kl_wants_a_reference_other_than_the_policy() -> None:
    table = policy()
    data = every(table, 2)
    for advantage in (plain(kl=0.1), leave_one_out(kl=0.1), group(kl=0.1), GAE(critic, kl=0.1)):
        with pytest.raises(ValueError, match=r"kl is 0.1, but there is no reference.*Reference\(policy\)"):
            policy_gradient(table, reinforce, advantage)(data)
    with pytest.raises(ValueError, match=r"tau is 0.1, but there is no reference"):
        policy_gradient(table, reinforce, nash(0.1))(data)
    with pytest.raises(ValueError, match="the reference is the policy itself"):
        policy_gradient(table, reinforce, plain(), table)
    assert policy_gradient(table, reinforce, plain(kl=0.1), Reference(table))(data).shape == (32,)


def test_samples_that_cannot_be_held_against_each_other_are_refused() -> None:
    table = policy()
    one, two = every(table, 1), every(table, 2)
    for surrogate, advantage in ((pairwise_clipped(), plain()), (jointly_clipped(), plain())):
        with pytest.raises(ValueError, match="compares samples, but K = 1"):
            policy_gradient(table, surrogate, advantage)(one)
    for advantage in (leave_one_out(), group()):
        with pytest.raises(ValueError, match="compares samples of one context, but K = 1"):
            policy_gradient(table, reinforce, advantage)(one)
    with pytest.raises(MixedContexts, match=r"32 of 32 rows hold samples from different contexts"):
        policy_gradient(table, reinforce, plain())(replace(two, same_context=torch.zeros(32).bool()))
    walks = chain_feedback(chain_policy()[0], 2)
    for surrogate in (clipped(level="sequence"), pairwise_clipped(), jointly_clipped()):
        with pytest.raises(ValueError, match=r"wants one advantage of each alternative.*got \[16, 2, 2\]"):
            policy_gradient(chain_policy()[0], surrogate, GAE(critic))(walks)


def test_settings_out_of_range_are_refused() -> None:
    for make, message in (
        (lambda: clipped(0.0), "eps is 0.0; give a number above 0 and below 1"),
        (lambda: pairwise_clipped(1.5), "eps is 1.5; give a number above 0 and below 1"),
        (lambda: jointly_clipped(-1.0), "delta is -1.0; give a number above 0"),
        (lambda: clipped(0.2, "word"), "level is 'word', mean False; choose 'step' or 'sequence'"),  # type: ignore[arg-type]
        (lambda: clipped(0.2, "sequence", mean=True), "a mean of steps alone"),
        (lambda: leave_one_out(kl=-0.1), "kl is -0.1; give a finite price"),
        (lambda: nash(math.inf), "tau is inf; give a finite price"),
        (lambda: plain(baseline=math.nan), "baseline is nan; give a finite number or 'batch'"),
        (lambda: GAE(critic, gamma=0.0), "gamma is 0.0 and lam 0.95"),
        (lambda: GAE(critic, lam=1.5), "gamma is 1.0 and lam 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
