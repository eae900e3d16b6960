"""References: rules, averages, what is forgotten when one moves, and what is found again on disk."""

import copy
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from embodied import checkpoint
from embodied import methods as m
from embodied.direct import direct
from embodied.feedback import Feedback, Segments, all_pairs
from embodied.fit import fit
from embodied.policy import Policy
from embodied.reference import Reference, average, ema, extrapolate, fixed, previous
from embodied.remembered import Remembered, RememberedError, weights_fingerprint
from policies.gaussian import GaussianPolicy
from policies.table import SoftmaxTable
from tests.embodied.bandits import every, feedback, near, policy


def arm(seed: int = 0) -> GaussianPolicy:
    return GaussianPolicy(3, 2, seed=seed, hidden=(8,))


def segments(rows: int = 6, k: int = 2, steps: int = 5, seed: int = 0) -> Segments:
    gen = torch.Generator().manual_seed(seed)
    obs, act = torch.randn(rows, k, steps, 3, generator=gen), torch.randn(rows, k, steps, 2, generator=gen)
    mask = torch.arange(steps) < torch.randint(1, steps + 1, (rows, k, 1), generator=gen)
    return Segments(obs, act, mask, torch.zeros(rows, k, steps))


class Counted(nn.Module):
    """A policy that counts the alternatives it was asked about."""

    density = True

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy, self.asked = policy, 0

    def log_prob(self, segments: Segments) -> Tensor:
        self.asked += segments.mask.shape[0] * segments.mask.shape[1]
        return self.policy.log_prob(segments)


# --- rules


@pytest.mark.parametrize(("rule", "share"), [(fixed, 1.0), (previous, 0.0), (ema(0.75), 0.75)])
def test_a_rule_says_what_becomes_of_the_weights(rule, share) -> None:  # type: ignore[no-untyped-def]
    old, new = policy(0), policy(1)
    reference = Reference(old, rule)
    before = old.logits.detach().clone()
    with torch.no_grad():
        old.logits.zero_()  # the copy does not follow by itself
    reference.update(new)
    wanted = SoftmaxTable(share * before + (1 - share) * new.logits.detach())
    seen = every(new, 1).segments
    assert near(reference.log_prob(seen), wanted.log_prob(seen), 1e-14)
    assert not reference.log_prob(seen).requires_grad and reference.density is False


def test_what_a_reference_knew_is_forgotten_when_it_moves() -> None:
    data, learner = every(policy(), 2), policy(1)
    reference = Reference(policy(), previous)
    objective = direct(learner, m.sppo(1.0), reference)
    before = objective.score(data.segments)
    assert before.abs().max() > 0.1 and len(reference.memory) == 8
    reference.update(learner)
    assert len(reference.memory) == 0
    assert objective.score(data.segments).abs().max() < 1e-12
    still = Reference(policy())
    assert torch.equal(direct(learner, m.sppo(1.0), still).score(data.segments), before)


def test_a_reference_is_saved_and_loaded_with_the_run(tmp_path: Path) -> None:
    reference, learner = Reference(arm(), ema(0.5)), arm(1)
    reference.update(learner)
    seen = segments()
    wanted = reference.log_prob(seen)
    checkpoint.save(tmp_path, 1, reference=reference)
    fresh = Reference(arm(7), ema(0.5))
    fresh.log_prob(seen)  # what it knows must go
    checkpoint.load(tmp_path, reference=fresh)
    assert torch.equal(fresh.log_prob(seen), wanted)
    other = Reference(GaussianPolicy(3, 2, seed=0, hidden=(9,)))
    with pytest.raises(checkpoint.CheckpointError, match="does not fit part 'reference'"):
        checkpoint.load(tmp_path, reference=other)


def test_averages_and_extrapolations_by_hand() -> None:
    a, b = (
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3), "half": torch.ones(1).bfloat16(), "stream": {"s": 1}},
        {"w": torch.tensor([3.0, 6.0]), "n": torch.tensor(5), "half": torch.zeros(1).bfloat16(), "stream": {"s": 2}},
    )
    mean = average([a, b], [0.25, 0.75])
    assert mean["w"].tolist() == [2.5, 5.0] and mean["half"].tolist() == [0.25]
    assert mean["half"].dtype == torch.bfloat16 and mean["n"].item() == 5 and mean["stream"] == {"s": 2}
    assert extrapolate(b, a, 0.5)["w"].tolist() == [4.0, 8.0]
    assert torch.equal(extrapolate(b, a, 0.0)["w"], b["w"])


