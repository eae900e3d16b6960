"""Contrastive learning and the accidental advantage, against closed forms and by hand."""

import numpy as np
import pytest
import torch

from embodied.accident import StepScores, as_reward, shifted
from embodied.direct import direct
from embodied.feedback import Segments
from embodied.fit import fit, ranking
from embodied.losses import biased, check_loss, logistic, pairwise
from embodied.methods import cpl
from embodied.planning import World, endless, expected_features, greedy, optimal, scaled_return, uniform_policy
from embodied.regret import regret
from embodied.scores import Return
from embodied.walks import answered, walks
from envs.delivery import WEIGHTS, board
from policies.table import SoftmaxTable

HOME = board()
REWARD = expected_features(HOME) @ WEIGHTS


def one_step(actions, mask=None):
    """Pairs [B,2] of single actions in state 0 of a world of two states."""
    actions = torch.as_tensor(actions, dtype=torch.float32)[..., None, None]
    obs = torch.cat([torch.zeros(*actions.shape[:3], 1), torch.ones(*actions.shape[:3], 1), actions], -1)
    mask = torch.ones(actions.shape[:3], dtype=torch.bool)
    return Segments(obs, actions, mask, torch.full(mask.shape, torch.nan))


def test_the_loss_is_that_of_the_paper():
    better, worse = torch.tensor([[0.3, -2.0, 5.0], [0.1, -1.0, 6.0]]).double()
    for bias in (1.0, 0.5, 0.1):
        by_hand = -(better - torch.logaddexp(better, bias * worse))
        assert torch.allclose(biased(better, worse, bias=bias), by_hand)
    assert torch.equal(biased(better, worse, bias=1.0), logistic(better, worse))
    assert check_loss(pairwise(biased, bias=1.0)).shift_invariant
    report = check_loss(biased)
    assert not report.shift_invariant and report.swap_symmetric and report.growth == 1
    for bias in (0.0, 1.1):
        with pytest.raises(ValueError, match=rf"bias is {bias}; choose it above 0"):
            biased(better, worse, bias=bias)


def test_a_bias_below_one_makes_it_costly_to_leave_both():
    both = torch.tensor([[-1.0, -2.0], [-11.0, -12.0]])
    target = torch.tensor([[1.0, 0.0]]).expand(2, 2)
    with_bias, without = (pairwise(biased, bias=b)(both, target) for b in (0.5, 1.0))
    assert with_bias[1] > with_bias[0] + 1 and torch.allclose(without[0], without[1])


def test_the_score_is_a_discounted_sum_of_log_probabilities():
    policy = SoftmaxTable(torch.zeros(100, 4))
    torch.nn.init.normal_(policy.logits)
    shown = walks(HOME, uniform_policy(HOME), (20, 2), 3, np.random.default_rng(0), "keep")
    found = 0.2 * direct(policy, cpl(alpha=0.2, gamma=0.9)).score(shown)
    table = np.log(policy.probabilities())
    for b, k in np.ndindex(20, 2):
        each = table[shown.obs[b, k, :, 0].long(), shown.act[b, k, :, 0].long()]
        assert found[b, k].item() == pytest.approx(0.2 * (each @ 0.9 ** np.arange(3)), rel=1e-5)
    np.testing.assert_allclose(policy.probabilities().sum(-1), 1)


def test_on_a_bandit_the_odds_of_the_answers_come_back():
    """alpha log pi(a)/pi(b) is the logit of how often a was preferred: the closed form for three actions."""
    advantage = np.array([0.0, -1.0, -0.4])
    first, second = np.array([(a, b) for a in range(3) for b in range(3) if a != b]).T
    p = 1 / (1 + np.exp(-(advantage[first] - advantage[second])))
    data = answered(
        one_step(np.stack([first, second], -1)), torch.tensor(np.stack([p, 1 - p], -1), dtype=torch.float32)
    )
    policy = SoftmaxTable(torch.zeros(2, 3))
    opt = torch.optim.Adam(policy.parameters(), lr=0.05)
    objective = direct(policy, cpl(alpha=0.5, bias=1.0))
    fit(objective, data, opt, steps=1500, batch=6, rng=np.random.default_rng(0))
    wanted = np.exp(advantage / 0.5) / np.exp(advantage / 0.5).sum()
    np.testing.assert_allclose(policy.probabilities()[0], wanted, atol=1e-4)


