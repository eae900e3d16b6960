"""`rapport lm online`: rounds of sampling, judging and learning."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from embodied.advantages import GAE, critic_loss, group, leave_one_out, plain
from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.fit import Objective, imitate, plus
from embodied.kl_terms import forward_kl, kl_term
from embodied.methods import ipo
from embodied.online import Judge, Sample, best_only, collect, online, win_rate
from embodied.policy_gradient import clipped, pairwise_clipped, policy_gradient
from embodied.reference import Reference
from embodied.remembered import Remembered, weights_fingerprint
from embodied.scores import log_ratio
from rapport.console import say
from rapport.lm.data import prompts_of
from rapport.lm.judges import Comparing, by_reward, compared, is_url, judge_of, pairwise_of
from rapport.lm.learning import tell
from rapport.lm.models import Learned, Loaded, ModelError, limits_of, load, memory
from rapport.lm.running import Row, Samples, Work, check, default_out, finish, opened, optimiser, rate_of, run, write
from rapport.lm.speaking import Speaker, own, room
from rapport.lm.together import several
from rapport.run import read_json, write_json

if TYPE_CHECKING:
    from llm_bridge.lm import LM
    from llm_bridge.verdicts import Pairwise
    from rapport.lm.judges import Said
    from rapport.lm.verb import Online


BEST = ("raft", "superhf", "best-of-n")
"""Methods that imitate the best answer of a prompt."""
LOOKED = 64  # prompts of a look
FIRST = "first.json"


class Critic(nn.Module):
    """What is still to come before each token [B,K,T]: linear in what the policy's last layer says there, which it does
    not move."""

    def __init__(self, lm: LM) -> None:
        super().__init__()
        from llm_bridge.lm import base

        self.hidden = base(lm.model).config.hidden_size
        self.head = nn.Linear(self.hidden, 1, device=lm.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._lm = [lm]  # not a part of it

    def forward(self, segments: Segments) -> Tensor:
        (lm,) = self._lm
        laid = lm.laid(segments)
        with torch.no_grad(), lm.precision():
            said = lm.hidden(laid).index_select(0, laid.query)
        value = self.head(said.float())[:, 0]
        flat = torch.zeros(segments.mask.numel(), device=lm.device).index_put((laid.where,), value)
        return flat.view(segments.mask.shape).to(segments.mask.device)


@dataclass(eq=False)
class Watched:
    """A judge whose last words are kept, since of some methods the target is another."""

    judge: Judge
    last: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __call__(self, segments: Segments) -> Tensor:
        self.last = self.judge(segments)
        return self.last


def command(options: Online) -> int:
    check(options)
    if several():
        raise ModelError("online samples and learns in one process: start it alone, without torchrun or accelerate.")
    if (options.reward is None) == (options.prefer is None):
        raise ModelError("Give --reward or --prefer, and not both: somebody has to judge the answers.")
    least_k = 1 if options.method == "ppo" and options.prefer is None else 2
    if (
        options.k < least_k
        or (options.method == "online-ipo" and options.k != 2)
        or min(options.rollouts, options.epochs) < 1
    ):
        raise ModelError(
            f"--k {options.k}, --rollouts {options.rollouts}, --epochs {options.epochs}: {options.method} takes "
            f"{'two' if options.method == 'online-ipo' else f'at least {least_k}'} answers to a prompt, and at least "
            "one prompt and step a round."
        )
    from llm_bridge.law import Law
    from llm_bridge.text import shown

    loaded = load(options, lora=options.lora, learns=True, checkpointing=options.checkpointing)
    law = Law(options.temperature, options.top_k, options.top_p)
    lm = loaded.lm(options.row, law)
    rate = rate_of(options, loaded)
    asked = prompts_of(options.prompts)

    def speaker_of(speaks: LM) -> Speaker:
        draw = own(speaks, options.rollouts * options.k)
        return Speaker(draw, loaded.tokenizer, asked, room=room(loaded.model), **limits_of(options))

    speaker = speaker_of(lm)
    say(f"{loaded.says()}, at a rate of {rate:g}.")
    say(f"{options.prompts}: {len(speaker.ids)} prompts, {speaker.long} of them without their beginning.")
    if speaker.duplicates:
        say(f"Note: {speaker.duplicates} prompts become the tokens of another, whose words a judge is shown for them.")
    for note in loaded.notes:
        say(f"Note: {note}.")
    comparing = None if options.prefer is None else Comparing(_asked(options), speaker)
    judge, watched = _judges(options, speaker, loaded, comparing)
    identity = weights_fingerprint(loaded.model)[:16]
    first = speaker(range(1), options.k, np.random.default_rng([options.seed, 32]))
    say(shown(loaded.tokenizer, first))
    say(f"judged {[round(x, 3) for x in watched(first)[0].tolist()]}")

    out = default_out(options, "online", options.method)
    config = {"verb": "online", "weights": identity, "rate": rate, "prompts_digest": _digest(speaker)}
    with opened(out, options, config):
        held = _reference(lm, loaded)
        critic = Critic(lm) if options.method == "ppo" else None
        opt = optimiser(lm, rate, options.clip, () if critic is None else tuple(critic.parameters()))
        rng = np.random.default_rng([options.seed, 31])
        parts = {"model": Learned(lm, identity), "opt": opt, "rng": rng} | (
            {} if critic is None else {"critic": critic}
        )
        objective = _objective(options, lm, held, critic)
        sample = _before(speaker, speaker_of, lm, loaded) if options.method == "best-of-n" else speaker

        drawn_by: list[Row] = []

        def gather() -> Feedback:
            drawn = rng.choice(len(speaker.ids), min(options.rollouts, len(speaker.ids)), replace=False)
            with memory(lm.row, "sampling"):
                data = collect(drawn, sample, judge, options.k, rng)
                # Here, since the reference still remembers it when the objective asks.
                drawn_by.append(_measured(data.segments, watched.last, lm, held))
            return data

        def advance(rounds: int, moved: Callable[[int, float], None]) -> Row:
            drawn_by.clear()
            losses: list[float] = []
            reports = online(
                objective,
                gather,
                opt,
                rounds=rounds,
                steps=options.epochs,
                batch=options.batch,
                rng=rng,
                split=lm.parts,
                reference=held if isinstance(held, Reference) else None,
                policy=lm if isinstance(held, Reference) else None,
            )
            for report in reports:
                losses.append(float(np.mean(report.losses)))
                if isinstance(held, Remembered):
                    held.forget()
                moved(report.round + 1, losses[-1])
            drawn = {f"rollout_{name}": float(np.mean([row[name] for row in drawn_by])) for name in ("reward", "kl")}
            if comparing is not None:  # win rates among one's own answers are a half, whatever they are
                drawn["rollout_without_verdict"] = comparing.share_lost()
                del drawn["rollout_reward"]
            return {"loss": float(np.mean(losses)), **drawn}

        def look() -> Row:
            """At fresh answers to the same prompts each time."""
            draw = np.random.default_rng([options.seed, 34])
            which = draw.choice(len(speaker.ids), min(LOOKED, len(speaker.ids)), replace=False)
            with memory(lm.row, "sampling"):
                said = speaker(which, options.k, draw)
                found = _measured(said, watched(said) if comparing is None else None, lm, held)
            if comparing is not None:
                found = {"wins": _against_first(comparing, speaker.texts(said), out / FIRST), **found}
            if isinstance(held, Remembered | Reference):
                (held if isinstance(held, Remembered) else held.memory).forget()
            return found

        def speak(done: int) -> Samples:
            return speaker.few(options.seed, done)

        if comparing is not None:
            comparing.share_lost()  # of what was shown above, which a run that goes on shows again
        rows = run(Work(options.steps, options.every, lm.row, parts, advance, look, speak), out)
        write(loaded, out)
        result = finish(
            out,
            {
                "verb": "online",
                "method": options.method,
                "rows": {"prompts": len(speaker.ids)},
                "before": rows[0],
                "after": rows[-1],
                "notes": list(loaded.notes),
                "model": loaded.says(),
            },
        )
    tell(result, out, as_json=options.json)
    return 0


def _asked(options: Online) -> Pairwise:
    """Who compares; of a server, how often at most. Raises ModelError for more calls than are allowed."""
    judge = pairwise_of(options, tell=lambda line: None)
    assert options.prefer is not None
    if is_url(options.prefer):
        looks = math.ceil(options.steps / options.every)
        calls = (1 + options.steps * options.rollouts) * options.k * (options.k - 1) + looks * 2 * LOOKED
        told = f"{calls:,} calls of {options.prefer} at most, fewer where answers are alike or replies are kept"
        if calls > options.most_calls:
            raise ModelError(
                f"{told}: raise --most-calls {options.most_calls}, or take fewer --steps, --rollouts or --k."
            )
        say(f"{told}.")
    return judge


def _judges(options: Online, speaker: Speaker, loaded: Loaded, comparing: Comparing | None) -> tuple[Judge, Watched]:
    """The judge that the method learns from, and the one whose numbers are told."""
    if comparing is not None:
        watched = Watched(win_rate(comparing.prefer))
        return (best_only(watched) if options.method in BEST else watched), watched
    assert options.reward is not None
    watched = Watched(judge_of(options.reward, options, loaded.tokenizer, speaker.texts))
    if options.method in BEST:
        return best_only(watched), watched
    return (win_rate(by_reward(watched)) if options.method == "online-ipo" else watched), watched


def _against_first(comparing: Comparing, said: Said, kept: Path) -> float:
    """How often an answer to each prompt is preferred to what the model said there before it learned."""
    now = [(prompt, answers[:1]) for prompt, answers in said]
    if not kept.exists():
        write_json(kept, [answers for _, answers in now])
    before = [(prompt, list(answers)) for (prompt, _), answers in zip(now, read_json(kept), strict=True)]
    return float(compared(comparing.judge, now, before)["wins"])


def _reference(lm: LM, loaded: Loaded) -> Reference | Remembered:
    """The model as it is now: without its adapter, or with the one that it began with, or a frozen copy."""
    from llm_bridge.adapters import AdapterOff, freeze

    if not loaded.adapter:
        return Reference(lm)
    return Remembered(freeze(lm) if loaded.began else AdapterOff(lm))


def _objective(options: Online, lm: LM, held: Any, critic: Critic | None) -> Objective:
    kl = options.kl
    match options.method:
        case "ppo":
            assert critic is not None
            advantage = GAE(critic, kl=kl)
            return plus(policy_gradient(lm, clipped(0.2), advantage, held), (1.0, critic_loss(advantage, held)))
        case "rloo":
            return policy_gradient(lm, clipped(0.2, "sequence"), leave_one_out(kl), held)
        case "grpo":
            surrogate = policy_gradient(lm, clipped(0.2, mean=True), group())
            return plus(surrogate, (kl, kl_term(lm, held, "k3", mean=True)))
        case "p3o":
            return policy_gradient(lm, pairwise_clipped(0.2), plain(kl=kl), held)
        case "superhf":
            return plus(imitate(lm), (kl, forward_kl(lm, held)))
        case "online-ipo":
            return direct(lm, ipo(kl, log_ratio), held)
        case _:
            return imitate(lm)


def _before(speaker: Speaker, speaker_of: Callable[[LM], Speaker], lm: LM, loaded: Loaded) -> Sample:
    """Samples of the model as it began."""
    if not loaded.adapter:
        return speaker_of(copy.deepcopy(lm).requires_grad_(False))
    if loaded.began:
        raise ModelError("best-of-n samples from the model without its adapter: give a whole --model, not an adapter.")

    def off(which: Any, k: int, rng: np.random.Generator) -> Segments:
        with speaker.sampler.model.disable_adapter():
            return speaker(which, k, rng)

    return off


def _digest(speaker: Speaker) -> str:
    return hashlib.sha256(json.dumps(speaker.ids).encode()).hexdigest()[:16]


@torch.no_grad()
def _measured(segments: Segments, reward: Tensor | None, lm: LM, held: Any) -> Row:
    """Of samples: reward, if they have any; KL from where the model began, and entropy of a token, as the samples tell;
    length."""
    parts = [segments[rows] for rows in lm.parts(segments)]
    gaps = [torch.where(p.mask, p.log_prob - held.log_prob(p), 0.0).sum(-1).flatten() for p in parts]
    steps = segments.mask.sum(-1)
    return {
        **({} if reward is None else {"reward": float(reward.mean())}),
        "kl": float(torch.cat(gaps).mean()),
        "length": float(steps.float().mean()),
        "entropy": float(-(torch.where(segments.mask, segments.log_prob, 0.0).sum() / steps.sum())),
    }
