"""`rapport lm reward`: a reward model of comparisons, ties, rankings and ratings, of one quality or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from embodied.feedback import Feedback
from embodied.fit import Objective, ranking
from embodied.losses import logistic, pairwise, plackett_luce, pointwise
from embodied.scores import Scorer
from rapport.lm import data
from rapport.lm.learning import Begun, begin, learn, some
from rapport.lm.models import limits_of
from rapport.lm.running import Row
from rapport.run import RunError, write_json

if TYPE_CHECKING:
    from llm_bridge.records import Record
    from rapport.lm.verb import Reward

QUALITIES = "qualities.json"


def loss_of(part: Feedback) -> Any:
    """Pairs, ties among them, by Bradley and Terry; rankings by Plackett and Luce; good and bad by a logistic loss."""
    alternatives = part.target.shape[1]
    return pointwise(logistic) if alternatives == 1 else pairwise(logistic) if alternatives == 2 else plackett_luce


def command(options: Reward) -> int:
    from llm_bridge.records import about, pairs
    from llm_bridge.reward import RewardLM

    qualities = options.qualities
    if len(set(qualities)) != len(qualities):
        raise RunError(f"--qualities {' '.join(qualities)} names one twice: name each once.")

    def use(quality: str | None) -> Callable[[Sequence[Record]], tuple[list[Record], dict[str, int]]]:
        def of(records: Sequence[Record]) -> tuple[list[Record], dict[str, int]]:
            if quality is None:
                return data.told(records, listwise=True, marks=True)
            rated = pairs(about(records, quality))
            kept = [r for r in rated if len(r.completions) > 1]
            return kept, {f"answers without a rival in {quality}": len(rated) - len(kept)}

        return of

    begun = begin(options, use(qualities[0] if qualities else None), outputs=max(1, len(qualities)))
    reward = RewardLM(begun.loaded.model, row=options.row)
    scored: list[tuple[str, Scorer, tuple[Feedback, ...], tuple[Feedback, ...]]] = []
    for output, quality in enumerate(qualities or ("",)):
        fed = begun.fed if not output else _further(options, begun, use(quality))
        scored.append((quality, reward.of(output), fed.learned, fed.held_out))
    objectives: list[tuple[Objective, Feedback]] = [
        (ranking(scorer, loss_of(part)), part) for _, scorer, learned, _ in scored for part in learned
    ]

    def look(out: Path) -> Callable[[], Row]:
        write_json(out / QUALITIES, list(qualities))

        def measured() -> Row:
            row: Row = {}
            for quality, scorer, learned, held_out in scored:
                for side, parts in (("", learned), ("held_out_", held_out)):
                    found = agreement(scorer, some(parts, reward.parts))
                    row |= {f"{side}{name}{f'_{quality}' if quality else ''}": value for name, value in found.items()}
            return row

        return measured

    learn(options, "reward", begun, reward, objectives, look, speaks=False, more={"qualities": list(qualities)})
    return 0


def _further(options: Reward, begun: Begun, use: Any) -> data.Fed:
    return data.feed(begun.found, use, begun.loaded.tokenizer, seed=options.seed, **limits_of(options))


@torch.no_grad()
def agreement(scorer: Scorer, parts: Sequence[Feedback]) -> Row:
    """Of all pairs of unequal targets within a row, the share that the scores put in order (half of a tie), and the
    mean margin; None where there is no such pair."""
    gaps = [gap for part in parts if part.target.shape[1] > 1 for gap in _gaps(scorer(part.segments), part.target)]
    if not gaps or not len(gap := torch.cat(gaps)):
        return {"accuracy": None, "margin": None}
    return {"accuracy": float(((gap > 0) + (gap == 0) / 2).mean()), "margin": float(gap.mean())}


def _gaps(score: Tensor, target: Tensor) -> list[Tensor]:
    above = target[:, :, None] > target[:, None, :]
    return [(score[:, :, None] - score[:, None, :])[above].double()]
