"""What tests/llm_bridge/test_parallel.py launches: the same run, alone and on two processes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from embodied.direct import direct
from embodied.feedback import Feedback
from embodied.fit import fit
from embodied.methods import dpo
from embodied.reference import Reference
from llm_bridge.lm import LM
from llm_bridge.parallel import gathered, own_parts, shard, start
from tests.llm_bridge import tiny


def main(out: Path, alone: bool) -> None:
    torch.set_num_threads(1)
    lm = LM(tiny.model().train(), row=40)
    reference = Reference(lm)
    segments = tiny.texts(32, 2, 8, 8)
    one = torch.ones(32)
    data = Feedback(segments, torch.tensor([1.0, 0.0]).repeat(32, 1), one, one.long() * 0, one.bool())
    for some in lm.parts(segments):
        reference.log_prob(segments[some])
    split, rank = lm.parts, 0
    if not alone:
        where = start()
        shard(lm, where)
        split, rank = own_parts(lm, where), where.rank
    opt = torch.optim.AdamW(lm.parameters(), 1e-3)
    report = fit(direct(lm, dpo(), reference), data, opt, steps=5, batch=12, rng=np.random.default_rng(0), split=split)
    weights = lm.state_dict() if alone else gathered(lm)
    losses = torch.tensor(report.losses)
    if not alone:
        torch.distributed.all_reduce(losses)
    if rank == 0:
        kept = {name: value.contiguous().clone() for name, value in weights.items() if "lm_head" not in name}
        safetensors.torch.save_file(kept | {"losses": losses}, out)
    if not alone:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), "alone" in sys.argv)
