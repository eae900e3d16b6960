"""On-line learning: optima in closed form, exact resumption, and what a judge must not say."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from embodied import checkpoint
from embodied import methods as m
from embodied.advantages import group, leave_one_out, plain
from embodied.best_of import best_of, best_of_kl, best_of_law
from embodied.direct import direct
from embodied.feedback import Segments
from embodied.fit import Objective, fit, imitate, plus
from embodied.kl_terms import forward_kl
from embodied.online import best_only, collect, online, win_rate
from embodied.policy_gradient import clipped, jointly_clipped, pairwise_clipped, policy_gradient
from embodied.reference import Reference, previous
from embodied.scores import log_ratio
from policies.table import SoftmaxTable
from tests.embodied.bandits import LAW, REWARD, every, gradient, near, policy, reference, reward

KL = 1.0
OPTIMUM = (LAW.log() + REWARD / KL).softmax(-1)


def nowhere() -> np.random.Generator:
    return np.random.default_rng(0)


# --- what each finds


@pytest.mark.parametrize(
    ("surrogate", "advantage"),
    [
        (clipped(level="sequence"), leave_one_out(kl=KL)),
        (clipped(), group(std=False, kl=KL)),
        (pairwise_clipped(), plain(kl=KL)),
        (jointly_clipped(), plain(kl=KL)),
    ],
    ids=["RLOO", "GRPO", "P3O separate", "P3O joint"],
)
def test_rounds_end_at_the_optimum_under_the_kl(surrogate, advantage) -> None:  # type: ignore[no-untyped-def]
    """With every sample that could be drawn, two steps a round, so that ratios leave 1."""
    table, held = policy(), Reference(reference())
    opt = torch.optim.SGD(table.parameters(), lr=2.5)
    objective = policy_gradient(table, surrogate, advantage, held)
    rounds = online(
        objective,
        lambda: every(table, 2),
        opt,
        rounds=200,
        steps=2,
        batch=99,
        rng=nowhere(),
        reference=held,
        policy=table,
    )
    reports = list(rounds)
    assert len(reports) == 200 and [r.round for r in reports[:2]] == [0, 1]
    assert near(torch.from_numpy(table.probabilities()), OPTIMUM, 1e-5)


def test_with_real_samples_too() -> None:
    table, rng = policy(), np.random.default_rng(0)
    held = Reference(reference())
    objective = policy_gradient(table, clipped(level="sequence"), leave_one_out(kl=KL), held)
    opt = torch.optim.Adam(table.parameters(), lr=0.03)
    gather = partial(collect, torch.arange(2).repeat(64), table.sample, reward, 4, rng)
    reports = list(online(objective, gather, opt, rounds=120, steps=2, batch=64, rng=rng, reference=held, policy=table))
    assert (torch.from_numpy(table.probabilities()) - OPTIMUM).abs().max() < 0.06
    assert reports[-1].judged > reports[0].judged + 0.15 and len(held.memory) == 0


def test_raft_of_t_rounds_is_best_of_k_to_the_t() -> None:
    """Each round's imitation is solved: its minimum is the law of the best, where the gradient is 0."""
    table, k = policy(), 3
    law = torch.from_numpy(table.probabilities())
    for t in range(1, 4):
        data = every(table, k, best_only(reward))
        state = torch.arange(2).repeat_interleave(4**k)
        imitated = torch.zeros(2, 4, dtype=torch.float64).index_put_(
            (state[:, None].expand(-1, k), data.segments.act[:, :, 0, 0].long()),
            data.weight[:, None] * data.target,
            accumulate=True,
        )
        with torch.no_grad():
            table.logits.copy_(imitated.log())
        assert gradient(imitate(table), data, table).abs().max() < 1e-14
        assert near(imitated, best_of_law(law, REWARD, k**t), 1e-12)


