"""From answers to tensors: revisions, skips, the budget, padding, ranking to pairs, and what is refused."""

import numpy as np
import pytest
import torch

from embodied.feedback import Budget, Feedback, Segments, all_pairs, feedback, stack
from embodied.records import Answer, Compare, Query, Rank, Rate, Segment, Skip


def segment(episode="e", steps=3, value=0.0, start=0):
    obs = np.full((steps, 2), value, np.float32)
    obs[0] = 9 if start == 0 else start
    return Segment(episode, start, start + steps, obs, np.full((steps, 1), -value, np.float32))


def pair(name, first=1.0, second=0.0, steps=(3, 3)):
    return Query(name, (segment("a", steps[0], first), segment("b", steps[1], second)))


def said(name, query, value, seq, annotator="ann", supersedes=""):
    return Answer(name, query, annotator, "person", value, seq, supersedes)


def rows(count=4, alternatives=2, steps=3):
    shape = count, alternatives, steps
    segments = Segments(
        torch.rand(*shape, 5), torch.rand(*shape, 2), torch.ones(shape, dtype=torch.bool), torch.zeros(shape)
    )
    one = torch.ones(count)
    return Feedback(segments, torch.rand(count, alternatives), one, one.long(), one.bool())


def test_an_obviously_better_segment_gets_the_target_in_every_kind():
    queries = [pair("c"), Query("r", tuple(segment("a", value=v) for v in (0, 2, 1)), "rank")]
    compared, _ = feedback([said("1", "c", Compare(1.0), 1)], queries)
    assert compared.target.tolist() == [[1, 0]]
    ranked, _ = feedback([said("2", "r", Rank((1, 2, 0)), 1)], queries)
    assert ranked.target.tolist() == [[0, 1, 0.5]]
    rated = Query("s", queries[1].segments, "rate")
    assert feedback([said("3", "s", Rate((1.0, 9.0, 5.0)), 1)], [rated])[0].target.tolist() == [[1, 9, 5]]


def test_budget_folds_revisions_and_counts_skips_ties_and_duplicates():
    queries = [pair(name) for name in "abcde"]
    answers = [
        said("1", "a", Compare(1.0), 1),
        said("2", "b", Compare(0.5), 2),
        said("3", "c", Skip(), 3),
        said("4", "d", Compare(0.0), 4),
        said("5", "a", Compare(0.0), 5, supersedes="1"),
        said("6", "a", Skip(), 6, supersedes="5"),
        said("7", "d", Compare(1.0), 7),
        said("8", "d", Compare(1.0), 8, annotator="bob"),
    ]
    data, budget = feedback(reversed(answers), queries)
    assert budget == Budget(asked=5, answered=4, skipped=2, ties=1, duplicates=1, revised=2, repeated=4)
    assert data.target.tolist() == [[0.5, 0.5], [0, 1], [1, 0], [1, 0]]
    assert data.annotator.tolist() == [0, 0, 0, 1]
    assert data.weight.tolist() == [1, 1, 1, 1]


def test_a_log_of_skips_is_feedback_without_rows():
    data, budget = feedback([said("1", "a", Skip(), 1)], [pair("a")])
    assert len(data) == 0 and data.target.shape == (0, 2)
    assert budget == Budget(asked=1, skipped=1)


def test_same_context_means_the_same_first_observation():
    other = Query("b", (segment(value=1.0), segment(value=0.0, start=5)))
    data, _ = feedback([said("1", "a", Compare(1.0), 1), said("2", "b", Compare(1.0), 2)], [pair("a"), other])
    assert data.same_context.tolist() == [True, False]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([], "no answer to any of 2 queries"),
        ([said("1", "z", Compare(1.0), 1)], "query z, which is not among"),
        ([said("1", "a", Rate((1.0, 2.0)), 1)], "compare"),
        ([said("1", "a", Compare(1.0), 1), said("1", "a", Compare(0.0), 2)], "id 1 occurs twice"),
        ([said("2", "a", Compare(1.0), 1, supersedes="1")], "supersedes 1, no earlier answer"),
        ([said("1", "a", Compare(1.0), 1), said("2", "a", Skip(), 2, "bob", "1")], "no earlier answer of bob"),
        ([said("1", "a", Compare(1.0), 1), said("2", "r", Rank((0, 1, 2)), 2)], "mix compare of 2, rank of 3"),
    ],
)
def test_answers_that_make_no_sense_are_refused(answers, sentence):
    queries = [pair("a"), Query("r", tuple(segment(value=v) for v in (0, 2, 1)), "rank")]
    with pytest.raises(ValueError, match=sentence):
        feedback(answers, queries)


def test_stack_pads_with_zeros_and_masks():
    segments = stack([pair("a", steps=(3, 1)), pair("b", steps=(2, 3))])
    assert segments.obs.shape == (2, 2, 3, 2) and segments.obs.dtype == torch.float32
    assert segments.mask.sum(-1).tolist() == [[3, 1], [2, 3]]
    assert segments.obs[~segments.mask].abs().sum() == 0
    assert torch.isnan(segments.log_prob).all()