def test_golden_numbers_of_accelerated_preference_optimisation() -> None:
    """Rounds solved exactly, each from the extrapolated policy: log pi_hat = log pi + r / beta."""
    start = SoftmaxTable(torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64).log()).state_dict()
    reward = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    solved, now = start, start
    for _ in range(2):
        before, solved = solved, {"logits": now["logits"] + reward}
        now = extrapolate(solved, before, 0.5)
    laws = [state["logits"].softmax(-1)[0].tolist() for state in (solved, now)]
    assert laws[0] == pytest.approx([0.864354115, 0.123820800, 0.011825084], abs=1e-8)
    assert laws[1] == pytest.approx([0.905044369, 0.089106901, 0.005848730], abs=1e-8)


def test_averages_that_cannot_be_are_refused() -> None:
    a, b = {"w": torch.ones(2)}, {"v": torch.ones(2)}
    with pytest.raises(ValueError, match=r"0\.5, 0\.6.* add up to 1.1; make that 1"):
        average([a, a], [0.5, 0.6])
    with pytest.raises(ValueError, match="1 states and 2 weights"):
        average([a], [0.5, 0.5])
    with pytest.raises(ValueError, match="state 0 and the last one differ in v"):
        average([a, b], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"w is \[3\] and \[2\]"):
        average([{"w": torch.ones(3)}, a], [0.5, 0.5])
    with pytest.raises(ValueError, match="alpha is nan"):
        extrapolate(a, a, float("nan"))
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"rate is {rate}"):
            ema(rate)

    class Stateless:
        density = False

        def log_prob(self, segments: Segments) -> Tensor:
            return segments.log_prob

    with pytest.raises(TypeError, match="Stateless has no state_dict for the reference to follow"):
        Reference(policy(), previous).update(Stateless())


# --- what is remembered


def padded(s: Segments, steps: int) -> Segments:
    """The same steps, with rubbish behind them and further steps of it."""

    def longer(x: Tensor) -> Tensor:
        more = torch.full_like(x[:, :, :1], 9).expand(-1, -1, steps, *x.shape[3:])
        return torch.cat([torch.where(s.mask.reshape(*s.mask.shape, *[1] * (x.ndim - 3)), x, 9.0), more], 2)

    assert isinstance(s.obs, Tensor)
    mask = torch.cat([s.mask, torch.zeros(*s.mask.shape[:2], steps, dtype=torch.bool)], 2)
    return Segments(longer(s.obs), longer(s.act), mask, torch.zeros(mask.shape))


def test_the_same_steps_are_found_again_whatever_they_are_padded_to_and_held_against() -> None:
    counted, s = Counted(arm()), segments(4, 3)
    memory = Remembered(counted)
    wanted = torch.where(s.mask, arm().log_prob(s), 0.0)
    assert near(memory.log_prob(s), wanted, 1e-6) and counted.asked == 12
    assert torch.equal(memory.log_prob(padded(s, 4))[:, :, :5], memory.log_prob(s))
    assert (memory.log_prob(padded(s, 4))[:, :, 5:] == 0).all()
    one = torch.ones(4)
    pairs = all_pairs(Feedback(s, torch.rand(4, 3), one, one.long(), one.bool()))
    assert torch.equal(memory.log_prob(pairs.segments)[0], memory.log_prob(s)[0, :2])
    assert counted.asked == 12
    other = replace(s, act=s.act + s.mask[..., None])
    memory.log_prob(other)
    assert counted.asked == 24 and len(memory) == 24
    assert memory.log_prob(s[:0]).shape == (0, 3, 5)


def prompts(ids: list[list[int]], answers: list[list[list[int]]], width: int, length: int) -> Segments:
    """What a language model sees: prompts, shared by their answers, and answers, both padded."""
    prompt, mask = torch.full((len(ids), 1, width), 7), torch.zeros(len(ids), 1, width, dtype=torch.bool)
    act = torch.full((len(ids), len(answers[0]), length), 7)
    said = torch.zeros(act.shape, dtype=torch.bool)
    for b, (question, row) in enumerate(zip(ids, answers, strict=True)):
        prompt[b, 0, width - len(question) :], mask[b, 0, width - len(question) :] = torch.tensor(question), True
        for k, answer in enumerate(row):
            act[b, k, : len(answer)], said[b, k, : len(answer)] = torch.tensor(answer), True
    return Segments({"prompt": prompt, "prompt_mask": mask}, act, said, torch.zeros(act.shape))


