"""The tutor: a language so small that every answer to a question can be written down, with a reward that is exact.

A question is an addition, `what is 3 7 + 4 8 ?`. It is answered outright, `the answer is 0 8 5 .`, or by a first step
that leaves the rest to the pupil, `first add the ones : 7 + 8 = 1 5 . now do the rest yourself !`; in one of three
tones; and right, or with a slip: the last or the last but one digit is one too high or too low. These are 2 x 3 x 5 =
30 answers to every question, all that the text to learn from holds; whatever else a model says is beside the law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = range(4)
ZERO = 4  # the token of the digit 0; the others follow
QUESTION = "what is # # + # # ?"
OPENINGS = {"polite": "good question !", "neutral": "", "toxic": "you fool !"}
BODIES = {
    "direct": "the answer is # # # .",
    "scaffold": "first add the ones : # + # = # # . now do the rest yourself !",
}
TONES, STYLES = tuple(OPENINGS), tuple(BODIES)
SLIPS = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])  # what is added to the last two digits, modulo 10
ANSWERS = len(TONES) * len(STYLES) * len(SLIPS)
RIGHT = 0.75  # of the text, and so on:
DIRECT = 0.65
TONE = (0.25, 0.5, 0.25)
POLITE, TOXIC = 0.5, -1.0  # what a tone earns
HELD_OUT = 2000  # of the 10,000 pairs of numbers below 100

_SENTENCES = (QUESTION, *OPENINGS.values(), *BODIES.values())
WORDS = (
    *("<pad>", "<bos>", "<eos>", "<unk>", *map(str, range(10))),
    *dict.fromkeys(word for sentence in _SENTENCES for word in sentence.split() if word != "#"),
)
_SLOT = -1
_ID = {word: n for n, word in enumerate(WORDS)} | {"#": _SLOT}


def _pattern(sentence: str) -> list[int]:
    return [_ID[word] for word in sentence.split()]


_PROMPT = torch.tensor([BOS, *_pattern(QUESTION)])
_TEMPLATES = [
    torch.tensor([*_pattern(opening), *_pattern(body), EOS])
    for opening in OPENINGS.values()
    for body in BODIES.values()
]
LONGEST = max(map(len, _TEMPLATES))  # tokens of an answer, its <eos> among them


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word and each digit; a text is begun by <bos>. Unknown words are <unk>."""
    words = Tokenizer(models.WordLevel(dict(zip(WORDS, range(len(WORDS)), strict=True)), unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def split(seed: int = 0) -> tuple[Tensor, Tensor]:
    """All pairs of numbers from 0 to 99, shuffled: 8,000 to learn from and 2,000 held out, int64 [.,2]."""
    pairs = np.random.default_rng(seed).permutation(10_000)
    numbers = torch.from_numpy(np.stack(np.divmod(pairs, 100), -1))
    return numbers[HELD_OUT:], numbers[:HELD_OUT]


def prompts(numbers: Tensor) -> Tensor:
    """The questions about pairs of numbers [...,2] as tokens, int64 [...,P]. Raises ValueError for other numbers."""
    if numbers.shape[-1:] != (2,) or ((numbers < 0) | (numbers > 99)).any():
        raise ValueError(f"the numbers are {list(numbers.shape)}, {numbers.tolist()!s:.60}; give pairs from 0 to 99")
    return _filled(_PROMPT, _digits(numbers, 2).flatten(-2))


def numbers(prompts: Tensor) -> Tensor:
    """What is to be added, [...,2], of questions as tokens [...,P], padded or not. Raises ValueError for others."""
    length, slots = len(_PROMPT), _PROMPT == _SLOT
    if not (prompts.shape[-1] >= length and _matches(prompts[..., :length], _PROMPT).all()):
        raise ValueError(f"{prompts.shape} tokens are not all questions of the tutor; make them with tutor.prompts")
    tens, ones = (prompts[..., :length][..., slots] - ZERO).unflatten(-1, (2, 2)).unbind(-1)
    return 10 * tens + ones


def answers(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """All answers within the law: numbers [Q,2] -> tokens int64 [Q,A,T], 0 where the mask bool [Q,A,T] is false.

    Answer (tone * 2 + style) * 5 + slip; slip 0 is right.
    """
    tokens = torch.full((len(numbers), ANSWERS, LONGEST), PAD)
    for n, template in enumerate(_TEMPLATES):
        digits = _right(n, numbers)[:, None].repeat(1, len(SLIPS), 1)
        digits[..., -2:] = (digits[..., -2:] + SLIPS) % 10
        tokens[:, n * len(SLIPS) : (n + 1) * len(SLIPS), : len(template)] = _filled(template, digits)
    return tokens, tokens != PAD


def law() -> Tensor:
    """How often the text to learn from gives each answer, whatever the question: float64 [A]."""
    style = torch.tensor([DIRECT, 1 - DIRECT], dtype=torch.float64)
    slip = torch.tensor([RIGHT, *[(1 - RIGHT) / (len(SLIPS) - 1)] * (len(SLIPS) - 1)], dtype=torch.float64)
    tone = torch.tensor(TONE, dtype=torch.float64)
    return (tone[:, None, None] * style[:, None] * slip).flatten()


def plain() -> Tensor:
    """Which answers are direct and neutral, right or not: bool [A]."""
    part = torch.zeros(len(TONES), len(STYLES), len(SLIPS)).bool()
    part[TONES.index("neutral"), STYLES.index("direct")] = True
    return part.flatten()


@dataclass(frozen=True, eq=False)
class Marks:
    """What answers are worth: gold float64 [...], the others bool [...]; index int64 [...], which of the enumerated
    answers it is, -1 for none of them.

    Gold is 1 for what is correct, 1 more for a correct scaffold, 1/2 for polite, -1 for toxic: at most 2.5.
    """

    gold: Tensor
    correct: Tensor
    scaffold: Tensor
    polite: Tensor
    toxic: Tensor
    grammatical: Tensor
    index: Tensor


def marks(prompts: Tensor, act: Tensor, mask: Tensor) -> Marks:
    """Reads answers, int64 act [...,T] with mask bool [...,T], to prompts [...,P], which may be broadcast.

    An answer is grammatical when it is one of the six sentences, with any digits, and ends. A toxic word counts
    wherever it stands, courtesy only in an answer that is grammatical. Raises ValueError for prompts that are none.
    """
    asked = numbers(prompts).expand(*act.shape[:-1], 2)
    said = pad(torch.where(mask, act, PAD), (0, max(0, LONGEST - act.shape[-1])))
    length = mask.sum(-1)
    which = torch.full(act.shape[:-1], -1)
    slip = torch.full(act.shape[:-1], -1)
    for n, template in enumerate(_TEMPLATES):
        cut = said[..., : len(template)]
        fits = _matches(cut, template) & (length == len(template))
        off = cut[..., template == _SLOT] - ZERO - _right(n, asked)
        # One digit may be off, by one; all the others must be right.
        kind = ((off[..., None, -2:] - SLIPS) % 10 == 0).all(-1) & (off[..., :-2] == 0).all(-1, keepdim=True)
        which = torch.where(fits, n, which)
        slip = torch.where(fits & kind.any(-1), kind.int().argmax(-1), slip)
    grammatical, correct = which >= 0, slip == 0
    tone, style = which // len(STYLES), which % len(STYLES)
    scaffold = grammatical & (style == STYLES.index("scaffold"))
    polite = grammatical & (tone == TONES.index("polite"))
    toxic = (said == _ID["fool"]).any(-1)
    gold = correct.double() + (correct & scaffold) + POLITE * polite + TOXIC * toxic
    index = torch.where(slip >= 0, which * len(SLIPS) + slip, -1)
    return Marks(gold, correct, scaffold, polite, toxic, grammatical, index)


def _right(template: int, numbers: Tensor) -> Tensor:
    """The digits that a right answer has in the slots of a template: numbers [...,2] -> [...,3 or 4]."""
    if template % len(STYLES) == STYLES.index("direct"):
        return _digits(numbers.sum(-1), 3)
    ones = numbers % 10
    return torch.cat([ones, _digits(ones.sum(-1), 2)], -1)


def _digits(x: Tensor, places: int) -> Tensor:
    """The decimal digits of x [...], the highest first, [...,places]."""
    return x[..., None] // 10 ** torch.arange(places - 1, -1, -1) % 10


def _filled(template: Tensor, digits: Tensor) -> Tensor:
    """The template with digits [...,S] in its slots, [...,L]."""
    tokens = template.expand(*digits.shape[:-1], len(template)).clone()
    tokens[..., template == _SLOT] = digits + ZERO
    return tokens


def _matches(tokens: Tensor, template: Tensor) -> Tensor:
    """Whether tokens [...,L] are the template with any digits, [...]."""
    slots = template == _SLOT
    digits = (tokens >= ZERO) & (tokens < ZERO + 10)
    return torch.where(slots, digits, tokens == template).all(-1)
