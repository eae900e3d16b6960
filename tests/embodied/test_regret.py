"""Regret against sums by hand, identities that hold exactly, and gradients against finite differences."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from embodied.feedback import Segments
from embodied.losses import logistic, pairwise
from embodied.planning import evaluate, expected_features, optimal, uniform_policy
from embodied.records import Query, Segment
from embodied.regret import (
    LinearReward,
    Regret,
    candidates,
    follow,
    learn,
    regret,
    soft_maximum,
    successor_features,
    utility,
)
from embodied.scores import Return
from embodied.teachers import oracle
from embodied.walks import answered, labels, partial_return, steps, walks
from envs.delivery import CHANCES, WEIGHTS, board, random_board

HOME = board()
REWARD = expected_features(HOME) @ WEIGHTS


def pairs(n, seed=0, ended="mask", world=HOME, length=3):
    return walks(world, uniform_policy(world), (n, 2), length, np.random.default_rng(seed), ended)


def segments(rows, mask=None):
    """rows: [B][K][T] of (state, action, next); features that a step finds are looked up."""
    state, action, after = np.moveaxis(np.array(rows), -1, 0)
    obs = np.concatenate([np.stack([state, after], -1), HOME.features[state, action, 0]], -1)
    mask = torch.ones(state.shape, dtype=torch.bool) if mask is None else torch.tensor(mask)
    return Segments(
        torch.as_tensor(obs, dtype=torch.float32),
        torch.as_tensor(action[..., None], dtype=torch.float32),
        mask,
        torch.full(mask.shape, torch.nan),
    )


@pytest.mark.parametrize("ended", ["keep", "mask", "refuse"])
def test_walks_follow_the_board(ended):
    shown = pairs(3000, ended=ended)
    at, here = steps(shown), steps(shown).state.numpy()
    live = ~HOME.terminal[here]
    action = at.action.numpy()
    assert (at.next.numpy() == HOME.next[here, action, 0])[live].all()
    assert (at.found.numpy() == HOME.features[here, action, 0]).all()
    assert (at.state[..., 1:] == at.next[..., :-1]).all() and np.isin(here[..., 0], HOME.starts).all()
    assert {"keep": shown.mask.all(), "mask": (shown.mask.numpy() == live).all(), "refuse": live.all()}[ended]
    assert (ended == "refuse") == live.all()
    counts = np.bincount(action[live], minlength=4) / live.sum()
    np.testing.assert_allclose(counts, 0.25, atol=5 * np.sqrt(0.1875 / live.sum()))


def test_walks_take_the_outcomes_of_a_stochastic_board_as_often_as_it_says():
    world = board(chances=CHANCES)
    shown = pairs(30_000, world=world, length=1)
    at = steps(shown)
    entered = at.next.numpy() != at.state.numpy()
    for code, p in CHANCES.items():
        here = entered & (world.codes.ravel() % 6 == code)[at.next.numpy()]
        feature = {4: 3, 1: 1, 3: 2}[code]
        share, n = at.found.numpy()[here][:, feature].mean(), here.sum()
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / n)


def test_both_forms_are_the_same_where_actions_have_one_outcome():
    shown = pairs(500)
    at, value = steps(shown), optimal(HOME, REWARD).value
    each = (at.found.numpy() @ WEIGHTS) * at.mask.numpy()
    got = each @ HOME.gamma ** np.arange(3)
    ahead = HOME.gamma ** at.mask.sum(-1).numpy() * value[at.end.numpy()]
    by_values = value[at.state[..., 0].numpy()] - got - ahead
    np.testing.assert_allclose(regret(HOME, REWARD, shown), by_values, atol=1e-9)
    assert (by_values > -1e-9).all() and by_values.max() > 50


def test_regret_by_hand():
    # Beside the goal (88), to the right: nothing is given away. Up: two bricks for nothing.
    right, up = [(88, 3, 89)], [(88, 0, 78)]
    found = regret(HOME, REWARD, segments([[right, up]]))
    value = optimal(HOME, REWARD).value
    assert value[88] == pytest.approx(50)
    assert found[0].tolist() == pytest.approx([0, 50 - (-2 + 0.999 * value[78])], abs=1e-9)
    assert partial_return(WEIGHTS, segments([[right, up]])).tolist() == [[50, -2]]


def test_steps_after_the_end_cost_nothing_masked_or_not():
    path = [(88, 3, 89), (89, 0, 89), (89, 2, 89)]
    kept, masked = segments([[path, path]]), segments([[path, path]], [[[True, False, False]] * 2])
    assert not regret(HOME, REWARD, kept).any() and not regret(HOME, REWARD, masked).any()
    reward = LinearReward(6)
    torch.nn.init.normal_(reward.weights)
    scorer = Regret(reward, successor_features(HOME, candidates(HOME, 5, np.random.default_rng(0), WEIGHTS)))
    np.testing.assert_allclose(scorer(kept).detach(), scorer(masked).detach(), atol=1e-12)


def test_a_constant_is_seen_by_regret_alone_and_a_potential_by_return_alone():
    world = replace(HOME, gamma=1.0)
    rng = np.random.default_rng(0)
    inside = pairs(300, ended="refuse")
    inside = inside[~world.terminal[steps(inside).end.numpy()].any(-1)]
    at = steps(inside)

    def returned(reward):
        return reward[at.state.numpy(), at.action.numpy()].sum(-1)

    longer = np.where(world.terminal[:, None], 0, REWARD - 1)
    np.testing.assert_allclose(np.diff(returned(longer)), np.diff(returned(REWARD)), atol=1e-12)
    changed = regret(world, longer, inside) - regret(world, REWARD, inside)
    assert np.abs(np.diff(changed)).max() > 0.5
    potential = np.where(world.terminal, 0, rng.normal(size=100))
    shaped = np.where(world.terminal[:, None], 0, REWARD + potential[world.next[..., 0]] - potential[:, None])
    np.testing.assert_allclose(regret(world, shaped, pairs(300)), regret(world, REWARD, pairs(300)), atol=1e-9)
    assert np.abs(np.diff(returned(shaped) - returned(REWARD))).max() > 0.5


@pytest.mark.parametrize("stochastic", [False, True])
def test_successor_features_are_the_values_of_their_policies(stochastic):
    world = random_board(np.random.default_rng(2), stochastic=stochastic)
    rng = np.random.default_rng(0)
    policies = candidates(world, 6, rng, [-1, 50, -50, 1, -1, -2])
    bank = successor_features(world, policies)
    for weights in rng.normal(size=(3, 6)):
        reward = expected_features(world) @ weights
        for policy, state, action in zip(policies, bank.state, bank.action, strict=True):
            value = evaluate(world, policy, reward[..., None])[:, 0]
            np.testing.assert_allclose(state @ torch.as_tensor(weights), value, atol=1e-8)
            q = reward + world.gamma * (world.prob * value[world.next]).sum(-1)
            np.testing.assert_allclose(action @ torch.as_tensor(weights), q * ~world.terminal[:, None], atol=1e-8)


def test_the_goal_is_in_the_features_of_who_reaches_it():
    bank = successor_features(HOME, optimal(HOME, REWARD).policy()[None])
    assert bank.state[0, 88, 1] == 1 and not bank.state[0, HOME.terminal].any()


def test_candidates_differ_and_the_answer_is_not_among_them():
    rng = np.random.default_rng(0)
    policies = candidates(HOME, 40, rng, WEIGHTS, without=REWARD)
    assert len(policies) == 40
    value = evaluate(HOME, policies, np.broadcast_to(REWARD[..., None], (40, 100, 4, 1)))[..., HOME.starts, 0]
    best = optimal(HOME, REWARD).value[HOME.starts]
    assert (best.mean() - value.mean(-1)).min() > 1e-3
    bank = successor_features(HOME, policies).state[:, HOME.starts].numpy()
    for a, b in itertools.combinations(bank, 2):
        assert np.abs(a - b).max() > 1e-3
    with pytest.raises(ValueError, match="every candidate is the best policy itself"):
        candidates(HOME, 1, rng, [0.0], without=np.zeros_like(REWARD))


def test_the_soft_maximum_and_its_gradient():
    value = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.allclose(soft_maximum(value, 1e-6), value.max(0).values)
    assert (soft_maximum(value, 0.5) <= value.max(0).values).all()
    (gradient,) = torch.autograd.grad(soft_maximum(value, 0.5).sum(), value)
    p = torch.softmax(value / 0.5, 0)
    by_hand = p * (1 + (value - soft_maximum(value, 0.5)) / 0.5)
    assert torch.allclose(gradient, by_hand)


@pytest.mark.parametrize("form", ["deterministic", "stochastic"])
def test_the_scorer_is_minus_the_regret_when_the_best_policy_is_in_the_bank(form):
    shown = pairs(200)
    policies = np.concatenate(
        [candidates(HOME, 20, np.random.default_rng(0), WEIGHTS), optimal(HOME, REWARD).policy()[None]]
    )
    reward = LinearReward(6)
    reward.weights.data = torch.as_tensor(WEIGHTS, dtype=torch.float32)
    scorer = Regret(reward, successor_features(HOME, policies), form, temperature=1e-5)
    np.testing.assert_allclose(scorer(shown).detach(), -regret(HOME, REWARD, shown), atol=1e-4)


def test_where_chance_decides_what_was_chosen_counts_and_not_what_was_got():
    world = board(chances=CHANCES, teleports=[(0, 90)])
    true = expected_features(world) @ WEIGHTS
    shown = pairs(2000, world=world)
    reward = LinearReward(6)
    reward.weights.data = torch.as_tensor(WEIGHTS, dtype=torch.float32)
    bank = successor_features(world, optimal(world, true).policy()[None])
    chosen, got = (Regret(reward, bank, form, 1e-5)(shown).detach().numpy() for form in ("stochastic", "deterministic"))
    np.testing.assert_allclose(chosen, -regret(world, true, shown), atol=1e-4)
    assert (chosen < 1e-4).all() and np.abs(got - chosen).max() > 10  # a sheep that did not bite
    # What was got is what was expected, on average: 5 standard errors.
    apart = (got - chosen).ravel()
    assert abs(apart.mean()) < 5 * apart.std() / np.sqrt(len(apart))


@pytest.mark.parametrize("form", ["deterministic", "stochastic"])
def test_the_loss_of_the_scorer_has_the_gradient_of_finite_differences(form):
    shown = pairs(20)
    reward = LinearReward(6)
    reward.weights.data = torch.tensor([-0.5, 1.0, -1.0, 0.2, -0.3, -0.8])
    reward.double()
    scorer = Regret(reward, successor_features(HOME, candidates(HOME, 8, np.random.default_rng(0), WEIGHTS)), form, 1.0)
    shown = Segments(shown.obs.double(), shown.act, shown.mask, shown.log_prob)
    target = torch.tensor([[1.0, 0.0]]).expand(20, 2)

    def loss():
        return pairwise(logistic)(scorer(shown), target).mean()

    (gradient,) = torch.autograd.grad(loss(), reward.parameters())
    for i in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[i] = 1e-6
        with torch.no_grad():
            reward.weights += step
            above = loss()
            reward.weights -= 2 * step
            below = loss()
            reward.weights += step
        assert gradient[i].item() == pytest.approx(((above - below) / 2e-6).item(), rel=1e-4, abs=1e-7)


def test_labels_say_what_the_scores_say():
    score = np.array([[1.0, 0.0], [0.0, 2.0], [0.501, 0.499], [0.0, 0.004]])
    assert labels(score)[:, 0].tolist() == [1, 0, 0.5, 0.5]
    many = labels(np.tile([[1.0, 0.0]], (20_000, 1)), np.random.default_rng(0))
    p = 1 / (1 + np.exp(-1))
    assert many[:, 0].mean().item() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 20_000))
    assert set(many.ravel().tolist()) == {0, 1}


def test_simulated_teachers_take_regret_as_a_utility():
    shown = pairs(100, ended="keep")
    worth = utility(HOME, REWARD, decimals=2)
    ask = oracle(worth)
    wanted = labels(-regret(HOME, REWARD, shown))[:, 0].tolist()
    for b in range(100):
        cuts = tuple(Segment("e", 0, 3, shown.obs[b, k].numpy(), shown.act[b, k].numpy()) for k in range(2))
        assert ask(Query(f"q{b}", cuts)).first == wanted[b]


def test_regret_learns_from_a_hundred_answers_what_return_does_not():
    rng = np.random.default_rng(5)
    shown = pairs(100, seed=5)
    data = answered(shown, labels(-regret(HOME, REWARD, shown)))
    bank = successor_features(HOME, candidates(HOME, 30, rng, WEIGHTS, without=REWARD))
    found = {}
    for name in ("regret", "return"):
        reward = LinearReward(6)
        scorer = Regret(reward, bank) if name == "regret" else Return(reward)
        report = learn(scorer, data, reward, steps=200)
        found[name] = evaluate(HOME, follow(HOME, reward), REWARD[..., None])[HOME.starts, 0].mean()
        assert len(report.losses) == 200 and report.losses[-1] < report.losses[0]
    assert found["regret"] > 39 and found["return"] < 30


def test_learning_twice_is_the_same():
    shown = pairs(30)
    data = answered(shown, labels(-regret(HOME, REWARD, shown)))
    bank = successor_features(HOME, candidates(HOME, 5, np.random.default_rng(0), WEIGHTS))
    one, two = LinearReward(6), LinearReward(6)
    scorer = Regret(one, bank)
    assert learn(scorer, data, one, steps=25) == learn(Regret(two, bank), data, two, steps=25)
    assert torch.equal(one.weights, two.weights) and scorer.temperature == 1e-3


def test_segments_that_make_no_sense_are_refused():
    good = [(0, 3, 1), (1, 3, 2)]
    crossing = [(88, 3, 89), (5, 1, 15)]
    with pytest.raises(ValueError, match=r"alternative 1 of row 0 comes to state 89 and goes on from 5: it crosses"):
        steps(segments([[good, crossing]]))
    with pytest.raises(ValueError, match="a mask has a gap"):
        steps(segments([[good, good]], [[[False, True]] * 2]))
    with pytest.raises(ValueError, match=r"observations are \[1, 2, 2, 2\]; give \[B,K,T,2\+D\]"):
        shown = segments([[good, good]])
        steps(Segments(shown.obs[..., :2], shown.act, shown.mask, shown.log_prob))
    with pytest.raises(ValueError, match="all 1 answers are ties"):
        answered(segments([[good, good]]), torch.tensor([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="hardly ever last 2 steps"):
        walks(board(np.array([[1, 0]])), np.eye(4)[[2, 2]], (2, 2), 2, np.random.default_rng(0), "refuse")
    reward = LinearReward(6)
    reward.weights.data[0] = torch.nan
    with pytest.raises(ValueError, match="a payoff is NaN"):
        follow(HOME, reward)


def test_answers_of_one_class_can_be_learned_from():
    """The loss does not care which was shown first: turning every pair so that the first won changes nothing."""
    shown = pairs(40)
    target = labels(-regret(HOME, REWARD, shown))
    turn = target[:, 0] == 0
    flip = lambda x: torch.where(turn.reshape(-1, *[1] * (x.ndim - 1)), x.flip(1), x)  # noqa: E731
    turned = Segments(flip(shown.obs), flip(shown.act), flip(shown.mask), shown.log_prob)
    bank = successor_features(HOME, candidates(HOME, 5, np.random.default_rng(0), WEIGHTS))
    rewards = LinearReward(6), LinearReward(6)
    for reward, data in zip(rewards, (answered(shown, target), answered(turned, flip(target))), strict=True):
        learn(Regret(reward, bank), data, reward, steps=30)
    assert torch.allclose(rewards[0].weights, rewards[1].weights, atol=1e-4)