def test_with_bias_what_nobody_showed_is_given_up_and_without_it_is_not():
    data = answered(one_step([[0, 1]] * 4), torch.tensor([[1.0, 0.0]]).expand(4, 2))
    left = {}
    for bias in (1.0, 0.5):
        policy = SoftmaxTable(torch.zeros(2, 3))
        opt = torch.optim.Adam(policy.parameters(), lr=0.05)
        objective = direct(policy, cpl(alpha=1.0, bias=bias))
        fit(objective, data, opt, steps=800, batch=4, rng=np.random.default_rng(0))
        left[bias] = policy.probabilities()[0, 2]
    # Without bias the third action's logit has no gradient but through those shown: the difference alone counts.
    assert left[1.0] > 0.005 and left[0.5] < left[1.0] / 1.5


def test_step_scores_sum_to_returns():
    scores = StepScores(100, 4)
    torch.nn.init.normal_(scores.scores)
    shown = walks(HOME, uniform_policy(HOME), (5, 2), 3, np.random.default_rng(0), "keep")
    table = scores.table()[shown.obs[..., 0].long(), shown.act[..., 0].long()]
    np.testing.assert_allclose(Return(scores)(shown).detach(), table.sum(-1), rtol=1e-5)


def test_on_the_advantage_itself_the_constant_decides():
    """What the loss converges to, A* + c, used in every way: greedily right whatever c is; as a reward only for c <= 0,
    and the shift finds c."""
    advantage = optimal(HOME, REWARD).advantage
    for c in (-1.0, 2.0):
        g = advantage + c
        g[HOME.terminal] = 0
        uses = {
            "greedy": greedy(g),
            "reward": as_reward(HOME, g),
            "shifted": as_reward(HOME, shifted(HOME, g)),
        }
        found = {name: float(scaled_return(HOME, policy, REWARD)) for name, policy in uses.items()}
        assert found["greedy"] == pytest.approx(1) and found["shifted"] == pytest.approx(1, abs=1e-6)
        assert found["reward"] < -3 if c > 0 else found["reward"] > 0.2
        np.testing.assert_allclose(shifted(HOME, g)[HOME.starts], advantage[HOME.starts], atol=1e-9)
    kept = advantage + 2.0  # in terminal states too: then ending loses nothing
    assert float(scaled_return(HOME, as_reward(HOME, kept, ends=False), REWARD)) == pytest.approx(1, abs=1e-4)


def test_the_learned_table_agrees_with_the_advantage_up_to_a_constant():
    shown = walks(HOME, uniform_policy(HOME), (20_000, 2), 1, np.random.default_rng(0), "refuse")
    score = -regret(HOME, REWARD, shown)
    p = 1 / (1 + np.exp(-(score[:, 0] - score[:, 1])))
    scores = StepScores(100, 4)
    opt = torch.optim.Adam(scores.parameters(), lr=0.3)
    data = answered(shown, torch.tensor(np.stack([p, 1 - p], -1), dtype=torch.float32))
    fit(ranking(Return(scores), pairwise(logistic)), data, opt, steps=300, batch=20_000, rng=np.random.default_rng(0))
    advantage = optimal(HOME, REWARD).advantage[HOME.starts]
    small = advantage > -5  # where both answers still occur
    apart = (scores.table()[HOME.starts] - advantage)[small]
    assert np.ptp(apart) < 0.1


def test_a_world_of_ones_own_is_looked_at():
    settings = dict(
        next=HOME.next, prob=HOME.prob, features=HOME.features, terminal=HOME.terminal, starts=HOME.starts, gamma=0.9
    )
    World(**settings)
    for name, value, sentence in (
        ("prob", HOME.prob * 0.9, "add up to 1"),
        ("next", HOME.next + 50, "next must be whole numbers from 0 to 99"),
        ("starts", np.array([], int), "starts must be whole numbers"),
        ("features", HOME.features[:5], r"features \(5, 4, 2, 6\).*give \[S,A,M\]"),
        ("gamma", 1.2, "gamma, 1.2, above 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            World(**{**settings, name: value})
    without = endless(HOME)
    assert not without.terminal.any() and (without.next[89] == 89).all()
