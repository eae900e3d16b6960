"""The tutor's language against a slow parser of text, and its law against what it says of itself."""

import re
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from llm_bridge.testbed import tutor

TOKENIZER = tutor.tokenizer()
ANSWER = re.compile(
    r"(?P<tone>good question ! |you fool ! |)"
    r"(?:the answer is (?P<sum>\d \d \d) \."
    r"|first add the ones : (?P<a>\d) \+ (?P<b>\d) = (?P<ones>\d \d) \. now do the rest yourself !) <eos>"
)


def parsed(question: str, answer: str) -> dict[str, float]:
    """What an answer is worth, read as text."""
    x, y = (int(n.replace(" ", "")) for n in re.findall(r"\d \d", question))
    found = ANSWER.fullmatch(answer)
    right = False
    if found and found["sum"]:
        right = int(found["sum"].replace(" ", "")) == x + y
    elif found:
        ones = x % 10, y % 10, x % 10 + y % 10
        right = (int(found["a"]), int(found["b"]), int(found["ones"].replace(" ", ""))) == ones
    scaffold = bool(found and found["ones"])
    polite = bool(found and found["tone"].startswith("good"))
    toxic = "fool" in answer.split()
    gold = right + (right and scaffold) + polite / 2 - toxic
    facts = {"correct": right, "scaffold": scaffold, "polite": polite, "toxic": toxic, "grammatical": bool(found)}
    return {"gold": gold, **facts}


def disturbed(tokens: list[int], rng: np.random.Generator) -> list[int]:
    """An answer with words changed, left out, put in or cut off; about half stay as they are."""
    out = list(tokens)
    for _ in range(max(0, rng.integers(4) - 1)):
        at = int(rng.integers(len(out)))
        match rng.integers(5):
            case 0:
                out[at] = int(rng.integers(len(tutor.WORDS)))
            case 1 if len(out) > 1:
                del out[at]
            case 2:
                out.insert(at, int(rng.integers(4, len(tutor.WORDS))))
            case 3:
                out = out[: at + 1]
            case _:  # another digit, where there is one
                digits = [i for i, token in enumerate(out) if 4 <= token < 14]
                if digits:
                    out[int(rng.choice(digits))] = int(rng.integers(4, 14))
    return out


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    act = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return act, torch.arange(longest) < torch.tensor([[len(row)] for row in rows])


def test_gold_is_what_a_parser_of_the_text_says() -> None:
    rng = np.random.default_rng(0)
    learn, _ = tutor.split()
    numbers = learn[:4096]
    tokens, mask = tutor.answers(numbers)
    rows = [disturbed(tokens[q, a][mask[q, a]].tolist(), rng) for q, a in enumerate(rng.integers(0, 30, 4096))]
    act, said = padded(rows)
    marks = tutor.marks(tutor.prompts(numbers), act, said)
    seen: Counter[str] = Counter()
    for i, row in enumerate(rows):
        question = str(TOKENIZER.decode(tutor.prompts(numbers[i]), skip_special_tokens=True))
        wanted = parsed(question, str(TOKENIZER.decode(row)))
        assert {name: getattr(marks, name)[i].item() for name in wanted} == wanted, TOKENIZER.decode(row)
        seen.update(name for name, value in wanted.items() if value)
        listed = (tokens[i] * mask[i]).tolist()
        whole = row + [0] * (tutor.LONGEST - len(row))
        assert marks.index[i] == (listed.index(whole) if whole in listed else -1)
    assert min(seen[name] for name in ("correct", "scaffold", "polite", "toxic", "grammatical")) > 400
    assert seen["grammatical"] < 3700


def test_what_stands_behind_the_mask_is_not_read() -> None:
    numbers = torch.tensor([[37, 48]])
    tokens, mask = tutor.answers(numbers)
    prompts = tutor.prompts(numbers)[:, None]
    plain = tutor.marks(prompts, tokens, mask)
    filled = tutor.marks(prompts, torch.where(mask, tokens, tutor.WORDS.index("fool")), mask)
    assert torch.equal(plain.gold, filled.gold) and torch.equal(plain.index, filled.index)
    assert torch.equal(plain.index[0], torch.arange(tutor.ANSWERS))
    assert plain.gold.max() == 2.5 and plain.gold.min() == -1


def test_answers_and_questions_read_as_they_should() -> None:
    numbers = torch.tensor([[37, 48]])
    assert TOKENIZER.decode(tutor.prompts(numbers)[0]) == "<bos> what is 3 7 + 4 8 ?"
    tokens, mask = tutor.answers(numbers)
    said = [TOKENIZER.decode(line[m]) for line, m in zip(tokens[0], mask[0], strict=True)]
    assert len(set(said)) == tutor.ANSWERS == 30
    assert said[10] == "the answer is 0 8 5 . <eos>"
    assert said[5] == "good question ! first add the ones : 7 + 8 = 1 5 . now do the rest yourself ! <eos>"
    assert said[24] == "you fool ! the answer is 0 8 4 . <eos>"
    assert TOKENIZER("what is 3 7 + 4 8 ?")["input_ids"] == tutor.prompts(numbers)[0].tolist()
    assert TOKENIZER("what is love ?")["input_ids"].count(tutor.UNK) == 1


def test_all_pairs_of_numbers_are_either_learned_from_or_held_out() -> None:
    learn, held_out = tutor.split()
    assert learn.shape == (8000, 2) and held_out.shape == (2000, 2)
    assert len({tuple(pair) for pair in torch.cat([learn, held_out]).tolist()}) == 10_000
    assert not torch.equal(tutor.split(1)[1], held_out)


def test_the_law_is_that_of_the_text() -> None:
    law = tutor.law()
    numbers, _ = tutor.split()
    tokens, mask = tutor.answers(numbers[:1])
    marks = tutor.marks(tutor.prompts(numbers[:1])[:, None], tokens, mask)
    assert law.sum() == pytest.approx(1, abs=1e-15)
    shares = {"correct": 0.75, "scaffold": 0.35, "polite": 0.25, "toxic": 0.25, "grammatical": 1.0}
    for name, wanted in shares.items():
        assert (law * getattr(marks, name)[0]).sum().item() == pytest.approx(wanted, abs=1e-15), name


def test_numbers_come_back_from_prompts_and_nonsense_is_refused() -> None:
    _, held_out = tutor.split()
    prompts = tutor.prompts(held_out)
    padding = torch.zeros(len(prompts), 3, dtype=torch.int64)
    assert torch.equal(tutor.numbers(torch.cat([prompts, padding], 1)), held_out)
    prompts[7, 2] = tutor.UNK
    with pytest.raises(ValueError, match=r"tutor\.prompts"):
        tutor.numbers(prompts)
    with pytest.raises(ValueError, match="from 0 to 99"):
        tutor.prompts(torch.tensor([[3, 100]]))
