"""One run on several processes, each with a whole model and a share of every batch.

torchrun --nproc-per-node 2 -m rapport lm align ...   # on a GPU each, or on a CPU
accelerate launch --num_processes 2 -m rapport lm align ...  # on GPUs: without any it starts one process
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from rapport.console import say

if TYPE_CHECKING:
    from embodied.fit import Split
    from llm_bridge.lm import LM


def several() -> bool:
    """Whether a launcher (torchrun, accelerate) started this process with others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def first() -> bool:
    """The process that reads and writes, looks and speaks; the others only learn."""
    return int(os.environ.get("RANK", 0)) == 0


@contextmanager
def joined() -> Iterator[None]:
    """All processes, from here to the end; only the first is heard."""
    if not several():
        yield
        return
    from llm_bridge.parallel import start

    start()
    if first():
        say(f"{os.environ['WORLD_SIZE']} processes, each with the whole model and a share of every batch.")
    said = sys.stdout, sys.stderr
    try:
        with open(os.devnull, "w") as nowhere:
            if not first():
                sys.stdout = sys.stderr = nowhere
            yield
    finally:
        sys.stdout, sys.stderr = said
        torch.distributed.destroy_process_group()


def wait() -> None:
    """Until all processes are here."""
    if several():
        torch.distributed.barrier()


def share(lm: LM, split: Split) -> Split:
    """The parts of a batch that this process learns from."""
    if not several():
        return split
    from llm_bridge.parallel import Where, own_parts

    return own_parts(lm, Where(torch.distributed.get_rank(), torch.distributed.get_world_size(), lm.device))


def add_gradients(learns: list[nn.Parameter]) -> None:
    """Those of all processes, so that each makes the step of the whole batch."""
    if several():
        for parameter in learns:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.distributed.all_reduce(parameter.grad)


def added(losses: list[float]) -> list[float]:
    """Each process has its share of the loss."""
    if not several():
        return losses
    total = torch.tensor(losses, dtype=torch.float64)
    total = total.cuda() if torch.distributed.get_backend() == "nccl" else total
    torch.distributed.all_reduce(total)
    return [float(x) for x in total]
