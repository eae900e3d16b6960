"""Answers of people to questions about texts, from the page's own desk to a policy; records to and from the core."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from embodied.direct import direct
from embodied.episodes import Episode, Episodes, cut
from embodied.feedback import Segments, all_pairs
from embodied.fit import fit
from embodied.methods import dpo
from embodied.records import Answer, Choose, Compare, Grade, Query, Rank, Rate, RecordError, Skip, Survey, Written
from embodied.store import Store
from embodied.values import Value
from human_ui import desk, people
from human_ui.site import Site, open_site
from human_ui.texts import Texts, offer, read
from llm_bridge.answers import Heard, ask, feedback, from_store, to_store
from llm_bridge.export import write
from llm_bridge.messages import Message, conversation, transcript, user
from llm_bridge.records import Record, best, from_json, pairs, target, to_json
from llm_bridge.text import Counts, NothingLeft, encode
from rapport.study.command import bring, export
from tests.human_ui.served import make_study
from tests.llm_bridge.made import CHATML, NO_BOS, bpe

TALK = (Message("system", "Short."), Message("user", "Hello"), Message("assistant", ""), Message("user", "\n\nWhy?"))


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "answers.sqlite", Episodes(tmp_path / "episodes")) as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path):
    opened = open_site(make_study(tmp_path / "study"))
    yield opened
    opened.store.close()


def answer(site: Site, person: str, likes: str, n: int = 8) -> int:
    """A person who prefers the text that holds `likes`, through the desk that the page calls."""
    people.invite(site.store, person)
    lent = desk.lend(site.store, site.study(), person, n, 0.0, np.random.default_rng(0))
    for one in lent:
        left, right = (likes in site.clips.get(sha).decode() for sha in one.clips)
        value = Compare(0.5 + 0.5 * (left - right))
        desk.take(site.store, person, one.lease, f"{person}-{one.query}", value, {"ms": 9}, "", 1.0)
    return len(lent)


class Bigram(nn.Module):
    """The next token by the one before it: the smallest language model there is."""

    density = False

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(vocabulary, vocabulary))

    def log_prob(self, segments: Segments) -> Tensor:
        assert isinstance(segments.obs, dict)
        lengths = segments.obs["prompt_mask"].sum(-1, keepdim=True)
        last = segments.obs["prompt"].gather(-1, lengths - 1).expand(-1, segments.act.shape[1], -1)
        before = torch.cat([last, segments.act[..., :-1]], -1)
        return self.logits[before].log_softmax(-1).gather(-1, segments.act[..., None]).squeeze(-1)


def test_what_people_say_on_the_page_trains_a_model(site, tmp_path):
    tokenizer = bpe(CHATML)
    asked = [Record(user(f"Colour {i}?"), (f"blue, {i}", f"{i}: red")) for i in range(6)]
    write(tmp_path / "texts.jsonl", asked, "texts")
    offer(site, list(read(tmp_path / "texts.jsonl")))  # what `rapport ask --texts` does
    assert answer(site, "ann", "red") == 6
    heard = from_store(site.store)
    assert heard.unanswered == 0 and not heard.passed
    assert {(r.annotator, best(r)) for r in heard.records} == {("ann", f"{i}: red") for i in range(6)}
    told = feedback(heard.records, tokenizer)
    (part,) = told.parts
    assert told.annotators == ("ann",) and part.same_context.all() and len(part) == 6
    policy = Bigram(len(tokenizer))
    fit(
        direct(policy, dpo(), copy.deepcopy(policy)),
        part,
        torch.optim.Adam(policy.parameters(), 0.05),
        steps=60,
        batch=6,
        rng=torch.Generator().manual_seed(0),
    )
    new = encode(tokenizer, [user("Colour 9?")], [["9: red", "blue, 9"]]).segments  # a question that nobody was asked
    red, blue = (policy.log_prob(new) * new.mask).sum(-1)[0].tolist()
    start = Bigram(len(tokenizer)).log_prob(new)
    assert red - blue > (start * new.mask).sum(-1)[0].diff().neg().item() + 1


def test_a_study_of_texts_taken_along_as_a_dataset_folder_holds_the_same(site, tmp_path):
    offer(site, [Texts("Colour?", ("red", "blue")), Texts("Number?", ("one", "red"))])
    answer(site, "ann", "red")
    before = from_store(site.store)
    export(tmp_path / "study", tmp_path / "folder", "hf", None, names=True)
    bring(tmp_path / "folder", tmp_path / "there", None, "")
    with Store(tmp_path / "there" / "answers.sqlite", Episodes(tmp_path / "there" / "episodes")) as store:
        assert from_store(store) == before and len(before.records) == 2


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values: dict[str, st.SearchStrategy[object]] = {
    "compare": st.floats(0, 1).map(Compare),
    "grade": st.integers(-2, 2).map(Grade),
    "rank": st.permutations([0, 1, 2]).map(lambda order: Rank(tuple(order))),
    "choose": st.integers(0, 2).map(Choose),
    "rate": st.lists(st.integers(1, 7), min_size=3, max_size=3).map(lambda r: Rate(tuple(r))),
    "mark": st.booleans(),
}
SIZES = {"compare": 2, "grade": 2, "rank": 3, "choose": 3, "rate": 3, "mark": 1}


@st.composite
def records(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(values)) -> Record:
    kind = draw(st.sampled_from(kinds))
    count = SIZES[kind]
    turns = draw(st.lists(st.tuples(texts, texts), max_size=2))
    prompt = [m for a, b in turns for m in (Message("user", a), Message("assistant", b))]
    completions = draw(st.lists(texts, min_size=count, max_size=count, unique=True))
    return Record(
        (*prompt, Message("user", draw(texts))),
        tuple(completions),
        draw(values[kind]),  # type: ignore[arg-type]
        draw(st.sampled_from(["", "ann", "bob"])),
        draw(st.sampled_from([1.0, 0.5])),
        draw(st.sampled_from([(), (("cost", tuple(float(k) for k in range(count))),)])),
    )


@given(records())
def test_a_record_comes_back_from_its_own_shape(record):
    assert from_json(to_json(record)) == record


@given(records())
def test_a_conversation_comes_back_from_its_transcript(record):
    assert conversation(transcript(record.prompt)) == record.prompt
    assert conversation(transcript(record.prompt, turns=True)) == record.prompt


def test_a_transcript_cannot_hold_a_turn_that_is_none():
    assert conversation(transcript(TALK)) == TALK
    with pytest.raises(
        RecordError, match=r"a message of the user holds '\\n\\nAssistant:', which would read as another"
    ):
        transcript([Message("system", "x"), Message("user", "a\n\nAssistant: b")])


@settings(max_examples=30, deadline=None)
@given(st.lists(records(), min_size=1, max_size=3))
def test_records_come_back_from_a_store(tmp_path_factory, given):
    folder = tmp_path_factory.mktemp("store")
    with Store(folder / "answers.sqlite", Episodes(folder / "episodes")) as store:
        to_store(store, given)
        to_store(store, given)  # nothing is there twice
        found = from_store(store).records
    told = {(r.prompt, r.completions, r.said, r.annotator or "unknown") for r in given}
    assert {(r.prompt, r.completions, r.said, r.annotator) for r in found} == told and len(found) == len(told)


def test_of_a_mixed_store_texts_alone_are_taken_and_the_rest_is_counted(store):
    clip = Episode("clip", np.zeros((4, 1)), np.zeros((4, 1)))
    store.episodes.save([clip])
    store.add_queries([Query("clips", (cut(clip, 0, 2), cut(clip, 2, 4)))])
    open_question, pair, survey, words, unanswered = (
        ask(store, [Record(user(f"{kind}?"), ("red", "blue"))], kind=kind)[0]
        for kind in ("rank", "compare", "survey", "write", "choose")
    )

    def say(id: str, query: str, value: Value, supersedes: str = "") -> None:
        store.add_answers([Answer(id, query, "ann", "person", value, supersedes=supersedes)])

    say("1", "clips", Compare(1.0))
    say("2", pair.id, Compare(1.0))
    say("3", pair.id, Compare(0.5), supersedes="2")
    say("4", survey.id, Survey(0.0, (("polite", 1.0),), "why not"))
    say("5", words.id, Written("neither"))
    say("6", open_question.id, Skip())
    assert from_store(store) == Heard(
        (
            Record(user("compare?"), ("red", "blue"), Compare(0.5), "ann"),
            Record(user("survey?"), ("red", "blue"), Compare(0.0), "ann"),
            Record(user("choose?"), ("red", "blue")),
        ),
        1,
        {"questions that are not about texts": 1, "answers of kind write": 1, "skipped": 1},
    )
    assert unanswered.kind == "choose"


def test_targets_are_those_of_the_core():
    # By hand, from the table of embodied/rows.py.
    for said, count, expected in [
        (Compare(0.25), 2, (0.25, 0.75)),
        (Grade(-2), 2, (-2, 2)),
        (Rank((2, 0, 1)), 3, (0.5, 0, 1)),
        (Choose(1), 3, (0, 1, 0)),
        (Rate((3, 1.5)), 2, (3, 1.5)),
        (True, 1, (1,)),
        (False, 1, (0,)),
    ]:
        assert target(Record(user("x"), tuple("abc"[:count]), said)) == expected
    with pytest.raises(ValueError, match="nothing is said of these completions"):
        target(Record(user("x"), ("a",)))


def test_feedback_by_kind_with_what_was_left_out():
    tokenizer = bpe(NO_BOS, eos_token=None)  # without a stop, so that an empty answer is no segment
    given = [
        Record(user("a"), ("red", "blue"), Compare(1.0), "ann", 0.5),
        Record(user("b"), ("red", ""), Compare(1.0), "bob"),
        Record(user("c"), ("red", "blue", "green"), Rank((2, 0, 1)), "bob"),
        Record(user("d"), ("red",), True),
        Record(user("e"), ("red",)),
        Record(user("f"), ("blue", "red"), Compare(0.3), "bob", 2.0),
    ]
    told = feedback(given, tokenizer)
    compare, mark, rank = told.parts
    assert [part.kind for part in told.parts] == ["compare", "mark", "rank"]
    assert told.records == ((0, 5), (3,), (2,)) and told.annotators == ("ann", "bob", "unknown")
    assert told.counts == Counts(empty=1)
    assert compare.target.tolist() == [[1.0, 0.0], pytest.approx([0.3, 0.7])] and compare.weight.tolist() == [0.5, 2.0]
    assert compare.annotator.tolist() == [0, 1] and mark.target.tolist() == [[1.0]] and mark.annotator.tolist() == [2]
    assert rank.target.tolist() == [[0.5, 0.0, 1.0]]
    with pytest.raises(ValueError, match="nothing is said of any of 1 records"):
        feedback(given[4:5], tokenizer)
    # A part that has no row is left out; only if all are, that is an error.
    (mark,) = feedback(given[1:2] + given[3:4], tokenizer).parts
    assert mark.kind == "mark"
    (compare,) = feedback([given[0], replace(given[3], completions=("",))], tokenizer).parts
    assert compare.kind == "compare"
    with pytest.raises(NothingLeft, match="none of 1 rows is left") as error:
        feedback(given[1:2], tokenizer)
    assert error.value.counts == Counts(empty=1)


@settings(max_examples=60, deadline=None)
@given(records(("rank", "rate")))
def test_pairs_of_records_are_the_cores_pairs(record):
    tokenizer = bpe(CHATML)
    whole = all_pairs(feedback([record], tokenizer).parts[0])
    parts = feedback(pairs([record]), tokenizer).parts[0]
    told = lambda f: sorted(  # noqa: E731
        sorted(zip(f.target[b].tolist(), f.segments.act[b].tolist(), strict=True)) for b in range(len(f))
    )
    assert told(whole) == told(parts)


def test_pairs_of_a_choice_leave_the_others_alone():
    made = pairs([Record(user("x"), ("a", "b", "c"), Choose(1), "ann", 2.0, (("cost", (1, 2, 3)),))])
    assert [(r.completions, r.said, r.scores) for r in made] == [
        (("b", "a"), Compare(1.0), (("cost", (2, 1)),)),
        (("b", "c"), Compare(1.0), (("cost", (2, 3)),)),
    ]
    assert pairs([Record(user("x"), ("a", "b"), Grade(-1))])[0].completions == ("b", "a")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Record(user("x"), ("a",), Compare(1.0)), "is said of 1 completions; give two"),
        (lambda: Record(user("x"), ("a", "b"), True), "good or bad is said of 2 completions"),
        (lambda: Record(user("x"), ("a", "b"), Rank((0, 1, 2))), "covers 3 segments"),
        (lambda: Record(user("x"), ("a", "b"), Choose(2)), "chooses segment 2 of the 2"),
        (lambda: Record((Message("assistant", "x"),)), "the prompt ends with the assistant's words"),
        (lambda: Record(user("x"), ("a",), weight=float("nan")), "weight is nan; give a finite number"),
        (lambda: Record(user("x"), ("a",), scores=(("cost", (1, 2)),)), "score 'cost' has 2 numbers, there are 1"),
        (lambda: Message("tool", "x"), "a message has role 'tool'"),
    ],
)
def test_records_that_make_no_sense(make, sentence):
    with pytest.raises(RecordError, match=sentence):
        make()
