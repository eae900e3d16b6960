"""The tutor, a language model whose best policy is known: what the reproductions have in common on texts.

Every method starts from one pre-trained model and ends as a point under one frontier: its share is what it gains over
that model, over what the best policy gains at the same KL (llm_bridge/testbed). What fits it is what fits an arm.

Only the gains of the norms are learned, 1,152 of 718,336 parameters (arXiv 2302.07937): so few steps of all weights, or
of LoRA's, go further from the model for the same gold, and lose sums on the way (docs/lm_methods.md).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.fit import Objective, fit
from embodied.methods import Method
from embodied.online import Judge, Sample, collect, online
from embodied.reference import Reference
from embodied.remembered import Remembered
from policies.cpu_torchvision import ensure_torchvision
from rapport.beside import NO_CLAIM
from rapport.reproduce import Comparison, ReproduceError

try:
    from llm_bridge.lm import LM, AnchoredLM
    from llm_bridge.testbed import tutor
    from llm_bridge.testbed.measure import Landscape, Measured, landscape, measure
    from llm_bridge.testbed.preferences import preferences
    from llm_bridge.testbed.sampling import sample
except ModuleNotFoundError as error:
    raise ReproduceError(f"the tutor is a language model and needs {error.name}: pip install 'rapport[lm]'") from error

CACHE = Path("runs/cache")
HELD_OUT, DRAWS = 64, 4  # questions on which a policy is measured, and samples of each
ASKED, STEPS, BATCH, RATE = 600, 24, 32, 1e-2  # questions whose answers people compare; steps of AdamW
BETA = 0.5  # of a sum of log-ratios: DPO then aims at the best policy for gold / 0.25, people's temperature being 1/2
ROUNDS, QUESTIONS, K = 12, 16, 4  # of learning from one's own samples, one step in each round

Case = TypeVar("Case")


@dataclass(frozen=True, eq=False)
class Tutor:
    """The model as pre-trained, what can be said to the held-out questions, and the questions to learn from [Q,2]."""

    before: LM
    reference: Remembered
    ground: Landscape
    learn: Tensor
    seed: int

    def measured(self, policy: LM) -> Measured:
        """On the same questions with the same luck for all."""
        rng = np.random.default_rng([self.seed, 91])
        return measure(policy.model, self.before.model, self.ground, rng, k=DRAWS)


def tutoring(seed: int) -> Tutor:
    """Minutes the first time, when the model is pre-trained; it is the same for every seed, the questions are not."""
    ensure_torchvision()
    from llm_bridge.testbed.pretrain import pretrained

    rng = np.random.default_rng([seed, 90])
    before = AnchoredLM(pretrained(CACHE), row=256)  # two or three pairs; longer rows cost more in attention
    for name, weight in before.named_parameters():
        weight.requires_grad_("norm" in name)
    learn, held_out = (x[torch.from_numpy(rng.permutation(len(x)))] for x in tutor.split())
    ground = landscape(before.model, held_out[:HELD_OUT], rng, k=DRAWS)
    return Tutor(before, Remembered(before), ground, learn, seed)


def compared(world: Tutor, k: int = 2, questions: int = ASKED) -> Feedback:
    """What people say about k answers of the model to each of the first questions: pairs, or rankings."""
    rng = np.random.default_rng([world.seed, 92])
    return preferences(world.before.model, world.learn[:questions], rng, k=k)


def turned(data: Feedback) -> Feedback:
    """The same answers, the worst for the best: what no method may survive."""
    return replace(data, target=data.target.amax(-1, keepdim=True) - data.target)


def prompts(segments: Segments) -> Tensor:
    """[B,1,P]."""
    if not isinstance(segments.obs, dict):
        raise TypeError("the observation of an answer is its prompt, not one tensor")
    return segments.obs["prompt"]


def gold(segments: Segments) -> Tensor:
    """The true worth of answers, float64 [B,K]."""
    return tutor.marks(prompts(segments), segments.act, segments.mask).gold


def paid(world: Tutor, spread: float) -> Judge:
    """The gold of answers, and what each question pays to all of its own: up to `spread` more or less."""
    more = torch.from_numpy(np.random.default_rng([world.seed, 95]).uniform(-spread, spread, (100, 100)))

    def judge(segments: Segments) -> Tensor:
        first, second = tutor.numbers(prompts(segments)).unbind(-1)
        return gold(segments) + more[first, second]

    return judge


def by_chance(rng: np.random.Generator) -> Judge:
    """The true worths of other answers: each is worth what some answer of the batch is."""

    def judge(segments: Segments) -> Tensor:
        worth = gold(segments)
        return worth.flatten()[torch.from_numpy(rng.permutation(worth.numel()))].view_as(worth)

    return judge


# --- from what people said


def learned(world: Tutor, method: Method, data: Feedback) -> LM:
    """The model after some steps of a direct method."""
    policy = copy.deepcopy(world.before)
    return fitted(world, policy, direct(policy, method, world.reference), data)


def fitted(world: Tutor, policy: LM, objective: Objective, data: Feedback) -> LM:
    """The policy after some steps of the objective, which is of that policy."""
    batch = max(1, 2 * BATCH // data.target.shape[1])  # as many answers, however many a row has
    fit(objective, data, optimiser(policy), steps=STEPS, batch=batch, rng=np.random.default_rng([world.seed, 93]))
    return policy


def optimiser(policy: LM, rate: float = RATE) -> torch.optim.Optimizer:
    return torch.optim.AdamW(learning(policy), lr=rate, weight_decay=0.0)


def learning(policy: LM) -> list[Tensor]:
    """The weights that learn."""
    return [p for p in policy.parameters() if p.requires_grad]


# --- from its own samples


def draws(policy: LM) -> Sample:
    """Answers of the policy, as `collect` asks for them: contexts are prompts [B,P]."""

    def drawn(contexts: Tensor, k: int, rng: np.random.Generator) -> Segments:
        act, mask, log_prob = sample(policy.model, contexts, k, rng)
        asked = contexts[:, None]
        return Segments({"prompt": asked, "prompt_mask": torch.ones_like(asked).bool()}, act, mask, log_prob)

    return drawn


def trained(
    world: Tutor,
    objective: Callable[[LM, Reference], Objective],
    judge: Judge,
    *,
    k: int = K,
    rounds: int = ROUNDS,
    steps: int = 1,
) -> LM:
    """The model after so many rounds, each of k samples of new questions; as many samples in all, whatever k is."""
    policy, rng = copy.deepcopy(world.before), np.random.default_rng([world.seed, 94])
    reference = Reference(policy)

    def gather() -> Feedback:
        asked = rng.choice(len(world.learn), QUESTIONS * K // k, replace=False)
        return collect(tutor.prompts(world.learn[torch.from_numpy(asked)]), draws(policy), judge, k, rng)

    run = online(
        objective(policy, reference),
        gather,
        optimiser(policy),
        rounds=rounds,
        steps=steps,
        batch=QUESTIONS * K // k,
        rng=rng,
        reference=reference,
        policy=policy,
    )
    for _ in run:
        pass
    return policy


# --- what became of it


def beside(
    what: str, found: Measured, paper: str = "claims nothing", claim: tuple[float, float] = NO_CLAIM
) -> list[Comparison]:
    """The share of the possible gain, and where it was reached."""
    return [
        Comparison(f"share of the possible gain: {what}", (found.share.value,), paper, claim),
        Comparison(f"gold: {what}", (found.gold.value,), "claims nothing", NO_CLAIM),
        Comparison(f"KL, nats: {what}", (found.kl.value,), "claims nothing", NO_CLAIM),
    ]


def table(found: Mapping[str, Measured], out: Path) -> None:
    """Says of each policy where it stands, with the standard errors that its samples leave."""
    lines = [f"{'':34}{'share':>15} {'gold':>15} {'KL':>15} {'correct':>8}{'scaffold':>9}{'toxic':>7}"]
    for name, x in found.items():
        share = "" if name == "before" else str(x.share)  # of nothing, there
        lines.append(
            f"{name:34}{share:>15} {x.gold!s:>15} {x.kl!s:>15} "
            f"{x.correct.value:8.2f}{x.scaffold.value:9.2f}{x.toxic.value:7.2f}"
        )
    (out / "said.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tick(cases: Iterable[Case], progress: Callable[[float], None]) -> Iterator[Case]:
    """The cases, one after another, while the progress is told."""
    listed = list(cases)
    for n, case in enumerate(listed):
        progress(n / len(listed))
        yield case
