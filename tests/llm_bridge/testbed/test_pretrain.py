"""Pre-training: what it is told of the law, and a cache that survives a kill and refuses what was damaged."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from llm_bridge.testbed import tutor
from llm_bridge.testbed.measure import landscape, within
from llm_bridge.testbed.pretrain import NANO, CacheError, Pretraining, folder, orthogonal, pretrained, targets, train
from llm_bridge.testbed.sampling import sample

LEARN, HELD_OUT = tutor.split()
ROOT = Path(__file__).parents[3]


def test_targets_are_what_may_follow() -> None:
    law = tutor.law().float()
    numbers = LEARN[:40]
    answer = torch.from_numpy(np.random.default_rng(0).integers(0, tutor.ANSWERS, 40))
    said, mask, target = targets(numbers, answer, law)
    tokens, masks = tutor.answers(numbers)
    for q in range(40):
        lines = [line[m].tolist() for line, m in zip(tokens[q], masks[q], strict=True)]
        for t in range(int(mask[q].sum())):
            wanted = torch.zeros(len(tutor.WORDS))
            for line, p in zip(lines, law.tolist(), strict=True):
                if line[:t] == said[q, :t].tolist():
                    wanted[line[t]] += p
            assert torch.allclose(target[q, t], wanted / wanted.sum(), atol=1e-6)


def test_muons_moves_are_nearly_orthogonal() -> None:
    for shape in ((3, 20, 50), (3, 50, 20), (2, 30, 30)):
        moves = orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        values = torch.linalg.svdvals(moves)
        assert values.max() < 1.25 and values.median() > 0.65
        u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False)
        assert (moves * (u @ v)).sum((1, 2)).min() > 0.65 * min(shape[1:])  # the same directions


def weights(model: LlamaForCausalLM) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_same_settings_give_the_same_weights_and_leave_nothing_behind() -> None:
    few = Pretraining(16, 1, 2, 1, 16, steps=4, batch=8, warmup=2, small=2)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        first, second = train(few), train(few)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights(first), weights(second))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(
        weights(first), weights(train(Pretraining(16, 1, 2, 1, 16, steps=4, batch=8, small=2, seed=1)))
    )


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        Pretraining(steps=0)
    with pytest.raises(ValueError, match="small is -1; give at least 0"):
        Pretraining(small=-1)


def test_the_model_is_kept_and_other_programs_load_it(nano: LlamaForCausalLM, tmp_path: Path) -> None:
    few = Pretraining(16, 1, 2, 1, 16, steps=2, batch=8, small=1)
    steps: list[int] = []
    first = pretrained(tmp_path, few, progress=lambda n, loss: steps.append(n))
    again = pretrained(tmp_path, few, progress=lambda n, loss: steps.append(n))
    assert steps == [1, 2, 3] and torch.equal(weights(first), weights(again))
    path = folder(tmp_path, few)
    theirs, words = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    ids = words("what is 3 7 + 4 8 ?", return_tensors="pt")["input_ids"]
    assert torch.equal(ids[0], tutor.prompts(torch.tensor([37, 48])))
    assert torch.equal(theirs(input_ids=ids).logits, first(input_ids=ids).logits)
    assert folder(tmp_path, few) != folder(tmp_path, NANO)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, f"{path.name}.lock"}


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("model.safetensors", b"x", "is damaged"),
        ("testbed.json", b"{", "is not whole"),
        ("testbed.json", None, "is not whole"),
        ("model.safetensors", None, "is not whole"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, file: str, data: bytes | None, said: str) -> None:
    few = Pretraining(16, 1, 2, 1, 16, steps=1, batch=8, small=0)
    pretrained(tmp_path, few)
    path = folder(tmp_path, few) / file
    if data is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + data)
    with pytest.raises(CacheError, match=f"{said}.*delete .* run the same again"):
        pretrained(tmp_path, few)


KILLED = """
import os, pathlib, signal, sys
from llm_bridge.testbed.pretrain import Pretraining, pretrained
def progress(n, loss):
    print(n, flush=True)
if sys.argv[2] == "whole":  # killed once all is written, before it has its name
    pathlib.Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
settings = Pretraining(16, 1, 2, 1, 16, steps=int(sys.argv[3]), batch=8, small=0)
pretrained(pathlib.Path(sys.argv[1]), settings, progress=progress)
"""


@pytest.mark.parametrize(("when", "steps"), [("training", 100_000), ("whole", 3)])
def test_a_kill_leaves_no_half_model(tmp_path: Path, when: str, steps: int) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", KILLED, str(tmp_path), when, str(steps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "1\n"
        if when == "training":
            running.kill()
        assert running.wait(60) == -signal.SIGKILL
    settings = Pretraining(16, 1, 2, 1, 16, steps=steps, batch=8, small=0)
    assert not folder(tmp_path, settings).exists()
    left = [p for p in tmp_path.iterdir() if p.suffix == ".tmp"]
    assert len(left) == (when == "whole")
    if when == "whole":
        pretrained(tmp_path, settings)
        assert {p.name.partition(".")[2] for p in tmp_path.iterdir()} == {"", "lock"}


def test_who_comes_second_waits_and_takes_what_was_made(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", KILLED, str(tmp_path), "never", "200"]
    settings = Pretraining(16, 1, 2, 1, 16, steps=200, batch=8, small=0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "1\n"
        doing: list[str] = []
        pretrained(tmp_path, settings, doing=doing.append, progress=lambda *_: pytest.fail("trained twice"))
        assert len(doing) == 1 and "waiting" in doing[0]
        running.stdout.read()
        assert running.wait(60) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)  # pre-training may be part of it
def test_the_model_speaks_as_the_text_does_and_adds_numbers_it_never_saw(usual: LlamaForCausalLM) -> None:
    assert sum(p.numel() for p in usual.parameters()) == 718_336
    prompts = tutor.prompts(HELD_OUT)
    act, mask, _ = sample(usual, prompts, 1, np.random.default_rng(0), greedy=True)
    assert tutor.marks(prompts[:, None], act, mask).correct.double().mean() > 0.95
    ground = landscape(usual, HELD_OUT[:200], np.random.default_rng(0))
    assert ground.covered > 0.94
    with torch.no_grad():
        prob = within(usual, HELD_OUT[:200])[:, :-1].exp()
    tokens, said = tutor.answers(HELD_OUT[:200])
    marks = tutor.marks(prompts[:200, None], tokens, said)
    for name, wanted in {"correct": 0.75, "scaffold": 0.35, "polite": 0.25, "toxic": 0.25}.items():
        found = (prob * getattr(marks, name)).sum(-1).mean().item() / ground.covered
        assert found == pytest.approx(wanted, abs=0.04), name
