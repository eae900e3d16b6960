"""Out and in again, in every shape; and what was written is what the Hugging Face library loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.importers import DataError
from embodied.records import Compare, Rank
from human_ui.texts import read
from llm_bridge.datasets import load
from llm_bridge.export import rows, write
from llm_bridge.messages import Message, user
from llm_bridge.records import Record
from tests.llm_bridge.test_answers import records, texts

decided = st.builds(
    lambda r, p: Record(r.prompt, r.completions, Compare(p), r.annotator, r.weight),
    records(("compare",)),
    st.floats(0.5, 1, exclude_min=True),
)
good = records(("mark",)).map(lambda r: Record(r.prompt, r.completions, r.said, r.annotator, r.weight))


@given(decided, st.sampled_from(["explicit", "implicit"]), st.booleans())
def test_a_comparison_comes_back(record, shape, messages):
    found = load(rows([record], shape, messages=messages).rows)
    assert (found.shape, found.records) == (shape, (record,))


@given(good, st.booleans())
def test_a_label_comes_back(record, messages):
    found = load(rows([record], "unpaired", messages=messages).rows)
    assert (found.shape, found.records) == ("unpaired", (record,))


@given(decided, st.booleans())
def test_a_comparison_becomes_two_labels(record, messages):
    found = load(rows([record], "unpaired", messages=messages).rows).records
    assert [(r.completions, r.said) for r in found] == [
        ((record.completions[0],), True),
        ((record.completions[1],), False),
    ]


@given(st.lists(records(), min_size=1, max_size=4), st.booleans())
def test_prompts_and_records_come_back(given, messages):
    prompts = list(dict.fromkeys(r.prompt for r in given))
    first = rows(given, "prompts", messages=messages).rows
    alone = [load([row]).records[0] for row in first]
    assert alone == [Record(prompt) for prompt in prompts]
    assert load(rows(given, "records").rows).records == tuple(given)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3), texts)
def test_a_conversation_of_texts_is_a_transcript(turns, last):
    prompt = (*[m for a, b in turns for m in (Message("user", a), Message("assistant", b))], Message("user", last))
    record = Record(prompt, ("yes", "no"), Compare(1.0))
    (row,) = rows([record], "implicit", messages=False).rows
    assert row["chosen"].startswith("\n\nHuman: ") and row["chosen"].endswith("\n\nAssistant: yes")


def test_files_that_datasets_loads_and_that_rapport_asks_about(tmp_path: Path):
    import datasets

    pair = Record(user("Why?"), ("So.", "No."), Compare(0.0), "ann")
    told = write(tmp_path / "pairs.jsonl", [pair, Record(user("Why?"), ("a", "b"), Compare(0.5))], "explicit")
    assert told.left_out == 1 and len(told.rows) == 1
    loaded = datasets.load_dataset("json", data_files=str(tmp_path / "pairs.jsonl"), split="train")
    assert loaded.to_list() == datasets.Dataset.from_list(told.rows).to_list() == told.rows
    assert loaded[0]["chosen"] == [{"role": "assistant", "content": "No."}]
    several = [pair, Record(user("x"), ("a", "b", "c")), Record(user("y"), ("a",), True)]
    write(tmp_path / "texts.jsonl", several, "texts")
    assert [(t.prompt, t.answers, t.kind) for t in read(tmp_path / "texts.jsonl")] == [
        ("Why?", ("So.", "No."), "compare"),
        ("x", ("a", "b", "c"), "rank"),
        ("y", ("a",), "rate"),
    ]
    with pytest.raises(DataError, match=r"pairs.jsonl is there already; give another name"):
        write(tmp_path / "pairs.jsonl", [pair], "explicit")
    assert [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()] == told.rows
    with pytest.raises(DataError, match="cannot be written"):
        write(tmp_path / "pairs.jsonl" / "below", [pair], "explicit")


def test_records_come_back_from_a_table_of_mixed_rows():
    import datasets

    given = (
        Record(user("x"), ("a", "b"), Compare(0.7), "ann", 2.0, (("cost", (0, 1)),)),
        Record(user("y"), ("a", "b", "c"), Rank((2, 0, 1))),
        Record(user("z")),
    )
    assert load(datasets.Dataset.from_list(rows(given, "records").rows)).records == given


@pytest.mark.parametrize(
    ("record", "shape", "sentence"),
    [
        (
            Record(user("x"), ("a", "b"), Rank((0, 1))),
            "explicit",
            r"record 1: it says Rank.*make comparisons of it with",
        ),
        (Record(user("x"), ("a",)), "unpaired", "record 1: it says nothing, for which unpaired has no word"),
        (Record(user("x"), ("a",), True), "implicit", "record 1: it says True, for which implicit has no word"),
        (Record(user("x"), ("a\n\nHuman: b", "c"), Compare(1.0)), "implicit", "record 1: a message of the assistant"),
    ],
)
def test_what_a_shape_has_no_word_for(record, shape, sentence):
    with pytest.raises(DataError, match=sentence):
        rows([Record(user("x"), ("a", "b"), Compare(1.0))] * (shape != "none") + [record], shape, messages=False)
