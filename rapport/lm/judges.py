"""Who judges answers at once: a reward run, the tutor's gold, a model behind a server or here, or a function of yours
that reads words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Segments
from embodied.online import Judge, Prefer
from rapport.console import say
from rapport.lm.data import need_tutor
from rapport.lm.models import CACHE, ModelError, is_reward, limits_of, load, memory, of, place_of, reward_of
from rapport.train.spaces import import_module

if TYPE_CHECKING:
    from llm_bridge.endpoint import Server
    from llm_bridge.judge import Judging
    from llm_bridge.messages import Prompt
    from llm_bridge.reward import RewardLM
    from llm_bridge.verdicts import Asked, Pairwise, Verdicts
    from rapport.lm.speaking import Speaker
    from rapport.lm.verb import Evaluate, Online, Speaking

    Said = list[tuple[Prompt, list[str]]]
    Texts = Callable[[Segments], Said]
    Compares: TypeAlias = Online | Evaluate

GOLD = "gold"
MANY = 8  # pairs; of fewer, most may have no verdict by chance


def judge_of(name: str, options: Speaking, tokenizer: Any, texts: Texts) -> Judge:
    """What `--reward` names, as a judge of samples [B,K]; `texts` are their words. Raises ModelError, also where a
    reward is no number."""
    worth = _judge_of(name, options, tokenizer, texts)

    def judge(segments: Segments) -> Tensor:
        from llm_bridge.messages import transcript

        found = worth(segments)
        if not torch.isfinite(found).all():
            row, k = (~torch.isfinite(found)).nonzero()[0].tolist()
            prompt = transcript(texts(segments)[row][0])
            raise ModelError(
                f"{name} gave {float(found[row, k])} for answer {k} of row {row}, {prompt[:60]!r}: give finite rewards."
            )
        return found

    return judge


def _judge_of(name: str, options: Speaking, tokenizer: Any, texts: Texts) -> Judge:
    from llm_bridge.style import style

    if name == GOLD:
        need_tutor(tokenizer, "gold")
        return gold
    if is_url(name):
        raise ModelError(f"{name} compares two answers, and gives none of them points: name it with --prefer.")
    if _is_function(name):
        return points(_function(name), name, texts)
    reward, theirs, plain = reward_of(name, options)
    alike = theirs.get_vocab() == tokenizer.get_vocab() and theirs.chat_template == tokenizer.chat_template
    if alike and style(theirs, plain=plain).plain == style(tokenizer, plain=options.plain).plain:
        return _by_tokens(reward)
    return _by_words(reward, theirs, texts, options, plain)


@torch.no_grad()
def gold(segments: Segments) -> Tensor:
    """The tutor's."""
    from llm_bridge.testbed import tutor

    assert isinstance(segments.obs, dict)
    return tutor.marks(segments.obs["prompt"], segments.act, segments.mask).gold.float()


def points(function: Callable[..., Any], name: str, texts: Texts) -> Judge:
    """A function (prompt, answers) -> one number each, both words."""
    from llm_bridge.messages import transcript

    def judge(segments: Segments) -> Tensor:
        rows = []
        for b, (prompt, answers) in enumerate(texts(segments)):
            found = _called(function, name, transcript(prompt), [_bare(answer) for answer in answers])
            try:
                rows.append([float(x) for x in found])
            except (TypeError, ValueError):
                raise ModelError(f"{name} gave {found!r:.60} for row {b}: give one number for each answer.") from None
            if len(rows[-1]) != len(answers):
                raise ModelError(
                    f"{name} gave {len(rows[-1])} numbers for {len(answers)} answers of row {b}: give one each."
                )
        return torch.tensor(rows)

    return judge


def by_reward(judge: Judge) -> Prefer:
    """Bradley and Terry's chances of rewards, [B,K,K]."""

    def prefer(segments: Segments) -> Tensor:
        reward = judge(segments)
        return torch.sigmoid(reward[:, :, None] - reward[:, None, :])

    return prefer


def pairwise_of(options: Compares, *, tell: Callable[[str], object] = say) -> Pairwise:
    """What `--prefer` names, as a judge of pairs of words, each asked both ways round. Raises ModelError,
    EndpointError."""
    from llm_bridge import local_judges
    from llm_bridge.judge import judge

    name = options.prefer
    assert name is not None
    if name == GOLD:
        from llm_bridge.testbed.judge import by_gold

        return by_gold(temperature=1.0)
    if is_url(name):
        return partial(judge, settings=judging(options), tell=tell)
    if _is_function(name):
        return chances(_function(name), name)
    if is_reward(place_of(name)):
        reward, theirs, plain = reward_of(name, options)
        return local_judges.by_reward(reward, theirs, plain=plain)
    loaded = load(of(options, name))
    return local_judges.letters(loaded.lm(options.row), loaded.tokenizer, **_rubric(options))