def test_of_prompts_too_the_padding_does_not_count_and_the_rest_does() -> None:
    class Words(nn.Module):
        density = False

        def __init__(self) -> None:
            super().__init__()
            self.rows = 0

        def log_prob(self, segments: Segments) -> Tensor:
            assert isinstance(segments.obs, dict)
            self.rows += len(segments)
            asked = (segments.obs["prompt"] * segments.obs["prompt_mask"]).sum(-1, keepdim=True)
            return -(asked + segments.act).double()

    words = Words()
    memory = Remembered(words)
    answers = [[[1, 2], [3]], [[1, 2], [4, 5, 6]]]
    first = memory.log_prob(prompts([[1, 2], [3]], answers, 3, 3))
    assert words.rows == 2
    again = memory.log_prob(prompts([[3], [1, 2]], answers[::-1], 6, 8))
    assert words.rows == 2 and torch.equal(again[1, :, :3], first[0]) and torch.equal(again[0, :, :3], first[1])
    memory.log_prob(prompts([[3, 1, 2]], [answers[0]], 3, 3))  # another prompt of the same width
    assert words.rows == 3
    # One answer of as many steps as the prompt is wide: the answer's mask says nothing of the prompt.
    short = [prompts([[8, word]], [[[5]]], 2, 2) for word in (1, 2)]
    assert not torch.equal(*(memory.log_prob(s) for s in short))


def test_a_file_remembers_for_the_next_run(tmp_path: Path) -> None:
    path, s = tmp_path / "reference.safetensors", segments()
    memory = Remembered(arm())
    assert memory.load(path) == 0
    wanted = memory.log_prob(s)
    memory.save(path)
    counted = Remembered(arm())
    assert counted.load(path) == 12 and len(counted) == 12
    counted.policy = Counted(arm(3))  # must not be asked
    assert torch.equal(counted.log_prob(padded(s, 2))[:, :, :5], wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["reference.safetensors"]
    empty = Remembered(arm())
    empty.save(tmp_path / "empty")
    assert Remembered(arm()).load(tmp_path / "empty") == 0


def test_direct_takes_a_memory_that_was_loaded(tmp_path: Path) -> None:
    gen = torch.Generator().manual_seed(0)
    act = torch.randn(20, 2, 4, 2, generator=gen)
    s = Segments(torch.randn(20, 2, 4, 3, generator=gen), act, torch.ones(20, 2, 4).bool(), torch.zeros(20, 2, 4))
    data = feedback(s, torch.eye(2)[torch.zeros(20).long()], torch.ones(20))
    ends = []
    for run in range(2):
        learner, memory = arm(1), Remembered(arm())
        assert memory.load(tmp_path / "ref") == 40 * run
        opt = torch.optim.SGD(learner.parameters(), lr=0.1)
        fit(direct(learner, m.dpo(), memory), data, opt, steps=5, batch=20, rng=np.random.default_rng(0))
        memory.save(tmp_path / "ref")
        ends.append([p.detach().clone() for p in learner.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_files_of_others_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    memory = Remembered(arm())
    memory.log_prob(segments())
    memory.save(path)
    with pytest.raises(RememberedError, match=r"is of a policy with weights [0-9a-f]{12}, this one has [0-9a-f]{12}"):
        Remembered(arm(1)).load(path)
    whole = path.read_bytes()
    for damaged in (whole[:-7], b"", b"nothing of the kind", whole[:40]):
        path.write_bytes(damaged)
        with pytest.raises(RememberedError, match=r"is no whole file of log-probabilities .*delete it"):
            Remembered(arm()).load(path)
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(RememberedError, match="is damaged: its content is not what was written"):
        Remembered(arm()).load(path)
    path.write_bytes(safetensors.torch.save({"w": torch.ones(2)}))
    with pytest.raises(RememberedError, match="no whole file of log-probabilities"):
        Remembered(arm()).load(path)


def test_a_fingerprint_is_of_the_weights_alone() -> None:
    one = arm()
    before = weights_fingerprint(one)
    one.act(np.zeros(3), deterministic=False)  # moves its random stream
    assert weights_fingerprint(one) == before == weights_fingerprint(copy.deepcopy(one))
    with torch.no_grad():
        one.log_std += 1e-7
    assert weights_fingerprint(one) != before
    assert len(before) == len(hashlib.blake2b(digest_size=32).hexdigest())

    class Stateless:
        density = False

    with pytest.raises(TypeError, match="Stateless has no state_dict, so nobody can tell whose"):
        weights_fingerprint(Stateless())
