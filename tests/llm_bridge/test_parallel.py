"""Two processes, divided weights, the same run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from llm_bridge.lm import LM
from llm_bridge.parallel import Where, own_parts, start
from tests.llm_bridge import tiny

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_make_the_same_run(tmp_path: Path) -> None:
    """Five steps of AdamW on two CPU processes: the losses and the weights of one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    for command, words in ((launch, ()), ([sys.executable, "-m"], ("alone",))):
        name = "alone" if words else "two"
        done = subprocess.run(
            [*command, "tests.llm_bridge.two_processes", str(tmp_path / name), *words],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    two, alone = (safetensors.torch.load_file(tmp_path / name) for name in ("two", "alone"))
    assert torch.allclose(two["losses"], alone["losses"], rtol=0, atol=1e-5)
    assert two["losses"][-1] < two["losses"][0]
    far = {k: float((two[k] - alone[k]).abs().max()) for k in alone if k in two}
    assert len(far) > 20 and sorted(far.values())[len(far) * 9 // 10] < 1e-4, far


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("row", [20, 60, 10_000])
def test_every_process_has_as_many_parts_and_each_row_is_somebodys(processes: int, row: int) -> None:
    lm, segments = LM(tiny.model(), row=row), tiny.texts(13, 2, 8, 8)
    own = [own_parts(lm, Where(rank, processes, torch.device("cpu")))(segments) for rank in range(processes)]
    assert len({len(parts) for parts in own}) == 1
    rows = [i for parts in own for some in parts for i in range(13)[some]]  # type: ignore[index]
    assert sorted(rows) == list(range(13))


def test_too_few_rows_and_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a batch of 2 rows for 3 processes"):
        own_parts(LM(tiny.model()), Where(0, 3, torch.device("cpu")))(tiny.texts(2, 2, 4, 4))
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError, match="accelerate launch"):
        start()
