"""What two settings for language models do, both on the tutor.

    python benchmarks/lm_choices.py price   # of a nat (`rapport lm online --kl`): the best that a reward leads to
    python benchmarks/lm_choices.py beta    # of `rapport reproduce lcpo --domain tutor`, on seeds that no figure is of

The first learns two reward models (kept in --out), the second some twenty-five policies: ten minutes of one core.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from llm_bridge.testbed import optimum, tutor
from llm_bridge.testbed.measure import within
from llm_bridge.testbed.pretrain import pretrained
from llm_bridge.text import tokens
from policies.cpu_torchvision import ensure_torchvision
from rapport import tutoring
from rapport.lm.models import CACHE, reward_of
from rapport.lm.verb import Evaluate
from rapport.reproduce import lcpo

PRICES = (0.001, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
BETAS = (0.5, 1.0, 2.0, 4.0, 8.0)
QUESTIONS, STEPS = 64, (60, 200)


def learned(steps: int, out: Path) -> Path:
    run = out / f"reward-{steps}"
    if not (run / "result.json").exists():
        words = f"reward --model tutor --data tutor --seed 0 --steps {steps} --every {steps} --out {run}"
        subprocess.run([sys.executable, "-m", "rapport", "lm", *words.split()], check=True, stdout=subprocess.DEVNULL)
    return run


@torch.no_grad()
def price(out: Path) -> Iterator[str]:
    """Over the 30 answers of each question, the policy that is best by a learned reward at each price, by gold."""
    numbers = tutor.split()[1][:QUESTIONS]
    prompts, (act, mask) = tutor.prompts(numbers), tutor.answers(numbers)
    log_ref = within(pretrained(CACHE), numbers)[:, :-1].log_softmax(-1)
    gold = tutor.marks(prompts[:, None], act, mask).gold
    said = [[ids[m].tolist() for ids, m in zip(*row, strict=True)] for row in zip(act, mask, strict=True)]
    segments = tokens(prompts.tolist(), said)
    better = (gold[:, :, None] > gold[:, None, :]).double() + (gold[:, :, None] == gold[:, None, :]).double() / 2
    yield f"gold before: {optimum.reward(log_ref, gold):.3f}"
    for steps in STEPS:
        reward, *_ = reward_of(str(learned(steps, out)), Evaluate(model="tutor"))
        worth = torch.cat([reward(segments[part]) for part in reward.parts(segments)]).double()
        for kl in PRICES:
            best = optimum.tilted(log_ref, worth, kl)
            wins = torch.einsum("qa,qb,qab->q", best.exp(), log_ref.exp(), better).mean()
            yield (
                f"{steps:4d} steps, --kl {kl:<5g}: gold {optimum.reward(best, gold):.2f}, wins {wins:.0%}, "
                f"KL {optimum.kl(best, log_ref):.1f}"
            )


def beta(out: Path) -> Iterator[str]:
    """The worst error of the three reliabilities, and the share of the possible gain."""
    found = np.zeros((5, len(BETAS), 2))
    for row, seed in enumerate(range(2000, 2005)):
        world = tutoring.tutoring(seed)
        pairs = tutoring.compared(world)
        data = lcpo.answered(pairs, np.random.default_rng([seed, 22]))
        for column, one in enumerate(BETAS):
            policy, em, _ = lcpo.cured(world, pairs, data, beta=one)
            off = float((lcpo.kinds(em) - lcpo.RELIABLE).abs().max())
            found[row, column] = off, world.measured(policy).share.value
    for one, (off, share) in zip(BETAS, found.mean(0), strict=True):
        yield f"beta {one:g}: off by {off:.2f}, share {share:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["price", "beta"])
    parser.add_argument("--out", type=Path, default=Path("runs/lm-choices"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    ensure_torchvision()
    for line in {"price": price, "beta": beta}[args.which](args.out):
        print(line, flush=True)


if __name__ == "__main__":
    main()
