"""Pedagogical alignment (arXiv 2402.05000): a tutor that helps the pupil on in place of telling, from pairs that nobody
has to label.

Two answers to one question are a pair if their actions differ, a first step for the pupil against the answer itself;
equal actions are left out. The paper's two answers are of two tutors, so that what is learned may be the author's
manner. Here one model says both, and whoever knows an answer's courtesy and slips must not know which was chosen. The
paper's measure, how often help has the smaller perplexity, is the sign of SimPO's margin without gamma. Beside each
other DPO, IPO, KTO and imitation of what was chosen, on the tutor, a language model.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from embodied import methods as m
from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.fit import imitate
from rapport.beside import NO_CLAIM
from rapport.reproduce import Comparison, Mechanism, Progress

if TYPE_CHECKING:  # language models need the extra `lm`, the table of systems does not
    from llm_bridge.lm import LM
    from rapport.tutoring import Tutor

DOMAINS = ("tutor",)
PAPER = "preference methods are ahead of imitation"


def by_action(world: Tutor) -> Feedback:
    """Pairs of answers of the model, one of which begins for the pupil and the other tells; the first is the better."""
    from llm_bridge.testbed import tutor
    from rapport import tutoring as t

    pairs = t.compared(world, questions=2 * t.ASKED)  # of which about half act differently
    found = tutor.marks(t.prompts(pairs.segments), pairs.segments.act, pairs.segments.mask)
    differ = found.grammatical.all(-1) & (found.scaffold[:, 0] != found.scaffold[:, 1])
    return replace(pairs, target=found.scaffold.float())[differ.nonzero()[:, 0]]


def told_by_manner(data: Feedback) -> float:
    """How often courtesy and correctness together tell which of a pair was chosen: .5 if they say nothing. Guessed in
    one half of the pairs from what was more frequent in the other."""
    from llm_bridge.testbed import tutor
    from rapport import tutoring as t

    found = tutor.marks(t.prompts(data.segments), data.segments.act, data.segments.mask)
    look = found.polite.long() + 2 * found.toxic.long() + 3 * found.correct.long()
    first = data.target[:, :1] > data.target[:, 1:]
    look = torch.where(first, look, look.flip(-1))  # of the chosen, of the rejected
    guessed = []
    for half in (0, 1):
        known, asked = look[half::2], look[1 - half :: 2]
        seen = (known[:, 0] * 6 + known[:, 1]).bincount(minlength=36).view(6, 6)
        guessed.append((seen - seen.T)[asked[:, 0], asked[:, 1]].sign() / 2 + 0.5)
    return float(torch.cat(guessed).mean())


def by_another(data: Feedback) -> Feedback:
    """The same pairs, the chosen answer said by a tutor who is always right and polite."""
    from llm_bridge.testbed import tutor
    from rapport import tutoring as t

    segments = data.segments
    polite = (tutor.TONES.index("polite") * 2 + tutor.STYLES.index("scaffold")) * 5
    answers, steps = (x[:, polite, None] for x in tutor.answers(tutor.numbers(t.prompts(segments)[:, 0])))
    chosen = (data.target == 1)[..., None]
    room = (0, segments.mask.shape[-1] - answers.shape[-1])
    act = torch.where(chosen, pad(answers, room), segments.act)
    mask = torch.where(chosen, pad(steps, room), segments.mask)
    return replace(data, segments=replace(segments, act=act, mask=mask, log_prob=torch.full(mask.shape, torch.nan)))


def perplexities(policy: LM, numbers: Tensor) -> Tensor:
    """Of every answer of the law to questions [Q,2], in its order, from how likely each is as a whole: [Q,A]."""
    from llm_bridge.testbed import tutor
    from llm_bridge.testbed.measure import within

    _, mask = tutor.answers(numbers)
    with torch.no_grad():
        return (-within(policy.model, numbers)[:, :-1] / mask.sum(-1)).exp()


def from_simpo(policy: LM, numbers: Tensor) -> float:
    """How far the logarithm of the perplexity is from SimPO's score, of every answer to questions [Q,2]."""
    from llm_bridge.testbed import tutor

    asked = tutor.prompts(numbers)[:, None]
    act, mask = tutor.answers(numbers)
    unknown = torch.full(mask.shape, torch.nan)
    every = Segments({"prompt": asked, "prompt_mask": torch.ones_like(asked).bool()}, act, mask, unknown)
    with torch.no_grad():
        score = direct(policy, m.simpo(2.0, 0.0)).score(every)
    return float((perplexities(policy, numbers).log() + score).abs().max())


