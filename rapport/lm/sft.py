"""`rapport lm sft`: imitation of demonstrations, or of what was preferred."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from embodied.fit import imitate
from rapport.lm.data import demonstrations
from rapport.lm.learning import begin, learn, mean_loss, some
from rapport.lm.running import Row

if TYPE_CHECKING:
    from rapport.lm.verb import Sft


def command(options: Sft) -> int:
    begun = begin(options, demonstrations)
    lm = begun.loaded.lm(options.row)
    objective = imitate(lm)

    def look(out: Path) -> Callable[[], Row]:
        def measured() -> Row:
            return {"held_out_loss": mean_loss(objective, some(begun.fed.held_out, lm.parts))}

        return measured

    learn(options, "sft", begun, lm, [(objective, part) for part in begun.fed.learned], look)
    return 0
