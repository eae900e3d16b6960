"""Likelihoods: each against the probability written out, and the planted reward is learned back from every kind."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embodied.feedback import by_kind
from embodied.likelihoods import CLASSES, Likelihoods, choice, ordinal, stopped, verdict
from embodied.losses import plackett_luce
from embodied.rational import GRADES, RATINGS, rational
from embodied.records import Answer, Compare, Marks, Query, Segment, Written
from embodied.rewards.ensemble import RewardEnsemble
from embodied.teachers import answer

TRUE = np.array([1.0, -0.6, 0.3, 0.0])
T = 10


def queries(kind, n, k=2, seed=0, scale=0.5):
    """Segments whose steps have features that the true reward is linear in."""
    rng = np.random.default_rng([seed, n])
    found = []
    for i in range(n):
        drift = rng.normal(size=(k, 1, len(TRUE)))
        obs = scale * (0.6 * drift + rng.normal(size=(k, T, len(TRUE))))
        parts = tuple(Segment(f"{kind}{i}-{j}", 0, T, obs[j], np.zeros((T, 0))) for j in range(k))
        found.append(Query(f"{kind}{i}", parts, kind))
    return found


def reward(segment):
    return segment.obs @ TRUE


class Linear(RewardEnsemble):
    """One linear map: what can be learned is the planted reward itself."""

    def __init__(self, members=1):
        super().__init__(len(TRUE), 0, members=members, hidden=(), steps=300, batch=10_000, rate=0.02)

    @property
    def direction(self):
        return (self.weights[0][0, :, 0] / self.obs_std).detach().numpy()


K = {"compare": 2, "grade": 2, "rank": 4, "choose": 4, "rate": 2, "mark": 1, "stop": 1, "survey": 2}


def learned(*kinds, n=300, seed=0, betas=None):
    asked = [q for kind in kinds for q in queries(kind, n, K[kind], seed)]
    betas = dict.fromkeys(kinds, 1.0) | (betas or {})
    teachers = {kind: rational(reward, seed=seed, beta=beta) for kind, beta in betas.items()}
    said = [answer(teachers[q.kind], q, "ann") for q in asked]
    parts, budget = by_kind(said, asked)
    assert budget.answered == len(asked)
    model = Linear()
    report = model.fit(parts, np.random.default_rng(0))
    assert np.isfinite(report["loss"])
    return model


def cosine(model):
    found = model.direction
    return found @ TRUE / np.linalg.norm(found) / np.linalg.norm(TRUE)


@pytest.mark.parametrize("kind", K)
def test_every_kind_alone_tells_the_reward_up_to_scale(kind):
    assert cosine(learned(kind)) > 0.95


@pytest.mark.parametrize("other", ["grade", "mark"])
def test_two_kinds_tell_more_than_either(other):
    def error(*kinds):
        return np.mean([1 - cosine(learned(*kinds, n=30, seed=s)) for s in range(5)])

    assert error("compare", other) < min(error("compare"), error(other))


def test_the_scale_comes_from_comparisons_and_each_kind_has_a_rationality_of_its_own():
    model = learned("compare", "choose", n=1500, betas={"compare": 1.0, "choose": 0.4})
    assert np.linalg.norm(model.direction) == pytest.approx(np.linalg.norm(TRUE), rel=0.15)
    assert model.likelihoods.log_beta["choose"].exp().item() == pytest.approx(0.4, rel=0.2)


def test_thresholds_are_learned_back():
    model = learned("rate", "grade", n=1500)
    gaps = model.likelihoods.rate_cuts()[0].detach().diff().numpy()
    assert gaps == pytest.approx(np.diff(RATINGS), abs=0.15)
    beta = model.likelihoods.log_beta["grade"].exp().item()
    assert beta == pytest.approx(1, rel=0.2)
    assert model.likelihoods.grade_cuts()[0].detach().numpy() == pytest.approx(np.array(GRADES), abs=0.3)


def test_what_was_written_is_no_row():
    asked = queries("write", 2)
    said = [answer(rational(reward, seed=0), q, "ann") for q in asked]
    assert all(isinstance(a.value, Written) for a in said)
    assert by_kind(said, asked)[0] == () and by_kind(said, asked)[1].answered == 2


SCORES = st.lists(st.floats(-30, 30), min_size=2, max_size=4)


def one_hot(k, n):
    return torch.eye(n, dtype=torch.float64)[k : k + 1]


@given(SCORES)
def test_choices_and_stops_are_the_softmax_written_out(scores):
    score = torch.tensor([scores], dtype=torch.float64)
    for of, values in ((choice, np.array(scores)), (stopped, np.cumsum(scores))):
        p = np.exp(values - values.max())
        p /= p.sum()
        got = [torch.exp(-of(score, one_hot(k, len(scores)))).item() for k in range(len(scores))]
        assert got == pytest.approx(list(p), abs=1e-12)


@given(st.floats(-50, 50) | st.sampled_from([-1e9, 1e9]), st.lists(st.floats(0.01, 5), min_size=2, max_size=6))
def test_levels_have_the_probabilities_of_the_logistic_between_thresholds(u, gaps):
    cuts = torch.tensor(gaps, dtype=torch.float64).cumsum(0) - 3
    level = torch.arange(len(gaps) + 1)
    got = torch.exp(-ordinal(torch.full((len(level),), u, dtype=torch.float64), cuts, level))
    below = np.concatenate([[0], 1 / (1 + np.exp(-(cuts.numpy() - u))), [1]])
    assert got.numpy() == pytest.approx(np.diff(below), abs=1e-12)
    assert got.sum().item() == pytest.approx(1)


def test_far_out_levels_keep_a_finite_loss_and_gradient():
    u = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    cuts = torch.tensor([-1.0, 1.0], requires_grad=True)
    loss = ordinal(u, cuts, torch.tensor([2, 0, 1, 1]))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(u.grad).all() and torch.isfinite(cuts.grad).all()
    assert u.grad.tolist() == pytest.approx([-1, 1, -1, 1])


@pytest.mark.parametrize("kind", ["grade", "rank", "choose", "rate", "mark", "stop"])
def test_gradients_are_those_of_finite_differences(kind):
    torch.manual_seed(0)
    k = {"grade": 2, "mark": 1}.get(kind, 3)
    likelihoods = Likelihoods(2).double()
    score = torch.randn(2, 4, k, dtype=torch.float64, requires_grad=True)
    target = {
        "grade": torch.tensor([[2, -2], [0, 0], [-1, 1], [1, -1]]),
        "rank": torch.tensor([[2, 1, 0]] * 4),
        "rate": torch.tensor([[1, 7, 4]] * 4),
        "mark": torch.tensor([[1], [0], [1], [1]]),
    }.get(kind, torch.eye(3)[[0, 1, 2, 0]])
    of = likelihoods.loss(kind, False)
    assert of(score, target.double()).shape == (2, 4)
    assert torch.autograd.gradcheck(lambda s: of(s, target.double()), score)


def test_a_verdict_of_good_is_the_logistic_of_the_utility():
    score = torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    said = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    assert verdict(score, said).exp().reciprocal().tolist() == pytest.approx(
        [1 / (1 + np.exp(-0.3)), 1 / (1 + np.exp(-2))]
    )


@pytest.mark.parametrize("kind", ["compare", "rank", "choose", "stop"])
def test_the_rational_person_answers_as_the_likelihood_says(kind):
    """Frequencies of each answer to one question against e^-loss, over many people."""
    k, n = K[kind], 3000
    (asked,) = queries(kind, 1, k, seed=3, scale=0.25)
    if kind == "stop":
        asked = Query("stop", (Segment("s", 0, 4, asked.segments[0].obs[:4], np.zeros((4, 0))),), "stop")
    said = [answer(rational(reward, seed=s), asked, "ann").value for s in range(n)]
    u = torch.tensor([[reward(s).sum() for s in asked.segments]])
    if kind == "rank":
        wanted = {
            order: torch.exp(-plackett_luce(u, torch.tensor([[-order.index(i) for i in range(k)]]).double())).item()
            for order in itertools.permutations(range(k))
        }
        got = {order: np.mean([v.order == order for v in said]) for order in wanted}
    else:
        score = torch.tensor(reward(asked.segments[0]))[None] if kind == "stop" else u
        of = stopped if kind == "stop" else choice
        wanted = {i: torch.exp(-of(score, one_hot(i, score.shape[1]))).item() for i in range(score.shape[1])}
        read = {"compare": lambda v: int(v.first == 0), "choose": lambda v: v.best, "stop": lambda v: v.after - 1}[kind]
        got = {i: np.mean([read(v) == i for v in said]) for i in wanted}
    for key, p in wanted.items():
        assert got[key] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 1e-3)


def test_ratings_off_the_scale_and_kinds_without_a_likelihood_are_named():
    likelihoods = Likelihoods(1)
    with pytest.raises(ValueError, match=f"a rating is 0.5 or 9; give whole numbers from 1 to {CLASSES}"):
        likelihoods.loss("rate", True)(torch.zeros(1, 1, 2), torch.tensor([[0.5, 9]]))
    with pytest.raises(ValueError, match="there is no likelihood of kind 'write'; use one of choose, grade, mark"):
        likelihoods.loss("write", True)


def test_one_kind_of_several_sizes_has_one_rationality():
    asked = [*queries("choose", 30, 3, seed=1), *queries("choose", 31, 4, seed=2)]
    asked = [Query(f"{q.id}-{i}", q.segments, q.kind) for i, q in enumerate(asked)]
    parts, _ = by_kind([answer(rational(reward, seed=0), q, "ann") for q in asked], asked)
    assert [part.target.shape[1] for part in parts] == [3, 4]
    model = Linear()
    model.fit(parts, np.random.default_rng(0))
    assert model.likelihoods.log_beta["choose"].item() == 0


def test_many_marks_count_as_one_answer():
    (asked,) = queries("mark", 1, 1)
    spans = tuple((t, t + 1, True) for t in range(8))
    (part,), _ = by_kind([Answer("a", asked.id, "ann", "person", Marks(spans))], [asked])
    assert part.weight.sum().item() == pytest.approx(1) and len(part) == 8


def test_what_is_more_like_an_anchor_is_not_mixed_with_what_is_better():
    plain, other = queries("compare", 2)
    near = Query("near", other.segments, anchor=other.segments[0])
    said = [Answer(q.id, q.id, "ann", "person", Compare(1.0)) for q in (plain, near)]
    assert len(by_kind(said[1:], [near])[0]) == 1
    with pytest.raises(ValueError, match="the answers mix questions with an anchor"):
        by_kind(said, [plain, near])
