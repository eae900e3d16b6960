"""What follows from verdicts: the report, records and answers of a store, and a judge that `online` asks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embodied.direct import direct
from embodied.episodes import Episodes
from embodied.feedback import Segments, feedback
from embodied.methods import ipo
from embodied.online import collect, online, win_rate
from embodied.records import Compare, Rate, Skip
from embodied.reference import Reference
from embodied.scores import log_ratio
from embodied.store import Store
from llm_bridge.answers import ask, from_store, to_store
from llm_bridge.judge import question
from llm_bridge.law import Law
from llm_bridge.lm import LM
from llm_bridge.local_judges import by_reward, letters, prefer
from llm_bridge.messages import Message, user
from llm_bridge.records import Record
from llm_bridge.reward import RewardLM
from llm_bridge.sampler import Sampler
from llm_bridge.testbed import tutor
from llm_bridge.testbed.judge import by_gold
from llm_bridge.testbed.pretrain import NANO, pretrained
from llm_bridge.text import encode, encoder
from llm_bridge.verdicts import Asked, Pairwise, Verdicts, answers, judged, report, symmetric
from tests.llm_bridge import tiny
from tests.llm_bridge.made import CHATML, bpe, word_level
from tests.llm_bridge.test_reward import classifier


def made(shown: Sequence[tuple[float, float]]) -> Verdicts:
    values = np.array(shown, float).reshape(-1, 2)
    why = tuple("" if np.isfinite(pair).all() else "the judge refused" for pair in values)
    return Verdicts(values, np.zeros(values.shape, np.bool_), why, (("", ""),) * len(values))


def says(shown: Sequence[tuple[float, float]]) -> Pairwise:
    return lambda prompts, a, b: made(shown)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20), st.floats(-1, 1))
def test_what_is_read_off_both_orders(shown: list[tuple[float, float]], bias: float) -> None:
    found = made(shown)
    other = made([(y, x) for x, y in shown])  # the same judge, asked about b and a
    assert np.allclose(found.p_first + other.p_first, 1, atol=1e-12)
    assert ((found.p_first >= 0) & (found.p_first <= 1)).all() and found.valid.all()
    for (x, y), agrees, p in zip(shown, found.consistent, found.p_first, strict=True):
        if agrees:  # whoever both orders name is named by their mean
            assert np.sign(round(p - 0.5, 15)) in (np.sign(x - 0.5), 0.0) and np.sign(x - 0.5) == -np.sign(y - 0.5)
    still = [(x + bias, y + bias) for x, y in shown]
    if all(0 <= value <= 1 for pair in still for value in pair):
        assert np.allclose(made(still).p_first, found.p_first, atol=1e-12)


def test_the_report_counts_and_correlates() -> None:
    found = made([(0.9, 0.3), (0.7, 0.8), (math.nan, 0.2), (0.2, 0.6)])
    a, b = ["aaaa", "aaa", "aaaaaaa", "a"], ["b", "b", "b", "bbb"]
    seen = report(found, a, b)
    assert (seen.pairs, dict(seen.invalid)) == (4, {"the judge refused": 1})
    assert seen.consistent == pytest.approx(2 / 3) and seen.first == pytest.approx(
        (0.9 + 0.3 + 0.7 + 0.8 + 0.2 + 0.6) / 6
    )
    assert seen.certainty == pytest.approx((0.9 + 0.7 + 0.7 + 0.8 + 0.8 + 0.6) / 6) and seen.hard == 0
    assert seen.length == pytest.approx(np.corrcoef([0.8, 0.45, 0.3], [3, 2, -2])[0, 1])
    assert "3 of 4 pairs have a verdict\n  1 without: the judge refused" in str(seen)
    empty = report(made([]), [], [])
    assert empty.pairs == 0 and math.isnan(empty.consistent)
    with pytest.raises(ValueError, match="1 and 1 answers to 4 verdicts"):
        report(found, ["a"], ["b"])
    with pytest.raises(ValueError, match=r"shown holds 1\.2; give probabilities"):
        made([(1.2, 0.0)])


SHOWN = [(0.9, 0.2), (0.8, 0.7), (math.nan, 0.1)]  # agrees, disagrees, none


def some_records() -> list[Record]:
    talk = (Message("system", "Be brief."), Message("user", "name a colour"))
    return [
        Record(talk, ("blue", "red"), Compare(0.0), "someone"),
        Record(user("why"), ("not", "because")),
        Record(user("and you"), ("x", "y")),
    ]


@pytest.mark.parametrize(
    ("rule", "middle"), [("keep", Compare(0.55)), ("tie", Compare(0.5)), ("skip", None)], ids=["keep", "tie", "skip"]
)
def test_records_are_said_by_the_judge(rule: Any, middle: Compare | None) -> None:
    found = judged(says(SHOWN), some_records(), annotator="tiny", inconsistent=rule)
    first, second, third = found.records
    assert isinstance(first.said, Compare) and first.said.first == pytest.approx(0.85)
    assert third.said is None and {r.annotator for r in found.records} == {"tiny"}
    if middle is None:
        assert second.said is None
    else:
        assert isinstance(second.said, Compare) and second.said.first == pytest.approx(middle.first)
    assert (found.unsaid, found.ties) == (2 if rule == "skip" else 1, rule == "tie")
    assert [r.completions for r in found.records] == [r.completions for r in some_records()]


def test_a_store_takes_the_answers_and_what_was_not_answered(tmp_path: Path) -> None:
    with Store(tmp_path / "study.sqlite", Episodes(tmp_path / "episodes")) as store:
        queries = ask(store, [Record(r.prompt, r.completions) for r in some_records()])
        seen: list[tuple[list[Asked], list[str], list[str]]] = []

        def listening(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
            seen.append((list(prompts), list(a), list(b)))
            return made(SHOWN)

        for _ in range(2):  # once more is the same
            store.add_answers(answers(listening, queries, annotator="tiny"))
        prompts, a, b = seen[0]
        assert prompts == [r.prompt for r in some_records()] and list(zip(a, b, strict=True)) == [
            r.completions for r in some_records()
        ]
        kept = store.answers()
        assert (
            len(kept) == 3 and {one.source for one in kept} == {"judge"} and {one.annotator for one in kept} == {"tiny"}
        )
        assert kept[2].value == Skip("the judge refused")
        heard = from_store(store)
        assert [r.said for r in heard.records] == [one.value for one in kept[:2]] and heard.passed == {"skipped": 1}
        told, budget = feedback(kept, queries, encode=encoder(bpe(CHATML)))
        assert (budget.answered, budget.skipped) == (2, 1) and told.target[0, 0].item() == pytest.approx(0.85)
        # by way of records it is the same answer
        by_records = to_store(store, judged(says(SHOWN), some_records(), annotator="tiny").records, source="judge")
        assert {one.id for one in by_records} < {one.id for one in kept} and len(store.answers()) == 3
    with pytest.raises(ValueError, match="record 0 has 3 completions; make pairs of it"):
        judged(says(SHOWN), [Record(user("q"), ("a", "b", "c"), Rate((1.0, 2.0, 3.0)))])
    assert answers(says([]), []) == [] and judged(says([]), []).records == ()


def plain_chance(net: Any, ids: list[int], letter: int) -> float:
    with torch.no_grad():
        return float(net(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)[letter])


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_letters_are_as_likely_as_the_model_says(scale: float) -> None:
    """Both orders of several pairs in packed rows, against the plain model on each text alone."""
    words = bpe(CHATML)
    net = tiny.model(
        vocab_size=len(words), initializer_range=0.1, max_position_embeddings=4096, tie_word_embeddings=False
    )
    a_id, b_id = (words(letter, add_special_tokens=False)["input_ids"][0] for letter in "AB")
    assert a_id != b_id
    with torch.no_grad():  # so that it says one of the two mostly, or hardly ever
        bias = torch.nn.Linear(32, len(words))
        bias.weight.copy_(net.lm_head.weight)
        bias.bias.zero_()
        bias.bias[[a_id, b_id]] = 6.0 * scale
        net.lm_head = bias
    lm = LM(net, row=700)
    prompts = [user("name a colour"), (Message("system", "Be brief."), *user("why not?")), user("x")]
    a, b = ["blue", "because it is so", "a <s> b"], ["red, I think", "no", "c"]
    found = letters(lm, words, rubric="Which is better?")(prompts, a, b)
    assert not found.valid[2] and found.why[2] == "the texts hold a special token of the judge's tokenizer"
    for n in range(2):
        for side, order in enumerate([(a[n], b[n]), (b[n], a[n])]):
            asked = question(prompts[n], *order, "Which is better?")
            turns = [{"role": m.role, "content": m.content} for m in asked]
            text = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            ids = words(text, add_special_tokens=False)["input_ids"]
            first, second = plain_chance(net, ids, a_id), plain_chance(net, ids, b_id)
            if scale:
                assert found.shown[n, side] == pytest.approx(first / (first + second), abs=2e-5)
            else:
                assert first + second < 0.5 and math.isnan(found.shown[n, side])
    if not scale:
        assert found.why[0] == "A and B together have less than half of the probability"


def test_a_model_that_cannot_judge() -> None:
    net = tiny.model(vocab_size=200)
    with pytest.raises(ValueError, match="the tokenizer writes A and B alike"):
        letters(LM(net), word_level(CHATML))([user("why")], ["a"], ["x"])
    with pytest.raises(ValueError, match="give LM"):
        letters(LM(net, law=Law(0.5)), word_level(CHATML))


def test_a_reward_model_says_how_much_more_it_likes_one() -> None:
    words = bpe(CHATML)
    reward = RewardLM(classifier(vocab_size=len(words)), row=200)
    prompts, a, b = [user("name a colour"), user("why not?")], ["blue", "because"], ["red, I think", "no"]
    found = by_reward(reward, words)(prompts, a, b)
    for n in range(2):
        scores = []
        for answer in (a[n], b[n]):
            one = encode(words, [prompts[n]], [[answer]]).segments
            assert isinstance(one.obs, dict)
            ids = torch.cat([one.obs["prompt"][0, 0], one.act[0, 0]])[None]
            scores.append(reward.body.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.item())
        assert found.p_first[n] == pytest.approx(1 / (1 + math.exp(scores[1] - scores[0])), abs=1e-5)
    assert found.consistent.all()


def test_gold_judges_words_as_it_marks_tokens() -> None:
    numbers = tutor.split()[0][:50]
    tokens, _ = tutor.answers(numbers)
    rng = np.random.default_rng(1)
    pick = torch.from_numpy(rng.integers(0, tutor.ANSWERS, (50, 2)))
    act = tokens[torch.arange(50)[:, None], pick]
    segments = Segments(
        {"prompt": tutor.prompts(numbers)[:, None], "prompt_mask": torch.ones(50, 1, 9).bool()},
        act,
        act != tutor.PAD,
        torch.zeros(act.shape),
    )
    gold = tutor.marks(tutor.prompts(numbers)[:, None], act, act != tutor.PAD).gold
    chance = prefer(by_gold(temperature=0.7, lapse=0.1), tutor.tokenizer())(segments)
    want = 0.9 * torch.sigmoid((gold[:, 0] - gold[:, 1]) / 0.7) + 0.05
    want = torch.where((act[:, 0] == act[:, 1]).all(-1), 0.5, want)
    assert (chance[:, 0, 1] - want).abs().max() < 1e-6 and (chance[:, 1, 0] - (1 - want)).abs().max() < 1e-6
    sure = by_gold()(
        ["what is 3 7 + 4 8 ?", "who are you ?"], ["the answer is 0 8 5 ."] * 2, ["the answer is 0 8 4 ."] * 2
    )
    assert sure.p_first[0] == 1 and not sure.valid[1] and sure.why[1] == "the prompt is no question of the tutor"
    with pytest.raises(ValueError, match="lapse 2"):
        by_gold(lapse=2)


def cyclic(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
    """w10 beats w11 beats w12 beats w10."""
    order = [(int(x.strip()[1:]) - int(y.strip()[1:])) % 3 for x, y in zip(a, b, strict=True)]
    return symmetric(np.array([{1: 0.1, 2: 0.9}[gap] for gap in order]), [""] * len(a))


def test_of_a_circle_all_win_alike_and_what_is_lost_stops_it() -> None:
    words = tiny.tokenizer()
    act = torch.tensor([[[10, 5], [11, 5], [12, 5], [12, 5]]])
    ids = torch.tensor([[[3, 4]]])
    segments = Segments({"prompt": ids, "prompt_mask": ids > 0}, act, act > 0, torch.zeros(act.shape))
    seen: list[tuple[Verdicts, Sequence[tuple[int, int, int]]]] = []
    chance = prefer(cyclic, words, heard=lambda *heard: seen.append(heard))(segments)
    assert chance[0, 0, 1] == pytest.approx(0.9) and chance[0, 1, 0] == pytest.approx(0.1)
    assert chance[0, 2, 3] == 0.5  # the same words need no judge
    assert len(seen[0][0]) == 5 and seen[0][1] == [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1, 2), (0, 1, 3)]
    assert torch.allclose(win_rate(prefer(cyclic, words))(_first(segments, 3)), torch.full((1, 3), 0.5))

    def shy(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
        assert prompts[0] == "w3 w4"
        return symmetric(np.where(np.arange(len(a)) == 1, np.nan, 0.8), [""] * len(a), "no comment")

    with pytest.raises(
        ValueError, match="1 of 3 pairs have no verdict, first alternatives 0 and 2 of row 0: no comment"
    ):
        prefer(shy, words)(_first(segments, 3))
    tied = prefer(shy, words, invalid="tie")(_first(segments, 3))
    assert tied[0, 0, 2] == 0.5 and tied[0, 0, 1] == pytest.approx(0.8)


def _first(segments: Segments, k: int) -> Segments:
    return Segments(segments.obs, segments.act[:, :k], segments.mask[:, :k], segments.log_prob[:, :k])


def test_online_learns_from_a_judge(tmp_path: Path) -> None:
    """Four rounds of online IPO by a judge of words, and by one who likes the opposite. How much more gold the first
    has in the last three: 0.78 to 0.81 with three seeds."""
    asked = tutor.prompts(tutor.split()[0][:32])
    gold = by_gold(temperature=0.5)

    def contrary(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
        return gold(prompts, b, a)

    worth = []
    for judge in (gold, contrary):
        policy = LM(pretrained(tmp_path, NANO), row=256)
        sampler = Sampler(policy, slots=64, capacity=40, longest=tutor.LONGEST + 2, stop=[tutor.EOS])
        rng = np.random.default_rng(0)
        gather = partial(collect, asked.tolist(), sampler, win_rate(prefer(judge, tutor.tokenizer())), 2, rng)
        opt = torch.optim.AdamW(policy.parameters(), lr=3e-3)
        objective = direct(policy, ipo(0.1, log_ratio), Reference(policy))
        seen = [
            report.feedback.segments
            for report in online(objective, gather, opt, rounds=4, steps=3, batch=32, rng=rng, split=policy.parts)
        ]
        marks = [tutor.marks(asked[:, None], said.act, said.mask).gold.mean().item() for said in seen[1:]]
        worth.append(np.mean(marks))
    assert worth[0] - worth[1] > 0.4
