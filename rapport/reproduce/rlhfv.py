"""RLHF-V's dense DPO (arXiv 2312.00849): people correct a segment, and what they changed counts gamma times.

With gamma 1 it is DPO on mean log-ratios; the pull on a changed step is gamma times that on another; the larger gamma,
the nearer it comes to a contrast of the changed steps alone. What both segments share cancels in a table of steps, and
gamma is nothing but a temperature there: from corrections of one step of twenty, the policies of all gammas are one, if
beta is divided by gamma's share of the score. On the point mass and on the arm a teacher takes over for a quarter of an
episode; the tutor's answers, a language model's, are corrected word by word: a digit that is wrong, and an insult.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embodied import methods as m
from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.methods import Method
from embodied.records import Array
from embodied.scores import mean_log_ratio
from policies.table import SoftmaxTable
from rapport.beside import NO_CLAIM, PAIRS, Ground, beside, feedback, learned
from rapport.beside_arm import GROUNDS
from rapport.reproduce import Comparison, Mechanism, Progress

if TYPE_CHECKING:  # language models need the extra `lm`, the other domains do not
    from rapport.tutoring import Tutor

DOMAINS = ("tokens", "point", "arm", "tutor")
STEPS, WORDS, CAUSE = 20, 4, 7  # of a sentence; what is said at step CAUSE is what is corrected


def corrections(n: int, wrong: float, rng: np.random.Generator) -> Feedback:
    """n sentences whose word at the causal step is corrected to word 0; in a share `wrong` of them another step was
    changed by mistake as well."""
    said = rng.integers(WORDS, size=(n, 1, STEPS))
    said[:, 0, CAUSE] = rng.integers(1, WORDS, n)
    act = np.repeat(said, 2, axis=1)
    act[:, 0, CAUSE] = 0
    slips = np.flatnonzero(rng.random(n) < wrong)
    where = rng.choice(np.delete(np.arange(STEPS), CAUSE), len(slips))
    act[slips, 0, where] = (act[slips, 0, where] + rng.integers(1, WORDS, len(slips))) % WORDS
    steps = torch.from_numpy(act).double()[..., None]
    state = torch.arange(STEPS).double().expand(n, 2, STEPS)[..., None]
    mask = torch.ones(n, 2, STEPS, dtype=torch.bool)
    target, one = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(n, 2), torch.ones(n)
    return Feedback(Segments(state, steps, mask, one[:, None, None] * mask), target, one, one.long() * 0, one.bool())


def descended(method: Method, data: Feedback, steps: int, rate: float) -> Tensor:
    """Log-probabilities [S,A] after plain descent on all data from a policy that says anything."""
    policy = SoftmaxTable(torch.zeros(STEPS, WORDS, dtype=torch.float64))
    objective, opt = direct(policy, method), torch.optim.SGD(policy.parameters(), lr=rate)
    for _ in range(steps):
        opt.zero_grad()
        objective(data).mean().backward()
        opt.step()
    return policy.logits.detach().log_softmax(-1)


def pull(method: Method, data: Feedback) -> tuple[Tensor, Tensor]:
    """The losses [B], and their derivatives by the log-probability of each step, [B,2,T]."""
    objective = direct(SoftmaxTable(torch.zeros(STEPS, WORDS, dtype=torch.float64)), method)
    gen = torch.Generator().manual_seed(0)
    logp = -1 - torch.rand(data.segments.mask.shape, generator=gen, dtype=torch.float64)
    losses = objective.losses(logp.requires_grad_(), data)
    return losses.detach(), torch.autograd.grad(losses.sum(), logp)[0]


def tokens(seed: int, progress: Progress) -> tuple[list[Mechanism], list[Comparison]]:
    rng = np.random.default_rng([seed, 60])
    data = corrections(40, 0.3, rng)
    plain, dense = pull(m.dpo(0.5, mean_log_ratio), data), pull(m.dense_dpo(0.5, 1.0), data)
    _, slope = pull(m.dense_dpo(0.5, 5.0), data)
    ratio = slope.abs().amax((1, 2)) / slope.abs().amin((1, 2))
    far, alone = pull(m.dense_dpo(0.5, 1e9), data)[0], pull(m.dense_dpo(0.5, 1.0, unchanged=0.0), data)[0]
    clean = corrections(40, 0.0, rng)
    # one of twenty steps is changed, so that its share of the score is gamma / (19 + gamma)
    policies = [descended(m.dense_dpo(0.5 * (19 + g) / g, g), clean, 200, 1.0) for g in (1.0, 5.0, 50.0)]
    progress(0.3)
    mechanism = [
        Mechanism(
            "gamma 1 from DPO on means",
            max(float((a - b).abs().max()) for a, b in zip(plain, dense, strict=True)),
            1e-12,
        ),
        Mechanism("pull on a changed step over another, from gamma", float((ratio - 5).abs().max()), 1e-9),
        Mechanism("gamma 1e9 from a contrast of changed steps", float((far - alone).abs().max()), 1e-6),
        Mechanism(
            "gammas with their betas: policies apart",
            max(float((p - policies[0]).abs().max()) for p in policies[1:]),
            1e-9,
        ),
        Mechanism("chance of the corrected word", float(policies[0][CAUSE, 0].exp()), 0.5, "at least"),
    ]
    comparisons = []
    for i, wrong in enumerate((0.0, 0.3)):
        told = corrections(40, wrong, np.random.default_rng([seed, 61]))
        for gamma in (1.0, 5.0, 50.0):
            law = descended(m.dense_dpo(0.5, gamma), told, 10, 5.0)
            name = f"{wrong:.0%} of corrections touch another step too, gamma {gamma:g}: chance of the corrected word"
            comparisons.append(Comparison(name, (float(law[CAUSE, 0].exp()),), "larger gammas learn faster", NO_CLAIM))
        progress(0.3 + 0.35 * (i + 1))
    return mechanism, comparisons


def taken_over(ground: Ground, n: int, rng: np.random.Generator) -> Feedback:
    """Episodes of the policy, and the same in which a teacher who knows better acts for a quarter of the time."""
    policy, where, taken = ground.policy, ground.starts(n, rng), ground.horizon // 4
    first = rng.integers(0, ground.horizon - taken + 1, n)
    spread = policy.log_std.detach().exp().numpy()
    noise = rng.normal(0, spread, (ground.horizon, n, len(spread)))  # the same hand in both
    sides = []
    for teach in (True, False):
        clock = iter(range(ground.horizon))

        def act(obs: Array, teach: bool = teach, clock: Iterator[int] = clock) -> Array:
            t = next(clock)
            own = np.clip(policy.act(obs) + noise[t], -1, 1)
            his = np.clip(ground.teacher(obs), -1, 1)
            return np.where((teach & (first <= t) & (t < first + taken))[:, None], his, own)

        sides.append(ground.roll_out(act, where))
    obs, done = (np.stack(x, 1) for x in zip(*sides, strict=True))
    return feedback(obs, done, np.tile([1.0, 0.0], (n, 1)))


def moving(ground: Ground, seed: int, progress: Progress) -> list[Comparison]:
    data = taken_over(ground, PAIRS, np.random.default_rng([seed, 62]))
    taken, beta = ground.horizon // 4, ground.beta * ground.horizon  # a mean over the steps, not a sum
    tried = {
        "DPO on means": m.dpo(beta, mean_log_ratio),
        "changed steps 5 times": m.dense_dpo(beta, 5.0),
        f"the first {taken} changed steps 5 times": m.dense_dpo(beta, 5.0, window=taken),
        f"the first {taken} changed steps alone": m.dense_dpo(beta, 1.0, unchanged=0.0, window=taken),
    }
    found = []
    for i, (name, method) in enumerate(tried.items()):
        policy = learned(ground, method, data, seed)
        found += beside(ground, name, policy, "34.8 % fewer hallucinations on images")
        progress((i + 1) / len(tried))
    return found


# --- where a language model answers

LENGTH = 15  # of an answer, about: a mean over its steps asks for a beta so many times as large as a sum


def corrected(world: Tutor) -> Feedback:
    """Answers of the model that are wrong or rude, each behind what a person makes of it: right, and polite in place of
    rude. No word is put in or left out, so the words that differ are those that were changed."""
    from llm_bridge.testbed import tutor
    from rapport import tutoring as t

    rng = np.random.default_rng([world.seed, 63])
    numbers = world.learn[: 2 * t.ASKED]  # of which about half are answered as they should be
    asked = tutor.prompts(numbers)[:, None]
    said = t.draws(world.before)(asked[:, 0], 1, rng)
    index = tutor.marks(asked, said.act, said.mask).index[:, 0]
    shape = len(tutor.TONES), len(tutor.STYLES), len(tutor.SLIPS)
    tone, style, slip = torch.unravel_index(index.clamp(min=0), shape)
    polite, toxic = tutor.TONES.index("polite"), tutor.TONES.index("toxic")
    better = (torch.where(tone == toxic, polite, tone) * shape[1] + style) * shape[2]
    rows = ((index >= 0) & ((slip > 0) | (tone == toxic))).nonzero()[:, 0]
    answers, mask = tutor.answers(numbers[rows])
    both = torch.stack([better[rows], index[rows]], -1)
    each = torch.arange(len(rows))[:, None]
    act, steps = answers[each, both], mask[each, both]
    segments = Segments(
        {"prompt": asked[rows], "prompt_mask": torch.ones_like(asked[rows]).bool()},
        act,
        steps,
        torch.full(steps.shape, torch.nan),
    )
    one = torch.ones(len(rows))
    return Feedback(segments, torch.tensor([[1.0, 0.0]]).expand(len(rows), 2), one, one.long() * 0, one.bool())


def pulls(world: Tutor, data: Feedback, gamma: float) -> tuple[float, float]:
    """How far the pull on a changed word is from gamma times that on another, over it; and the losses of gamma 1 from
    those of DPO on means."""
    segments, policy = data.segments, copy.deepcopy(world.before)
    with torch.no_grad():
        logp = policy.log_prob(segments) - 0.1 * torch.arange(segments.mask.shape[-1])
        plain, dense = (
            direct(policy, method, world.reference).losses(logp, data)
            for method in (m.dpo(0.5, mean_log_ratio), m.dense_dpo(0.5, 1.0))
        )
    objective = direct(policy, m.dense_dpo(0.5, gamma), world.reference)
    (slope,) = torch.autograd.grad(objective.losses(logp.requires_grad_(), data).sum(), logp)
    apart = segments.act[:, :1] != segments.act[:, 1:]
    changed, other = (torch.where(which & segments.mask, slope.abs(), 0.0).amax((1, 2)) for which in (apart, ~apart))
    return float((changed / other - gamma).abs().max()) / gamma, float((plain - dense).abs().max())


def texts(seed: int, full: bool, progress: Progress, out: Path) -> tuple[list[Mechanism], list[Comparison]]:
    """Changed words five times and once, and corrections turned round; in full other gammas."""
    from rapport import tutoring as t

    world = t.tutoring(seed)
    data, beta = corrected(world), LENGTH * t.BETA
    off, far = pulls(world, data[:64], 5.0)
    dense, wrong = "changed words 5 times", "corrections turned round, 5 times"
    told = {
        dense: (m.dense_dpo(beta, 5.0), data),
        wrong: (m.dense_dpo(beta, 5.0), t.turned(data)),
        "DPO on means": (m.dpo(beta, mean_log_ratio), data),
    }
    if full:
        told |= {
            "changed words 50 times": (m.dense_dpo(beta, 50.0), data),
            "changed words alone": (m.dense_dpo(beta, 1.0, unchanged=0.0), data),
            "DPO on sums": (m.dpo(t.BETA), data),
        }
    found = {"before": world.measured(world.before)}
    for name in t.tick(told, progress):
        found[name] = world.measured(t.learned(world, *told[name]))
    comparisons = [x for name in told if name != wrong for x in t.beside(name, found[name])]
    gap = found[dense].share.value - found["DPO on means"].share.value
    comparisons.append(
        Comparison("share of gamma 5 less gamma 1's", (gap,), "34.8 % fewer hallucinations on images", (0.0, np.inf))
    )
    t.table(found, out)
    return [
        Mechanism("gamma 1 from DPO on means", far, 1e-6),
        Mechanism("pull on a changed word over another, from gamma", off, 1e-5),
        Mechanism("gamma 5: share of the possible gain", found[dense].share.value, 0.2, "at least", SHARE),
        Mechanism("corrections turned round: the same", found[wrong].share.value, 0.0, "at most", NONE),
    ], comparisons


# Mean and sd of the development seeds 1000 to 1009.
SHARE, NONE = (0.662, 0.026), (-0.756, 0.041)


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute; on texts in full two."""
    if domain == "tutor":
        return texts(seed, full, progress, out)
    mechanism, comparisons = tokens(seed, lambda share: progress(share * (1 if domain == "tokens" else 0.4)))
    if domain != "tokens":
        comparisons = moving(GROUNDS[domain](seed), seed, lambda share: progress(0.4 + 0.6 * share))
    return mechanism, comparisons
