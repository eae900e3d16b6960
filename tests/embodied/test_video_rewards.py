"""The networks that RAPL is held against, and the proxies: each learns what it can express, and not what it cannot."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from embodied.rapl import Head
from embodied.video_proxies import cloned, cycle_back, cycled
from embodied.video_rewards import FrameNet, VideoNet, demos_first, learn
from embodied.videos import gains, padding, ranked


def world(seed: int, n: int = 300) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Two features of ten frames; the mean of the first (a sum of frames), the spread of the second (no such sum)."""
    rng = np.random.default_rng(seed)
    centre, width = rng.normal(size=(n, 1, 2)), rng.uniform(0.1, 2, (n, 1, 2))
    x = (centre + width * rng.normal(size=(n, 10, 2))).astype(np.float32)
    x[..., 1] -= x[..., 1].mean(1, keepdims=True)
    return list(x), x[..., 0].mean(1), x[..., 1].std(1) - np.abs(x[..., 1]).mean(1) * 0.5


@pytest.mark.parametrize("net", [FrameNet, VideoNet])
def test_either_learns_a_sum_of_frames_and_shuffled_answers_teach_nothing(net: type) -> None:
    videos, value, _ = world(0)
    test, true, _ = world(1)
    rng = np.random.default_rng(2)
    groups = np.stack([rng.choice(300, 3, replace=False) for _ in range(60)])
    for said, right in ((value[groups], True), (rng.permuted(value[groups], axis=1), False)):
        model = net(np.concatenate(videos))
        learn(model, ranked(videos, groups, said), np.random.default_rng(0))
        found = spearmanr(model.worth(*padding(test)), true)[0]
        assert (found > 0.8) == right


def test_only_the_one_that_sees_the_whole_learns_what_no_sum_says() -> None:
    """Each frame of a video that spends its time evenly looks like one of a video that does not."""
    rng = np.random.default_rng(0)
    even = np.linspace(-1, 1, 10)

    def made(n: int) -> tuple[list[np.ndarray], np.ndarray]:
        x = rng.choice(even, (n, 10, 1)) * rng.uniform(0.2, 1, (n, 1, 1))
        x = np.where(rng.random((n, 1, 1)) < 0.5, x, rng.choice([-1, 1], (n, 1, 1)) * np.abs(x)).astype(np.float32)
        return list(x), -np.abs(np.sort(x[..., 0], 1) - even).mean(1)

    videos, value = made(300)
    test, true = made(300)
    groups = np.stack([rng.choice(300, 3, replace=False) for _ in range(60)])
    found = {}
    for net in (FrameNet, VideoNet):
        model = net(np.concatenate(videos))
        learn(model, ranked(videos, groups, value[groups]), np.random.default_rng(0))
        found[net] = spearmanr(model.worth(*padding(test)), true)[0]
    assert found[VideoNet] > found[FrameNet] + 0.2


def test_padding_counts_for_nothing_and_gains_sum_to_the_worth() -> None:
    videos, *_ = world(3, 5)
    features, mask = padding([videos[0], videos[1][:4], videos[2][:1]])
    for model in (
        FrameNet(np.concatenate(videos)),
        VideoNet(np.concatenate(videos)),
        FrameNet(videos[0], (), total=True),
    ):
        worth = model.worth(features, mask)
        alone = torch.cat([model.worth(*padding([v])) for v in (videos[0], videos[1][:4], videos[2][:1])])
        assert torch.allclose(worth, alone, atol=1e-6)
        assert torch.allclose(gains(model, features, mask).sum(1), worth, atol=1e-5)


def test_demonstrations_alone_teach_a_net_what_they_have_in_common() -> None:
    videos, value, _ = world(4)
    demos = [videos[i] for i in np.argsort(-value)[:5]]
    model = FrameNet(np.concatenate(videos))
    pairs = demos_first(demos, videos, np.random.default_rng(0))
    assert pairs.weight.tolist() == pytest.approx([0.3] * 60)
    learn(model, pairs, np.random.default_rng(0))
    assert spearmanr(model.worth(*padding(videos)), value)[0] > 0.3


def test_other_answers_are_refused() -> None:
    videos, value, _ = world(5, 10)
    from dataclasses import replace

    data = replace(ranked(videos, np.array([[0, 1]]), value[[[0, 1]]]), kind="rate")
    with pytest.raises(ValueError, match="not answered by rate"):
        learn(FrameNet(np.concatenate(videos)), data, np.random.default_rng(0))


def test_cloning_keeps_what_tells_the_actions_and_refuses_other_lengths() -> None:
    rng = np.random.default_rng(0)
    demos = [rng.normal(size=(20, 30)).astype(np.float32) for _ in range(5)]
    told = [d[:, :2] @ np.array([[1.0, 0.5], [0.0, -1.0]]) for d in demos]
    acts = [np.roll(act, 1, axis=0) for act in told]  # a frame tells what is done next
    assert cloned(Head(30, 4), demos, acts) > 0.95 > 0.6 > cloned(Head(30, 4), demos, told)
    with pytest.raises(ValueError, match="at least two frames"):
        cloned(Head(30, 4), [demos[0][:1]], [acts[0][:1]])
    with pytest.raises(ValueError, match="frames, and"):
        cloned(Head(30, 4), demos, [a[:5] for a in acts])
    with pytest.raises(ValueError, match=r"\[\] frames, and \[\] actions; give one or more"):
        cloned(Head(30, 4), [], [])
    for wrong in ([a[:, 0] for a in acts], [acts[0][:, :1], *acts[1:]], [a[:, :0] for a in acts]):
        with pytest.raises(ValueError, match=r"give \[T,A\] each"):
            cloned(Head(30, 4), demos, wrong)
    head = Head(30, 4)
    before = head.net[0].weight.detach().clone()
    with pytest.raises(ValueError, match="1 of the actions' numbers are not finite"):
        cloned(head, demos, [np.where(np.arange(40).reshape(20, 2) == 3, np.nan, acts[0]), *acts[1:]])
    assert torch.equal(head.net[0].weight, before)
    for learn_from in (lambda h: cloned(h, demos, acts), lambda h: cycled(h, demos, rng)):
        with pytest.raises(ValueError, match="nothing to train"):
            learn_from(Head(30, 0))
    with pytest.raises(ValueError, match=r"not \[T,9\]"):
        cycled(Head(9, 4), demos, rng)


def test_cycles_lead_back_where_two_videos_show_the_same() -> None:
    """A shared path beside distractors: the head keeps the path. Equal videos have loss 0, log sigma apart."""
    same = torch.nn.functional.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert float(cycle_back(same, same, 0.01, 0.0).max()) < 1e-6
    rng, t = np.random.default_rng(0), np.linspace(0, 1, 20)
    path = np.stack([np.cos(3 * t), np.sin(3 * t)], -1)
    demos = [np.concatenate([path, rng.normal(size=(20, 6))], -1).astype(np.float32) for _ in range(6)]
    head = Head(8, 4)

    def share() -> float:
        weight = head.net[0].weight.detach()
        return float(weight[:, :2].norm() / weight.norm())

    assert share() < 0.6
    cycled(head, demos, rng, temperature=1.0)
    assert share() > 0.9
    with pytest.raises(ValueError, match="at least two"):
        cycled(head, demos[:1], rng)
