"""One run on several processes, each with a share of the weights and of every batch: FSDP, with the losses as they are.

    lm = LM(model)
    where = start()                                     # under `torchrun` or `accelerate launch --multi_gpu`
    shard(lm, where)
    fit(direct(lm, dpo(), memory), data, opt, steps=100, batch=64, rng=rng, split=own_parts(lm, where))

Every process draws the same batch (give all the same `rng`), takes every n-th of its parts, and the gradients are added
up: they are those of the whole batch on one process (but for KTO, whose anchor is then that of a process's share). The
loss that a process reports is its share of the batch's. What
was computed before belongs before `shard`: a reference's log-probabilities (`Remembered`), a frozen copy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from embodied.feedback import Segments
from embodied.fit import Split
from llm_bridge.lm import LM, base, decoder
from llm_bridge.packing import parts


@dataclass(frozen=True)
class Where:
    """Which of how many processes this is, and on what device it works."""

    rank: int
    processes: int
    device: torch.device


def start() -> Where:
    """Join the other processes; of one that was started alone, it is the only one.

    Raises RuntimeError, with what to type, where the launcher's variables are missing.
    """
    if "RANK" not in os.environ:
        raise RuntimeError(
            "this process was not launched with others; run it by `torchrun --nproc-per-node 2` or `accelerate launch`"
        )
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if gpu else "gloo")
    return Where(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)


def shard(lm: LM, where: Where) -> None:
    """Divide the model's weights among the processes, layer by layer (torch's fully_shard); make the optimiser later.

    All processes hold the same weights before. Sampling from a divided model is not offered: `gathered` gives a whole
    one its weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(where.device.type, (where.processes,))
    for layer in decoder(base(lm.model)).layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(lm, mesh=mesh)
    register_fsdp_forward_method(lm, "log_prob")
    for module in lm.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum: `fit` has divided by the whole batch
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def own_parts(lm: LM, where: Where) -> Split:
    """The parts of a batch that are this process's, as many for each process, since all go through the model together.

    Raises ValueError for a batch of fewer rows than there are processes.
    """

    def split(segments: Segments) -> list[slice]:
        if len(segments) < where.processes:
            raise ValueError(
                f"a batch of {len(segments)} rows for {where.processes} processes; give at least one row for each"
            )
        found = parts(segments, lm.row)
        if len(found) % where.processes:
            count = min(len(segments) // where.processes, -(-len(found) // where.processes)) * where.processes
            edges = [len(segments) * i // count for i in range(count + 1)]
            found = [slice(a, b) for a, b in pairwise(edges)]
        return found[where.rank :: where.processes]

    return split


def gathered(lm: LM) -> dict[str, Tensor]:
    """The whole weights on the CPU of the first process, and nothing on the others; all of them call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    found: dict[str, Any] = get_model_state_dict(lm, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return found