def chances(function: Callable[..., Any], name: str) -> Pairwise:
    """A function (prompt, first, second) -> the chance that the first is better, all words. Raises ModelError."""
    from llm_bridge.messages import transcript
    from llm_bridge.verdicts import Verdicts, as_prompt, check_pairs

    def asked(prompt: str, first: str, second: str) -> float:
        found = _called(function, name, prompt, first, second)
        if not isinstance(found, int | float) or not 0 <= found <= 1 or math.isnan(found):
            raise ModelError(
                f"{name} gave {found!r:.60} for {prompt!r:.60}: give the chance that the first is better, from 0 to 1."
            )
        return float(found)

    def judge(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
        check_pairs(prompts, a, b)
        words = [transcript(as_prompt(prompt)) for prompt in prompts]
        pairs = zip(words, map(_bare, a), map(_bare, b), strict=True)
        shown = [[asked(p, x, y), asked(p, y, x)] for p, x, y in pairs]
        return Verdicts(
            np.array(shown).reshape(-1, 2), np.zeros((len(shown), 2), np.bool_), ("",) * len(shown), ((),) * len(shown)
        )

    return judge


def judging(options: Compares) -> Judging:
    """How a server's model is asked. Raises EndpointError."""
    from llm_bridge.judge import Judging

    try:
        more = json.loads(options.extra_body)
    except ValueError:
        more = None
    if not isinstance(more, dict):
        raise ModelError(f"--extra-body {options.extra_body!r:.60} is no JSON object: give one, or leave it out.")
    assert options.prefer is not None
    return Judging(
        server_of(options.prefer, per_minute=options.per_minute, timeout=options.timeout),
        reply="reasoned" if options.reasoned else "letter",
        more=more,
        cache=CACHE / "judge.sqlite",
        most_calls=options.most_calls,
        **_rubric(options),
    )


def server_of(name: str, **more: Any) -> Server:
    """http://host:8000/v1#NAME. Raises ModelError without a name, EndpointError for an address that is none."""
    from llm_bridge.endpoint import Server

    url, _, model = name.partition("#")
    if not model:
        raise ModelError(f"{name} names no model: give {url}#NAME, by the name that the server has for it.")
    return Server(url, model, **more)


def is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


@dataclass(eq=False)
class Comparing:
    """A judge of pairs within rounds. What has no verdict counts as a tie, and is counted and told; where that is more
    than half of a round (of MANY pairs at least) it raises ModelError."""

    judge: Pairwise
    speaker: Speaker
    pairs: int = 0
    lost: int = 0

    def prefer(self, segments: Segments) -> Tensor:
        """[B,K,K]."""
        from llm_bridge.local_judges import prefer

        speaker = self.speaker
        chances = prefer(
            self.judge,
            speaker.tokenizer,
            read=lambda ids: speaker.prompts[speaker.known[tuple(ids)]],
            plain=speaker.plain,
            invalid="tie",
            heard=partial(self._heard, segments),
        )
        return chances(segments)

    def share_lost(self) -> float:
        """Of the pairs since the last call."""
        share = self.lost / max(self.pairs, 1)
        self.pairs = self.lost = 0
        return share

    def _heard(self, segments: Segments, verdicts: Verdicts, asked: Sequence[tuple[int, int, int]]) -> None:
        lost = [n for n, valid in enumerate(verdicts.valid) if not valid]
        self.pairs += len(asked)
        self.lost += len(lost)
        if not lost:
            return
        row, i, j = asked[lost[0]]
        prompt = self.speaker.prompts[self.speaker.number(segments, row)]
        told = _without(verdicts, lost, f"answers {i} and {j} of row {row}", prompt)
        if 2 * len(lost) > len(asked) >= MANY:
            raise ModelError(f"{told}. Mend the judge; the same command goes on.")
        say(f"Note: {told}. They count as ties.")


def compared(judge: Pairwise, ours: Said, theirs: Said) -> dict[str, Any]:
    """Answer k against answer k, both ways round: the mean chance to win over prompts, answers of the same words being
    equal; what has no verdict is left out, and counted with its reason. Raises ModelError where nothing has one."""
    from llm_bridge.verdicts import report

    pairs = [
        (b, prompt, a, other)
        for b, ((prompt, answers), (_, others)) in enumerate(zip(ours, theirs, strict=True))
        for a, other in zip(answers, others, strict=True)
    ]
    asked = [pair for pair in pairs if pair[2] != pair[3]]
    chances: list[list[float]] = [[] for _ in ours]
    for b, _, a, other in pairs:
        chances[b] += [0.5] if a == other else []
    found: dict[str, Any] = {"pairs": len(pairs), "alike": len(pairs) - len(asked)}
    if asked:
        prompts, first, second = zip(*(pair[1:] for pair in asked), strict=True)
        verdicts = judge(prompts, first, second)
        for (b, *_), p in zip(asked, verdicts.p_first.tolist(), strict=True):
            chances[b] += [] if math.isnan(p) else [p]
        if lost := [n for n, valid in enumerate(verdicts.valid) if not valid]:
            b, prompt, *_ = asked[lost[0]]
            said = _without(verdicts, lost, f"row {b}", prompt)
            if len(lost) == len(pairs):
                raise ModelError(f"{said}. Mend the judge, and give the same command.")
            say(f"Note: {said}. They are left out.")
        told = report(verdicts, first, second)
        found |= {"consistent": told.consistent, "first": told.first, "without": dict(told.invalid)}
    mean, error = mean_error(torch.tensor([sum(its) / len(its) for its in chances if its]))
    return found | {"wins": mean, "wins_error": error}


def _without(verdicts: Verdicts, lost: Sequence[int], where: str, prompt: Prompt) -> str:
    from llm_bridge.messages import transcript

    told = f"{len(lost)} of {len(verdicts)} pairs have no verdict, first {where}, {transcript(prompt)[:60]!r}"
    return f"{told}: {verdicts.why[lost[0]]}"


def mean_error(x: Tensor) -> tuple[float, float]:
    """The mean over prompts, and its standard error."""
    x = x.double()
    return float(x.mean()), float(x.std() / len(x) ** 0.5) if len(x) > 1 else float("nan")


def _rubric(options: Compares) -> dict[str, Any]:
    return {} if options.rubric is None else {"rubric": options.rubric}


def _by_tokens(reward: RewardLM) -> Judge:
    @torch.no_grad()
    def judge(segments: Segments) -> Tensor:
        with memory(reward.body.row, "judging"):
            return torch.cat([reward(segments[rows]) for rows in reward.parts(segments)])

    return judge


def _by_words(reward: RewardLM, tokenizer: Any, texts: Texts, options: Speaking, plain: bool) -> Judge:
    """The words once more, as tokens of the reward's own."""
    from llm_bridge.text import NothingLeft, encode

    by_tokens, limits = _by_tokens(reward), limits_of(options) | {"plain": plain}

    def worth(said: Said) -> tuple[Tensor, Tensor]:
        """[B,K], and which rows could be written as its tokens, [B]."""
        out, known = torch.zeros(len(said), len(said[0][1])), torch.zeros(len(said), dtype=torch.bool)
        try:
            told = encode(tokenizer, [prompt for prompt, _ in said], [answers for _, answers in said], **limits)
        except NothingLeft:
            return out, known
        out[list(told.kept)], known[list(told.kept)] = by_tokens(told.segments), True
        return out, known

    def judge(segments: Segments) -> Tensor:
        said = texts(segments)
        out, whole = worth(said)
        known = whole[:, None].repeat(1, out.shape[1])
        if len(lost := (~whole).nonzero()[:, 0].tolist()):  # one answer's special token spoils no other
            alone, written = worth([(said[b][0], [answer]) for b in lost for answer in said[b][1]])
            out[lost], known[lost] = alone.view(len(lost), -1), written.view(len(lost), -1)
        # What cannot be written is worth what the least of the others is.
        return torch.where(known, out, out[known].min() if known.any() else 0.0)

    return judge


def _bare(answer: str) -> str:
    """Without the blank that parts it from its prompt, which is of tokens and not of words."""
    return answer.removeprefix(" ")


def _is_function(name: str) -> bool:
    return ":" in name and not is_url(name) and not Path(name).exists()


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(":")
    found = getattr(import_module(module), function, None)
    if not callable(found):
        raise ModelError(f"{module} has no function {function}: name one, as in judge.py:{function}.")
    return found


def _called(function: Callable[..., Any], name: str, *given: str | Sequence[str]) -> Any:
    try:
        return function(*given)
    except Exception as error:  # of any kind: it is somebody else's code
        raise ModelError(f"{name} failed on {given[0]!r:.60} ({type(error).__name__}: {error}): mend it.") from error