def test_stack_leaves_images_of_bytes_as_they_are():
    def clip(dtype, *shape):
        return Segment("e", 0, 3, np.full((3, *shape), 200, dtype), np.zeros((3, 1), np.float32))

    image, floats, vector = clip(np.uint8, 4, 5, 1), clip(np.float32, 4, 5, 1), clip(np.uint8, 7)
    assert stack([Query("q", (image, image))]).obs.dtype == torch.uint8
    for pair_ in ((image, floats), (vector, vector)):
        obs = stack([Query("q", pair_)]).obs
        assert obs.dtype == torch.float32 and (obs == 200).all()


def test_stack_refuses_mixed_environments_and_sizes():
    wide = Segment("c", 0, 1, np.zeros((1, 7), np.float32), np.zeros((1, 1), np.float32))
    with pytest.raises(ValueError, match=r"query b: .*\(7,\).*query a|query b: .*\(7,\).*in a"):
        stack([pair("a"), Query("b", (wide, wide))])
    with pytest.raises(ValueError, match="query r has 3 segments, query a has 2"):
        stack([pair("a"), Query("r", (wide, wide, wide), "rank")])
    with pytest.raises(ValueError, match="no query"):
        stack([])


@pytest.mark.parametrize(
    "index", [1, -1, slice(1, 3), [0, 2], np.array([3, 0]), torch.tensor([True, False, True, True])]
)
def test_indexing_takes_rows_of_everything_and_keeps_the_batch_dimension(index):
    data = rows()
    part = data[index]
    expected = data.target[[index] if isinstance(index, int) else index]
    assert torch.equal(part.target, expected) and len(part) == len(expected)
    assert torch.equal(part.segments.obs, data.segments.obs[[index] if isinstance(index, int) else index])


def test_observations_may_be_a_dict_shared_by_the_alternatives():
    shape = 3, 4, 2
    obs = {"prompt": torch.arange(6).reshape(3, 1, 2)}
    mask = torch.ones(shape, dtype=torch.bool)
    segments = Segments(obs, torch.arange(24).reshape(shape), mask, torch.zeros(shape))
    one = torch.ones(3)
    data = Feedback(segments, torch.rand(3, 4), one, one.long(), one.bool())
    assert data[1].segments.obs["prompt"].tolist() == [[[2, 3]]]
    assert all_pairs(data).segments.obs["prompt"].shape == (18, 1, 2)


def test_all_pairs_of_a_ranking_says_what_the_ranking_said():
    data = rows(count=2, alternatives=3)
    ranked = Feedback(
        data.segments,
        torch.tensor([[0.0, 1, 0.5], [7, 7, 1]]),
        torch.tensor([1.0, 2]),
        data.annotator,
        data.same_context,
    )
    pairs = all_pairs(ranked)
    assert pairs.target.tolist() == [[0, 1], [0, 1], [1, 0], [0.5, 0.5], [1, 0], [1, 0]]
    assert pairs.weight.tolist() == [1, 1, 1, 2, 2, 2]
    assert torch.equal(pairs.segments.act[4], data.segments.act[1, [0, 2]])
    with pytest.raises(ValueError, match="got 1"):
        all_pairs(rows(alternatives=1))


def broken(**changes):
    data = rows()
    s = data.segments
    fields = dict(obs=s.obs.clone(), act=s.act.clone(), mask=s.mask.clone(), log_prob=s.log_prob) | dict(
        target=data.target.clone(), weight=data.weight.clone(), annotator=data.annotator, same_context=data.same_context
    )
    for name, change in changes.items():
        fields[name] = change(fields[name])
    segments = Segments(*(fields[n] for n in ("obs", "act", "mask", "log_prob")))
    return Feedback(segments, *(fields[n] for n in ("target", "weight", "annotator", "same_context")))


def spoil(tensor, value):
    tensor[2, ...] = value
    return tensor


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"obs": lambda x: spoil(x, torch.nan)}, "obs of row 2 holds NaN"),
        ({"act": lambda x: spoil(x, torch.inf)}, "act of row 2 holds NaN"),
        ({"obs": lambda x: x[:3]}, r"obs has shape \[3, 2, 3, 5\]"),
        ({"obs": lambda x: {"prompt": x[:3]}}, "prompt has 3 rows, the mask 4"),
        ({"act": lambda x: x[:, :1]}, r"act has shape \[4, 1, 3, 2\]"),
        ({"mask": lambda x: x.float()}, "mask must be bool"),
        ({"mask": lambda x: spoil(x, False)}, "alternative 0 of row 2 has no step"),
        ({"target": lambda x: x[:, :1]}, r"target has shape \[4, 1\]"),
        ({"target": lambda x: spoil(x, torch.nan)}, "target of row 2 is not finite"),
        ({"weight": lambda x: spoil(x, -1.0)}, r"a weight is -1\.0"),
        ({"weight": lambda x: x[:2]}, r"weight has shape \[2\]"),
    ],
)
def test_batches_that_make_no_sense_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        broken(**changes)
