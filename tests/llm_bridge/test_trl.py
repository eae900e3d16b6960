"""The same run as trl's: its batches played again, loss for loss."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.methods import dpo
from llm_bridge.lm import LM
from tests.llm_bridge import tiny

ROOT = Path(__file__).parents[2]


def played(batch: dict[str, Any]) -> Feedback:
    """A batch of trl's, padded rows [2B,T] with the chosen first, as pairs that share their prompt."""
    ids, answer, real = (torch.tensor(batch[name]) for name in ("ids", "answer", "mask"))
    pairs = len(ids) // 2

    def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
        mask = torch.arange(max(map(len, rows))) < torch.tensor([len(row) for row in rows])[:, None]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), mask

    prompts, prompt_mask = padded([ids[b][(answer[b] == 0) & (real[b] == 1)] for b in range(pairs)])
    act, mask = padded([ids[b + k * pairs][answer[b + k * pairs] == 1] for b in range(pairs) for k in (0, 1)])
    act, mask = act.view(pairs, 2, -1), mask.view(pairs, 2, -1)
    obs = {"prompt": prompts[:, None], "prompt_mask": prompt_mask[:, None]}
    one = torch.ones(pairs)
    segments = Segments(obs, act, mask, torch.full(mask.shape, torch.nan))
    return Feedback(segments, torch.tensor([1.0, 0.0]).repeat(pairs, 1), one, one.long() * 0, one.bool())


@pytest.mark.slow
@pytest.mark.peer
def test_trl_dpo_played_again(tmp_path: Path) -> None:
    """25 steps of AdamW from the same weights: losses equal to 1e-5 all the way, where a wrong beta is soon far off."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import peer_env

    net = tiny.model(initializer_range=0.05)
    net.save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    rows = [
        {
            name: rng.integers(6, tiny.VOCABULARY, rng.integers(2, 12)).tolist()
            for name in ("prompt", "chosen", "rejected")
        }
        for _ in range(64)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    theirs: Any = peer_env.run(
        ROOT / ".venv-trl",
        "trl_trajectory",
        tmp_path / "model",
        tmp_path / "pairs.jsonl",
        25,
        pins=ROOT / "benchmarks/trl.txt",
    )
    apart = {}
    for beta in (0.1, 0.2):
        lm = LM(copy.deepcopy(net).train())
        objective = direct(lm, dpo(beta))
        opt = torch.optim.AdamW(lm.parameters(), 1e-4, weight_decay=0.0)
        off = []
        for batch in theirs:
            loss = objective(played(batch)).mean()
            off.append(abs(loss.item() - batch["loss"]))
            opt.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
            opt.step()
        apart[beta] = max(off)
    assert len(theirs) == 25
    assert apart[0.1] < 1e-5 and apart[0.2] > 1e-3
