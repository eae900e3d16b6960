"""Other people's preference data: every shape is known by its columns, and what is wrong with a row is said of it."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embodied.importers import DataError
from embodied.records import Compare, Rank, Rate
from llm_bridge import shapes
from llm_bridge.datasets import Counts, load, shape_of
from llm_bridge.messages import Message, user
from llm_bridge.public import STRENGTHS
from llm_bridge.records import Record, about, disjoint
from tests.llm_bridge import public_rows as rows

COLOUR = user("Name a colour.")
AFTER_HELLO = (Message("user", "Hello"), Message("assistant", "Yes?"), *COLOUR)


def test_helpsteer_ratings_of_one_prompt_are_one_record():
    found = load(rows.HELPSTEER2)
    assert found.shape == "helpsteer" and found.counts == Counts(3, 2)
    first, second = found.records
    assert first.prompt == COLOUR and first.completions == ("Blue.", "A colour is a thing one sees.")
    assert first.said == Rate((3, 1)) and dict(first.scores)["verbosity"] == (0, 2) and len(first.scores) == 5
    turns = [Message("user", "Hello"), Message("assistant", "Hello. What is it?"), Message("user", "A colour.")]
    assert second.prompt == tuple(turns) and second.said == Rate((4,))


def test_helpsteer_strength_is_read_as_log_odds():
    assert list(STRENGTHS) == [round(1 / (1 + math.exp(-s)), 2) for s in range(4)]
    found = load(rows.HELPSTEER2_PREFERENCES)
    assert found.shape == "helpsteer2_preferences"
    # Below 0 the first is better; the last is slightly in favour of the second.
    assert [r.said for r in found.records] == [Compare(0.95), Compare(0.5), Compare(1 - 0.73)]
    (third,) = load(rows.HELPSTEER3).records
    assert third.prompt == AFTER_HELLO and third.said == Compare(1 - 0.88)
    bad = [{**rows.HELPSTEER3[0], "overall_preference": -4}]
    with pytest.raises(DataError, match=r"row 1: the preference is -4.0; give a whole number from -3 to 3"):
        load(bad)


def test_ultrafeedback_is_four_completions_with_scores():
    (record,) = load(rows.ULTRAFEEDBACK).records
    assert record.said == Rate((8.5, 7.0, 2.0, 7.0)) and record.prompt == COLOUR
    assert dict(record.scores) == {
        "helpfulness": (5, 4, 1, 2),
        "honesty": (5, 4, 1, 2),
        "instruction_following": (1, 2, 5, 4),
    }  # truthfulness was not rated in all
    (aspect,) = about([record], "honesty")
    assert aspect.said == Rate((5, 4, 1, 2)) and about([record], "truthfulness") == []


def test_a_binarised_copy_keeps_the_gap_as_weight():
    found = load(rows.ULTRAFEEDBACK_BINARIZED)
    assert found.shape == "explicit"
    assert [(r.prompt, r.completions, r.said) for r in found.records] == [
        (COLOUR, ("Blue.", "No."), Compare(1.0)),
        (COLOUR, ("Blue.", "Why?"), Compare(1.0)),
    ]
    assert [r.weight for r in found.records] == [1.5, 0.0]  # the second scores contradict the label
    without = [{key: row[key] for key in ("chosen", "rejected")} for row in rows.ULTRAFEEDBACK_BINARIZED]
    assert load(without).shape == "implicit"
    assert [r.completions for r in load(without).records] == [r.completions for r in found.records]


def test_hh_transcripts_are_messages():
    found = load(rows.HH)
    assert found.shape == "implicit" and found.records == (Record(AFTER_HELLO, ("Blue.", "No."), Compare(1.0)),)
    assert found.counts == Counts(2, 1, unusable={"conversations that part before the last answer": 1})
    assert str(found.counts) == "1 records of 2 rows; 1 conversations that part before the last answer, left out"
    split = {"prompt": "\n\nHuman: Name a colour.\n\nAssistant:", "chosen": " Blue.", "rejected": " No."}
    assert load([split]).records == (Record(COLOUR, ("Blue.", "No."), Compare(1.0)),)


def test_oasst_trees_and_messages_are_the_same_rankings():
    deeper = (*COLOUR, Message("assistant", "Blue."), Message("user", "Another?"))
    expected = (
        Record(COLOUR, ("No.", "Blue."), Rank((1, 0))),
        Record(deeper, ("Red.", "Blue.", "Blue again."), Rank((0, 2, 1))),
    )
    trees, flat = load(rows.OASST_TREES), load(rows.OASST_MESSAGES)
    assert (trees.shape, flat.shape) == ("oasst_trees", "oasst_messages")
    assert trees.records == flat.records == expected


def test_shp_pku_and_nectar():
    shp = load(rows.SHP)
    assert [r.said for r in shp.records] == [Compare(0.0), Compare(1.0)]  # labels = 1: the first
    assert shp.records[0].scores == (("votes", (3, 12)),)
    assert (shp.counts.repeated, shp.counts.contradictory) == (1, 1)
    (pku,) = load(rows.PKU).records
    assert pku.said == Compare(1.0) and dict(pku.scores) == {"safer": (0, 1), "cost": (1, 0)}
    (nectar,) = load(rows.NECTAR).records
    assert nectar.prompt == COLOUR and nectar.said == Rank((1, 2, 0))


PAIR = {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "No."}


@pytest.mark.parametrize(
    ("row", "shape", "record"),
    [
        (PAIR, "explicit", Record(COLOUR, ("Blue.", "No."), Compare(1.0))),
        (
            PAIR | {"p_chosen": 0.8, "annotator": "ann"},
            "explicit",
            Record(COLOUR, ("Blue.", "No."), Compare(0.8), "ann"),
        ),
        (PAIR | {"weight": 2, "user_id": 7}, "explicit", Record(COLOUR, ("Blue.", "No."), Compare(1.0), "7", 2.0)),
        (
            {
                "prompt": [{"from": "system", "value": "Short."}, {"from": "human", "value": "Name a colour."}],
                "chosen": [{"from": "gpt", "value": "Blue."}],
                "rejected": [{"role": "assistant", "content": "No."}],
            },
            "explicit",
            Record((Message("system", "Short."), *COLOUR), ("Blue.", "No."), Compare(1.0)),
        ),
        (
            {"chosen": "<|user|>\nWhy?\n<|assistant|>\nBecause", "rejected": "<|user|>\nWhy?\n<|assistant|>\nBe still"},
            "implicit",
            Record(user("<|user|>\nWhy?\n<|assistant|>\n"), ("Because", "Be still"), Compare(1.0)),
        ),
        ({"prompt": "Why?", "completion": "So.", "label": 0}, "unpaired", Record(user("Why?"), ("So.",), False)),
        ({"prompt": "Why?", "completion": "So."}, "demonstrations", Record(user("Why?"), ("So.",))),
        (
            {
                "messages": [
                    *({"role": m.role, "content": m.content} for m in AFTER_HELLO),
                    {"role": "assistant", "content": "Blue."},
                ]
            },
            "conversations",
            Record(AFTER_HELLO, ("Blue.",)),
        ),
        ({"prompt": "Why?", "id": 3}, "prompts", Record(user("Why?"))),
        ({"prompt": "Why?", "answers": ["a", "b"]}, "texts", Record(user("Why?"), ("a", "b"))),
    ],
)
def test_exchanged_shapes(row: dict[str, Any], shape: str, record: Record):
    found = load([row])
    assert (found.shape, found.records) == (shape, (record,))


def test_a_prompt_of_texts_is_never_cut_inside_a_word_or_an_answer():
    # Both begin with "Be", after the marker.
    row = {"chosen": "Q: Why?\nA: Because", "rejected": "Q: Why?\nA: Be still"}
    with pytest.raises(DataError, match="row 1: chosen and rejected have no turn of the assistant that begins alike"):
        load([row])
    (record,) = load([row], shape=partial(shapes.implicit, marker="\nA: ")).records
    assert record.prompt == user("Q: Why?\nA: ") and record.completions == ("Because", "Be still")


def test_unknown_columns_are_listed_with_the_shapes_that_are_known():
    with pytest.raises(DataError) as error:
        load([{"prompt": "x", "response": "y", "stars": 3}])
    said = str(error.value)
    assert "the columns prompt, response, stars are of no known shape (records: prompt, completions, said; " in said
    assert "unpaired: prompt, completion, label" in said and "say which with shape=" in said
    with pytest.raises(DataError, match="shape is 'kto'; use one of records, ultrafeedback"):
        load([PAIR], shape="kto")
    mine = load([{"x": "Why?"}], shape=lambda given: [r.record(user(r.text("x")), ()) for r in given])
    assert mine.shape == "own reader" and mine.records == (Record(user("Why?")),)
    assert shape_of(["prompt", "category"]) == "prompts"


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (PAIR | {"prompt": [{"role": "user", "content": "x"}]}, "row 2: prompt is messages, in row 1 text"),
        (
            PAIR | {"prompt": "\n\nHuman: x\n\nAssistant:"},
            r"row 2: prompt is a transcript \(Human:, Assistant:\), in row",
        ),
        ({"prompt": "x", "completion": "y", "label": True}, "row 2: no chosen, rejected, which row 1 has"),
        (PAIR | {"chosen": None}, "row 2: chosen is no text, in row 1 text"),
        (PAIR | {"p_chosen": 1.5}, None),
        (PAIR | {"weight": -1}, "row 2: weight is -1.0; give at least 0"),
        (PAIR | {"chosen": "\ud800"}, "row 2: a completion is .* remove the lone surrogate"),
    ],
)
def test_a_bad_row_is_named(second: dict[str, Any], sentence: str | None):
    with pytest.raises(ValueError, match=sentence or "give a probability"):
        load([PAIR, second])


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "x", "answers": None}, "row 1: answers is 'None'; give a list of texts"),
        ({"prompt": "x", "answers": "abc"}, "row 1: answers is 'abc'; give a list of texts"),
        ({"prompt": "x", "answers": "abc", "turns": 1}, "row 1: answers is 'abc'; give a list of objects"),
        ({"instruction": "x", "completions": "abc"}, "row 1: completions is 'abc'; give a list of objects"),
        (
            {"instruction": "x", "completions": [{"response": "y", "annotations": "z"}]},
            "row 1: annotations are 'z'; give an object",
        ),
        (
            {"message_tree_id": "1", "prompt": {"message_id": "1", "role": "prompter", "text": "x", "replies": "no"}},
            "row 1, message 1: replies is 'no'; give a list of objects",
        ),
        (
            {
                "message_tree_id": "1",
                "prompt": {
                    "message_id": "1",
                    "role": "prompter",
                    "text": "x",
                    "replies": [{"role": "assistant", "text": "y", "rank": rank} for rank in (0, "x")],
                },
            },
            "row 1, message 1: rank is 'x'",
        ),
    ],
)
def test_cells_of_another_kind_are_named(row: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        load([row])


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ([{"role": "tool", "content": "x"}], "row 1: chosen: a message has role 'tool'; use one of system, user"),
        ([{"role": "assistant", "content": [{"type": "image"}]}], "holds more than text"),
        ([{"role": "assistant"}], "row 1: chosen: a message is"),
        ([{"role": "user", "content": "x"}], r"row 1: chosen has the turns \['user'\]; give one of the assistant"),
    ],
)
def test_messages_that_are_none(chosen: list[dict[str, Any]], sentence: str):
    with pytest.raises(DataError, match=sentence):
        load([{"prompt": [{"role": "user", "content": "x"}], "chosen": chosen, "rejected": chosen}])


def test_what_is_of_no_use_is_counted():
    same, empty = PAIR | {"rejected": "Blue."}, PAIR | {"rejected": ""}
    other = {"prompt": "Name a colour.", "chosen": "No.", "rejected": "Blue."}
    found = load([PAIR, same, empty, PAIR, other])
    assert found.counts == Counts(5, 4, identical=1, empty=1, repeated=2, contradictory=1)
    assert str(found.counts) == (
        "4 records of 5 rows; 1 with identical completions, left out; 1 with an empty completion; 2 about a question "
        "asked before; 1 questions with contradictory answers"
    )
    labels = [{"prompt": "x", "completion": "y", "label": label} for label in (True, False, True)]
    assert load(labels).counts == Counts(3, 3, repeated=2, contradictory=1)
    with pytest.raises(DataError, match="none of 1 rows is of use: 1 have identical completions"):
        load([same])


def test_splits_that_share_questions():
    test = load([PAIR]).records
    swapped = {"prompt": "Name a colour.", "chosen": "No.", "rejected": "Blue."}
    train = load([swapped, PAIR | {"rejected": "Why?"}, PAIR | {"prompt": "Another."}]).records
    split = disjoint({"test": test, "train": train})
    assert split.records == {"test": test, "train": train[1:]}
    assert split.removed == {"test": 0, "train": 1} and split.shared == 1


def test_files_and_folders(tmp_path: Path):
    import datasets
    import pyarrow
    from pyarrow.parquet import write_table

    lines = "".join(json.dumps(row) + "\n" for row in (PAIR, PAIR | {"chosen": "one\u2028two"}))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.json").write_text(json.dumps([json.loads(line) for line in lines.splitlines()]))
    given = [json.loads(line) for line in lines.splitlines()]
    write_table(pyarrow.Table.from_pylist(given), tmp_path / "a.parquet")
    data = datasets.Dataset.from_list(given)
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "splits")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "train.jsonl").write_text(lines)
    expected = load(given).records
    assert [r.completions[0] for r in expected] == ["Blue.", "one\u2028two"]
    for name in ("a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "saved", "plain"):
        assert load(tmp_path / name).records == expected, name
    assert load(data).records == load(tmp_path / "splits", split="test").records == expected
    with pytest.raises(DataError, match="splits has the splits train, test; say which with split="):
        load(tmp_path / "splits")
    with pytest.raises(DataError, match="the source has the splits train; give one of them"):
        load(datasets.DatasetDict({"train": data}))


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("none.jsonl", None, "none.jsonl cannot be read"),
        ("a.jsonl", b"\xff", "a.jsonl cannot be read"),
        ("a.jsonl.gz", b"\x1f\x8b\x08", "a.jsonl.gz cannot be read"),
        ("a.jsonl", b'{"prompt": "x"}\n{', "a.jsonl, line 2 is no JSON"),
        ("a.jsonl", b'{"prompt": "x"}\n3\n', "a.jsonl, line 2 is '3'; give an object with columns"),
        ("a.json", b"[1]", "a.json, row 1 is '1'; give an object"),
        ("a.jsonl", b"\n", "a.jsonl holds no row; give at least one"),
        ("a.parquet", b"PAR1", "a.parquet is not a whole Parquet file"),
        ("empty/x", None, "empty is no folder that datasets can load"),
    ],
)
def test_files_that_are_none(name: str, data: bytes | None, sentence: str, tmp_path: Path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        load(path if name != "empty/x" else path.parent)


def test_reading_loads_neither_torch_nor_transformers():
    heavy = "{'torch', 'transformers', 'datasets'}"
    code = f"import sys, llm_bridge.datasets, llm_bridge.export; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_without_transformers_the_other_folders_load_and_so_do_these_files():
    code = (
        "import sys; sys.modules['transformers'] = sys.modules['peft'] = None\n"
        "import embodied.feedback, human_ui.site, hardware.config, policies.gaussian\n"
        "import llm_bridge.answers, llm_bridge.datasets, llm_bridge.export"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