def helps(policy: LM, numbers: Tensor) -> float:
    """The share of questions of whose right answers, neither polite nor rude, the first step is the less perplexing."""
    from llm_bridge.testbed import tutor

    found, neutral = perplexities(policy, numbers), tutor.TONES.index("neutral") * len(tutor.STYLES)
    tell, help_ = (found[:, (neutral + style) * len(tutor.SLIPS)] for style in range(2))
    return float((help_ < tell).double().mean())


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """DPO, DPO on pairs turned round, and imitation of the chosen; in full IPO and KTO, and pairs of two authors. Under
    a CPU-minute, in full two."""
    from rapport import tutoring as t

    world = t.tutoring(seed)
    data, dpo, wrong = by_action(world), m.dpo(t.BETA), "dpo, pairs turned round"
    told = {"dpo": (dpo, data), wrong: (dpo, t.turned(data))}
    if full:
        told |= {"ipo": (m.ipo(0.1), data), "kto": (m.kto(t.BETA), data), "dpo, two authors": (dpo, by_another(data))}
    ends = {"before": world.before, "imitation": copy.deepcopy(world.before)}
    t.fitted(world, ends["imitation"], imitate(ends["imitation"]), data)
    for name in t.tick(told, lambda share: progress(0.2 + 0.6 * share)):
        ends[name] = t.learned(world, *told[name])
    found = {name: world.measured(end) for name, end in ends.items()}
    acts = {name: x.scaffold.value for name, x in found.items()}
    comparisons = []
    for name in ends:
        if name != "before":
            comparisons += t.beside(name, found[name])
        helped = helps(ends[name], world.ground.numbers)
        comparisons.append(Comparison(f"first step less perplexing: {name}", (helped,), "claims nothing", NO_CLAIM))
    for name in [name for name in ("dpo", "ipo", "kto") if name in told]:
        gap = acts[name] - acts["imitation"]
        comparisons.append(Comparison(f"share of first steps: {name} less imitation", (gap,), PAPER, (0.0, np.inf)))
    if full:
        leak = told_by_manner(told["dpo, two authors"][1])
        comparisons.append(Comparison("two authors: chosen told by manner", (leak,), "claims nothing", NO_CLAIM))
    t.table(found, out)
    return [
        Mechanism("log-perplexity from SimPO's score, no gamma", from_simpo(ends["dpo"], world.learn[:8]), 1e-4),
        Mechanism("chosen told by courtesy and correctness", told_by_manner(data), 0.65, "at most", MANNER),
        Mechanism("DPO: share of first steps gained", acts["dpo"] - acts["before"], 0.2, "at least", HELP),
        Mechanism("DPO: share of the possible gain", found["dpo"].share.value, 0.1, "at least", SHARE),
        Mechanism("DPO on pairs turned round: first steps gained", acts[wrong] - acts["before"], 0.0, "at most", TELL),
        Mechanism("the same: share of the possible gain", found[wrong].share.value, 0.0, "at most", NONE),
    ], comparisons


# Mean and sd of the development seeds 1000 to 1009.
MANNER, HELP, TELL = (0.512, 0.024), (0.529, 0.012), (-0.287, 0.006)
SHARE, NONE = (0.254, 0.030), (-0.202, 0.015)