def test_raft_by_fit_comes_close_to_it() -> None:
    table = policy()
    law, opt = torch.from_numpy(table.probabilities()), torch.optim.Adam(table.parameters(), lr=0.05)
    for _ in range(2):
        fit(imitate(table), every(table, 2, best_only(reward)), opt, steps=800, batch=99, rng=nowhere())
    assert near(torch.from_numpy(table.probabilities()), best_of_law(law, REWARD, 4), 1e-3)


def test_superhf_of_a_fixed_sampler_is_a_mixture() -> None:
    """The minimum of CE + kappa KL(prior, policy) is (best of n + kappa prior) / (1 + kappa)."""
    sampler, table, kappa = policy(), policy(3), 0.35
    data = every(sampler, 3, best_only(reward))
    objective = plus(imitate(table), (kappa, forward_kl(table, reference())))
    best = best_of_law(torch.from_numpy(sampler.probabilities()), REWARD, 3)
    wanted = (best + kappa * LAW) / (1 + kappa)
    opt = torch.optim.SGD(table.parameters(), lr=3.0)
    fit(objective, data, opt, steps=300, batch=999, rng=nowhere())
    assert near(torch.from_numpy(table.probabilities()), wanted, 1e-8)
    alone = plus(imitate(table), (0.0, forward_kl(table, reference())))
    assert torch.equal(alone(data), imitate(table)(data))  # kappa 0 is RAFT


def test_online_ipo_ends_at_the_equilibrium() -> None:
    """pi is the reference times e to its own win rate against itself over tau, also where preferences go in circles."""
    prefer = torch.tensor([[0.5, 0.9, 0.2, 0.6], [0.1, 0.5, 0.8, 0.3], [0.8, 0.2, 0.5, 0.7], [0.4, 0.7, 0.3, 0.5]])

    def chance(s: Segments) -> Tensor:
        arm = s.act[:, :, 0, 0].long()
        return prefer[arm[:, :, None], arm[:, None]].double()

    tau, table = 0.7, policy()
    held = Reference(reference())
    objective = direct(table, m.ipo(tau, log_ratio), held)
    opt = torch.optim.SGD(table.parameters(), lr=1.0)
    gather: Callable[[], object] = lambda: every(table, 2, win_rate(chance))  # noqa: E731
    for _ in online(objective, gather, opt, rounds=250, steps=1, batch=99, rng=nowhere(), reference=held, policy=table):  # type: ignore[arg-type]
        pass
    law = torch.from_numpy(table.probabilities())
    assert near(law, (LAW.log() + law @ prefer.double().T / tau).softmax(-1), 1e-6)


def test_sppo_follows_its_reference() -> None:
    """One exact round multiplies each action by e to eta times its win rate over 1/2, up to the mean."""
    table = policy()
    held = Reference(table, previous)
    objective = direct(table, m.sppo(1.0), held)
    opt = torch.optim.SGD(table.parameters(), lr=0.5)
    bt: Callable[[Segments], Tensor] = lambda s: torch.sigmoid(reward(s)[:, :, None] - reward(s)[:, None])  # noqa: E731
    before = held.state_dict()["logits"].clone()
    gather = lambda: every(table, 2, win_rate(bt))  # noqa: E731
    list(online(objective, gather, opt, rounds=1, steps=5, batch=99, rng=nowhere(), reference=held, policy=table))
    assert torch.equal(held.state_dict()["logits"], table.logits) and not torch.equal(before, table.logits)
    assert objective.score(every(table, 1).segments).abs().max() < 1e-12


# --- a run is resumed


