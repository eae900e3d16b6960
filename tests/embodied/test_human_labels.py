"""The real label files, recounted, and their join with synthetic arrays of the layout they are about."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.feedback import feedback
from embodied.human_labels import TIE_RATE, Label, join, rates, read, share, steps, tie_threshold
from embodied.importers import DataError

FOLDER = Path(__file__).parents[1] / "data" / "preference_transformer_human_labels"
FILES = sorted(FOLDER.glob("*.csv"))
COUNTS = {  # first, second, tie, as the data set's own table has them
    "hopper-medium-replay-v2": (121, 188, 191),
    "walker2d-medium-expert-v2": (30, 46, 24),
    "antmaze-large-play-v2": (200, 163, 637),
    "pen-cloned-v1": (21, 39, 40),
    "Lift_ph": (35, 10, 55),
    "Square_mh": (168, 237, 95),
}


def test_the_files_hold_what_they_are_known_to_hold():
    assert len(FILES) == 18 and (FOLDER / "LICENSE.txt").read_text().startswith("MIT License")
    everything = {path.stem: read(path) for path in FILES}
    assert sum(map(len, everything.values())) == 7400
    for name, counts in COUNTS.items():
        found = rates(name, everything[name])
        assert (found.first, found.second, found.tie) == counts
    assert all([label.query for label in labels] == list(range(len(labels))) for labels in everything.values())


def test_the_tie_rate_is_that_of_all_files():
    pooled = rates("all", [label for path in FILES for label in read(path)])
    assert pooled.tie_rate == TIE_RATE
    assert pooled.tie_interval[0] < TIE_RATE < pooled.tie_interval[1]


def test_segments_are_shorter_in_the_proficient_human_sets():
    assert {path.stem for path in FILES if steps(path) == 50} == {"Lift_ph", "Can_ph", "Square_ph"}


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_interval_is_wilsons(part, more):
    """Its ends are where the normal approximation of the score test gives 1.96: (p - q)^2 = z^2 q(1 - q)/n."""
    whole = part + more
    rate, ends = share(part, whole)
    for q in ends:
        assert np.isclose((rate - q) ** 2, 1.959964**2 * q * (1 - q) / whole, atol=1e-6)


def test_without_a_decided_answer_there_is_no_bias():
    assert np.isnan(rates("ties", [Label(0, 0, 0, -1)]).first_rate)


def synthetic(episodes=6, length=40):
    """Row i of the flattened data set has observation i; its reward grows with the row. Every other episode is cut by a
    time limit, so that rows are dropped, the others end by a terminal."""
    rows = episodes * length
    over = np.arange(length - 1, rows, length)
    observations, kept = np.full((rows, 1), -1.0), 0
    for i in range(rows - 1):
        if i not in over[::2]:
            observations[i], kept = kept, kept + 1
    ends = {"timeouts": np.isin(np.arange(rows), over[::2]), "terminals": np.isin(np.arange(rows), over[1::2])}
    reward = np.arange(rows) / rows
    return {"observations": observations, "actions": np.zeros((rows, 2)), "rewards": reward, **ends}


def test_labels_find_their_rows_as_the_authors_counted_them():
    labels = [Label(0, 79, 3, 0), Label(1, 0, 118, 1), Label(2, 40, 158, -1)]
    joined = join(labels, synthetic(), steps=20, name="toy")
    for label, query, answer in zip(labels, joined.queries, joined.answers, strict=True):
        for start, segment in zip((label.start_1, label.start_2), query.segments, strict=True):
            assert segment.obs[:, 0].tolist() == list(range(start, start + 20))
        assert answer.source == "import"
        assert answer.value.first == {0: 1, 1: 0, -1: 0.5}[label.label]
    assert joined.left_out == 0 and len(joined.episodes) == 6


def test_the_obviously_better_segment_gets_the_preference():
    """Labels as a person gives who sees the reward: the targets must agree with the returns of what was joined."""
    data = synthetic()
    kept = np.flatnonzero(~data["timeouts"][:-1])
    starts = [(3, 99), (125, 2), (45, 160), (161, 80), (0, 0)]
    total = [[data["rewards"][kept[s : s + 19]].sum() for s in pair] for pair in starts]
    labels = [
        Label(i, *pair, -1 if a == b else int(b > a))
        for i, (pair, (a, b)) in enumerate(zip(starts, total, strict=True))
    ]
    joined = join(labels, data, steps=19, name="toy")
    told, budget = feedback(joined.answers, joined.queries)
    position = told.segments.obs[..., 0].sum(-1)  # row numbers grow as rewards do
    assert (told.target[:4].argmax(1) == position[:4].argmax(1)).all()
    assert told.target[4].tolist() == [0.5, 0.5] and (budget.answered, budget.ties) == (5, 1)


def test_arrays_flattened_already_are_taken_as_they_are():
    data = synthetic()
    kept = np.flatnonzero(~data["timeouts"][:-1])
    flat = {key: value[kept] for key, value in data.items()}
    over = np.flatnonzero(np.diff(kept) > 1)  # the row before one that was dropped ends its episode
    flat["timeouts"] = np.isin(np.arange(len(kept)), over)
    labels = [Label(0, 79, 3, 0), Label(1, 0, 118, 1)]
    a = join(labels, data, steps=20, name="toy")
    b = join(labels, flat, steps=20, name="toy", rows="all")
    for x, y in zip(a.queries, b.queries, strict=True):
        assert all(np.array_equal(s.obs, t.obs) for s, t in zip(x.segments, y.segments, strict=True))


def test_a_segment_over_an_end_is_refused_or_left_out_and_counted():
    labels = [Label(0, 79, 3, 0), Label(1, 30, 3, 0), Label(2, 3, 70, 1)]
    with pytest.raises(DataError, match=r"2 of 3 labels \(the first is 1\) have a segment that runs over the end"):
        join(labels, synthetic(), steps=20, name="toy")
    joined = join(labels, synthetic(), steps=20, name="toy", crossing="drop")
    assert joined.left_out == 2 and [a.query for a in joined.answers] == ["toy-00000"]


def test_the_wrong_way_to_count_rows_is_found():
    with pytest.raises(DataError, match="not flattened as the labels were; try the other way to count rows"):
        join([Label(0, 39, 0, 0)], synthetic(), steps=20, name="toy", rows="all")
    assert join([Label(0, 39, 0, 0)], synthetic(), steps=20, name="toy", rows="all", crossing="drop").left_out


def test_labels_of_another_data_set_are_refused():
    with pytest.raises(DataError, match=r"label 7 is about rows 500 to 520, the arrays have 236 \(240 before"):
        join([Label(7, 0, 500, 1)], synthetic(), steps=20, name="toy")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with nothing; give a file query,start_1,start_2,label"),
        ("query,start_1,label\n0,1,1\n", r"begins with \['query', 'start_1', 'label'\]"),
        ("query,start_1,start_2,label\n", "holds no label"),
        ("query,start_1,start_2,label\n0,1,2\n", r"line 2 is \['0', '1', '2'\]; give four whole numbers"),
        ("query,start_1,start_2,label\n0,1,2,0\n1,1,2.5,0\n", "line 3 is"),
        ("query,start_1,start_2,label\n0,1,2,2\n", "a label is 0, 1 or -1"),
        ("query,start_1,start_2,label\n0,-1,2,1\n", "a row is 0 or more"),
    ],
)
def test_broken_label_files_are_named(text, said, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "labels.csv")


@given(st.lists(st.floats(-10, 10).filter(bool), min_size=1, max_size=50, unique_by=abs), st.floats(0, 1))
def test_below_the_threshold_lies_the_wanted_share(gaps, rate):
    threshold = tie_threshold(gaps, rate)
    assert (np.abs(gaps) < threshold).sum() == round(rate * len(gaps))


def test_bad_rates_and_gaps_have_their_sentence():
    for gaps, rate in (([1.0], 1.5), ([], 0.5), ([np.nan], 0.5)):
        with pytest.raises(ValueError, match=r"give a rate in \[0, 1\] and at least one gap"):
            tie_threshold(gaps, rate)