def test_rounds_in_parts_are_the_whole_bit_for_bit_also_through_a_checkpoint(tmp_path: Path) -> None:
    def start() -> tuple[SoftmaxTable, torch.optim.Optimizer, Reference, np.random.Generator]:
        table = policy()
        return (
            table,
            torch.optim.Adam(table.parameters(), lr=0.05),
            Reference(table, previous),
            np.random.default_rng(4),
        )

    def go(table, opt, held, rng, rounds):  # type: ignore[no-untyped-def]
        objective = policy_gradient(table, jointly_clipped(), plain(kl=0.1), held)
        gather = partial(collect, torch.arange(2).repeat(9), table.sample, reward, 2, rng)
        run = online(objective, gather, opt, rounds=rounds, steps=3, batch=7, rng=rng, reference=held, policy=table)
        return [report.losses for report in run]

    whole = start()
    losses = go(*whole, 7)
    half = start()
    assert go(*half, 3) == losses[:3]
    table, opt, held, rng = half
    checkpoint.save(tmp_path, 3, policy=table, opt=opt, reference=held, rng=rng)
    fresh = start()
    table, opt, held, rng = fresh
    rng.random(5)
    checkpoint.load(tmp_path, policy=table, opt=opt, reference=held, rng=rng)
    for parts in (half, fresh):
        assert go(*parts, 4) == losses[3:]
        assert torch.equal(parts[0].logits, whole[0].logits)
        assert torch.equal(parts[2].state_dict()["logits"], whole[2].state_dict()["logits"])
        assert parts[3].bit_generator.state == whole[3].bit_generator.state


# --- samples and judges


def test_samples_have_the_law_of_the_policy() -> None:
    table, n = policy(), 40_000
    data = collect(torch.tensor([1, 0]), table.sample, reward, n, np.random.default_rng(0))
    for row, state in enumerate((1, 0)):
        counts = torch.bincount(data.segments.act[row, :, 0, 0].long(), minlength=4).numpy()
        law = table.probabilities()[state]
        assert (np.abs(counts / n - law) < 5 * np.sqrt(law * (1 - law) / n)).all()
    assert torch.equal(data.target, reward(data.segments)) and data.kind == "reward"
    assert data.same_context.all() and not data.target.requires_grad and not data.segments.log_prob.requires_grad


def test_every_group_has_its_chance() -> None:
    segments, chance = policy().every(2)
    assert len(chance) == 32 and chance.sum().item() == pytest.approx(2)
    law = policy().probabilities()
    row = (segments.act[:, :, 0, 0] == torch.tensor([3.0, 1.0])).all(1).nonzero()[1, 0]
    assert chance[row].item() == pytest.approx(law[1, 3] * law[1, 1])


def test_the_best_is_one_and_equals_share_it() -> None:
    segments = policy().every(3)[0][:4]
    said = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 1.0], [2.0, 2.0, 2.0], [-1.0, -2.0, -3.0]])
    wanted = torch.tensor([[0, 1, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]])
    assert torch.allclose(best_only(lambda s: said)(segments), wanted)
    with pytest.raises(ValueError, match="the judge gave inf for alternative 0 of row 0"):
        best_only(lambda s: torch.where(said == 1, math.inf, said))(segments)


def test_win_rates_are_means_over_the_others() -> None:
    segments = policy().every(3)[0][:1]
    chance = torch.tensor([[[0.0, 0.9, 0.4], [0.1, 0.0, 0.3], [0.6, 0.7, 0.0]]])
    assert win_rate(lambda s: chance)(segments)[0].tolist() == pytest.approx([0.65, 0.2, 0.65])
    for wrong, message in (
        (chance + 0.1, "row 0: alternative 0 is better than 1 with chance 1, and 1 than 0 with 0.2"),
        (chance * torch.nan, "row 0: alternative 0 is better than 1 with chance nan"),
        (chance[..., 0], r"prefer gave \[1, 3\] for \[1, 3\] samples"),
    ):
        with pytest.raises(ValueError, match=message):
            win_rate(lambda s, wrong=wrong: wrong)(segments)  # type: ignore[misc]


def test_best_of_n() -> None:
    table = policy()
    law = torch.from_numpy(table.probabilities())
    drawn = best_of(torch.tensor([0, 1]).repeat(20_000), table.sample, reward, 3, np.random.default_rng(0))
    assert drawn.mask.shape == (40_000, 1, 1) and isinstance(drawn.obs, Tensor)
    for state in range(2):
        wanted = best_of_law(law, REWARD, 3)[state].numpy()
        seen = drawn.act[drawn.obs[:, 0, 0, 0] == state].flatten().long()
        found = torch.bincount(seen, minlength=4).numpy() / 20_000
        assert (np.abs(found - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / 20_000) + 1e-12).all()
    golden = best_of_law(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.arange(3), 4)
    assert golden.tolist() == pytest.approx([0.0016, 0.2385, 0.7599], abs=1e-12)
    ties = best_of_law(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0]), 2)
    assert ties.tolist() == pytest.approx([0.3, 0.25, 0.45])
    many = torch.full((2000,), 1 / 2000, dtype=torch.float64)  # next to no ties
    for n, kl in ((2, 0.1931), (16, 1.8351), (64, 3.1745)):
        chosen = best_of_law(many, torch.arange(2000), n)
        exact = (chosen * (chosen / many).log()).sum().item()
        assert best_of_kl(n) == pytest.approx(kl, abs=1e-4) and exact == pytest.approx(kl, abs=1e-2)
        assert exact <= best_of_kl(n)
    for n in (0, -1):
        for refused in (lambda n=n: best_of_kl(n), lambda n=n: best_of_law(many, many, n)):  # type: ignore[misc]
            with pytest.raises(ValueError, match=f"n is {n}; give at least 1"):
                refused()


def test_of_prompts_the_best_answer_keeps_the_shared_prompt() -> None:
    def sample(contexts: Tensor, k: int, rng: np.random.Generator) -> Segments:
        act = torch.arange(k).expand(len(contexts), k)[..., None]
        return Segments({"prompt": contexts[:, None]}, act, torch.ones_like(act).bool(), torch.zeros(act.shape))

    chosen = best_of(torch.tensor([[4, 5], [6, 7]]), sample, lambda s: -(s.act[..., 0] - 2.0).abs(), 5, nowhere())
    assert isinstance(chosen.obs, dict) and chosen.obs["prompt"].tolist() == [[[4, 5]], [[6, 7]]]
    assert chosen.act.tolist() == [[[2]], [[2]]]


def test_what_a_sampler_or_a_judge_must_not_do_is_named() -> None:
    table, states = policy(), torch.tensor([0, 1])

    def go(judge: Callable[[Segments], Tensor] = reward, k: int = 2, contexts: Tensor = states) -> None:
        collect(contexts, table.sample, judge, k, nowhere())

    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"the judge gave {bad} for alternative 1 of row 0; give finite numbers"):
            go(lambda s: torch.tensor([[1.0, bad], [0.0, bad]]))  # noqa: B023
    with pytest.raises(ValueError, match=r"the judge said \[2, 2, 1\] of \[2, 2\] samples"):
        go(lambda s: reward(s)[..., None])
    with pytest.raises(ValueError, match="2 contexts and k is 0"):
        go(k=0)
    with pytest.raises(ValueError, match="0 contexts and k is 2"):
        go(contexts=states[:0])
    with pytest.raises(ValueError, match=r"the sampler gave \[1, 2\] samples where \[2, 2\] were asked for"):
        collect(states, lambda c, k, rng: table.sample(c[:1], k, rng), reward, 2, nowhere())


def test_a_reference_needs_the_policy_that_it_follows() -> None:
    table = policy()
    opt = torch.optim.SGD(table.parameters(), lr=0.1)
    objective: Objective = imitate(table)
    gather = lambda: every(table, 1)  # noqa: E731
    for given in ({"reference": Reference(table)}, {"policy": table}):
        with pytest.raises(ValueError, match="give at least 0 rounds, and both of the latter or neither"):
            next(online(objective, gather, opt, rounds=1, steps=1, batch=1, rng=nowhere(), **given))  # type: ignore[arg-type]
    before = copy.deepcopy(table.state_dict())
    assert list(online(objective, gather, opt, rounds=0, steps=1, batch=1, rng=nowhere())) == []
    assert torch.equal(table.logits, before["logits"])
