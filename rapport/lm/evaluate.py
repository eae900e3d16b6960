"""`rapport lm evaluate`: what a model foretells of held-out answers, how far it went, and whom it beats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from embodied.feedback import Feedback
from rapport.console import say
from rapport.lm import data
from rapport.lm.judges import GOLD, compared, judge_of, mean_error, pairwise_of, server_of
from rapport.lm.models import Loaded, ModelError, config_of, is_reward, limits_of, load, memory, of, place_of, reward_of
from rapport.lm.running import Row
from rapport.lm.speaking import Draw, Speaker, own, room, served

if TYPE_CHECKING:
    from llm_bridge.lm import LM
    from llm_bridge.messages import Prompt
    from rapport.lm.verb import Evaluate

BINS = 10


def command(options: Evaluate) -> int:
    if min(options.k, options.limit) < 1:
        raise ModelError(f"--k {options.k}, --limit {options.limit}: give at least 1 of each.")
    if options.prefer is not None and options.against is None:
        raise ModelError("--prefer compares with another model's answers: give --against MODEL.")
    if options.against is not None and options.prefer is None and options.reward is None:
        raise ModelError(f"--against {options.against}: give --reward or --prefer, by which to beat it.")
    config = config_of(options.model)
    place = place_of(options.model)
    if is_reward(place):
        if options.against or options.prompts or options.reward or options.server:
            raise ModelError(f"{options.model} is a reward model, and answers nothing: give --data alone.")
        reward, tokenizer, plain = reward_of(options.model, options)
        parts, _ = _pairs(replace(options, plain=plain), config, tokenizer)
        if not parts:
            raise ModelError("Nothing is foretold: give --data FILE with comparisons.")
        with torch.no_grad():
            scored = [
                (reward(part.segments[rows]), part.target[rows])
                for part in parts
                for rows in reward.parts(part.segments)
            ]
        result: Row = {"foretold": foretold(*map(torch.cat, zip(*scored, strict=True)))}
    else:
        result = _policy(options, config)
    if options.json:
        print(json.dumps(result))
    else:
        print(*lines(result), sep="\n")
    return 0


@torch.no_grad()
def _policy(options: Evaluate, config: Row) -> Row:
    from llm_bridge.law import Law

    law = Law(options.temperature, options.top_k, options.top_p)
    loaded = load(options)
    lm = loaded.lm(options.row, law)
    say(f"{loaded.says()}.")
    began = options.reference or config.get("model")
    other = load(of(options, began)) if began else None
    reference = None if other is None else other.lm(options.row, law)
    result: Row = {}
    parts, asked = _pairs(options, config, loaded.tokenizer)
    if parts and reference is not None:
        beta = _beta(config)
        scored = []
        for part in parts:
            for rows in lm.parts(part.segments):
                some = part.segments[rows]
                gap = torch.where(some.mask, lm.log_prob(some) - reference.log_prob(some), 0.0).sum(-1)
                scored.append((beta * gap, part.target[rows]))
        result["foretold"] = {"beta": beta, **foretold(*map(torch.cat, zip(*scored, strict=True)))}
    if options.prompts is not None:
        asked = data.prompts_of(options.prompts, held_out=True)
    asked = asked[: options.limit]
    if asked:
        result["samples"] = _samples(options, loaded, lm, reference, asked)
    elif options.against or options.reward not in (None, GOLD):
        raise ModelError("Nothing is asked: give --prompts FILE.")
    if options.reward == GOLD:
        data.need_tutor(loaded.tokenizer, "gold")
        result["gold"] = _gold(options, loaded, other or loaded)
    if not result:
        raise ModelError("Nothing is measured: give --data, --prompts, or --reward gold.")
    return result


def _samples(options: Evaluate, loaded: Loaded, lm: LM, reference: LM | None, asked: list[Prompt]) -> Row:
    from llm_bridge.external import ratios

    limits = limits_of(options)
    many = len(asked) * options.k
    draw = own(lm, many) if options.server is None else _served(options, lm, reference)
    speaker = Speaker(draw, loaded.tokenizer, asked, room=room(loaded.model), **limits)
    with memory(lm.row, "sampling"):
        said = speaker(range(len(asked)), options.k, np.random.default_rng([options.seed, 40]))
    row: Row = {"prompts": len(asked), "length": float(said.mask.sum(-1).float().mean())}
    if reference is not None:
        if options.server is not None:
            row["ratio"] = str(ratios(lm, said))
        # Both sides by the same way of computing: the sampler of a GPU rounds otherwise.
        gaps = [
            torch.where(p.mask, lm.log_prob(p) - reference.log_prob(p), 0.0).sum(-1)
            for p in (said[rows] for rows in lm.parts(said))
        ]
        row["kl"], row["kl_error"] = mean_error(torch.cat(gaps).mean(1))
    judge = None
    if options.reward is not None:
        judge = judge_of(options.reward, options, loaded.tokenizer, speaker.texts)
        worth = judge(said)
        row["reward"], row["reward_error"] = mean_error(worth.mean(1))
    if options.against is None:
        return row
    rival = load(of(options, options.against))
    theirs = Speaker(own(rival.lm(options.row, lm.law), many), rival.tokenizer, asked, room=room(rival.model), **limits)
    with memory(lm.row, "sampling"):
        answers = theirs(range(len(asked)), options.k, np.random.default_rng([options.seed, 41]))
    row["against"] = options.against
    if judge is not None and options.reward is not None:
        others = judge_of(options.reward, options, rival.tokenizer, theirs.texts)(answers)
        gap = worth[:, :, None] - others[:, None, :]
        row["wins"], row["wins_error"] = mean_error(((gap > 0) + (gap == 0) / 2).mean((1, 2)))
        row["their_reward"], row["their_reward_error"] = mean_error(others.mean(1))
    if options.prefer is not None:
        row["preferred"] = compared(pairwise_of(options), speaker.texts(said), theirs.texts(answers))
    return row


def _served(options: Evaluate, lm: LM, reference: LM | None) -> Draw:
    """KL needs what each token was drawn with; without it any server will do."""
    from llm_bridge.external import knows

    assert options.server is not None
    server = server_of(options.server)
    if reference is None:
        return served(server, lm.law, "unknown")
    if not knows(options.log_probs, lm.law):
        raise ModelError(
            f"KL to the reference needs the log-probability that each token was drawn with, and by --log-probs "
            f"{options.log_probs} it is not known under {lm.law}: sample at temperature 1 from all tokens, or start "
            "the server so that it says what it draws by (vLLM: --logprobs-mode processed_logprobs) and give "
            "--log-probs processed."
        )
    return served(server, lm.law, options.log_probs)


def _gold(options: Evaluate, loaded: Loaded, other: Loaded) -> Row:
    """Exactly, but for what is said beside the law (docs/testbed.md)."""
    from llm_bridge.testbed import tutor
    from llm_bridge.testbed.measure import landscape, measure

    rng = np.random.default_rng([options.seed, 42])
    policy, before = (_plain(one) for one in (loaded, other))
    ground = landscape(before, tutor.split()[1][: options.limit], rng)
    found = measure(policy, before, ground, rng)
    figures = {name: getattr(found, name) for name in ("gold", "kl", "share", "correct", "scaffold", "polite", "toxic")}
    return {name: {"value": f.value, "error": f.error} for name, f in figures.items()} | {"gold_before": ground.reward}


def _plain(loaded: Loaded) -> Any:
    model = loaded.model
    model = model.merge_and_unload() if loaded.adapter else model
    return model.float().cpu()


def _pairs(options: Evaluate, config: Row, tokenizer: Any) -> tuple[list[Feedback], list[Prompt]]:
    """Comparisons and the prompts that they are about: of a run's own data what it held out."""
    source = options.data or config.get("data")
    if source is None:
        return [], []
    own = config.get("data") is not None and Path(source).resolve() == Path(config["data"]).resolve()
    found = data.find(source, split=options.split or (config.get("split") if own else None), store=options.store)
    records, empty = data.without_empty(found.records)
    if own:
        records = data.hold_out(records, int(config["seed"]))[1]
    if not records:
        return [], []
    kept, _ = data.told(records, listwise=False, marks=False)
    asked = list(dict.fromkeys(r.prompt for r in records))
    if not kept:
        return [], asked
    from llm_bridge.answers import feedback

    told = feedback(kept[: options.limit], tokenizer, **limits_of(options))
    for note in empty:
        say(f"Note: {note}.")
    for note in data.sentences(told.counts, kept, tokenizer):
        say(f"Note: {note}.")
    return [part for part in told.parts if part.target.shape[1] == 2], asked


def foretold(score: Tensor, target: Tensor) -> Row:
    """Scores and targets [B,2]: the share of decided pairs in their order, the mean margin, and how far chances
    sigmoid(gap) are from what was said: log-loss in nats, and the expected calibration error over ten bins."""
    gap, first = (score[:, 0] - score[:, 1]).double(), target[:, 0].double()
    decided = first != 0.5
    sign = torch.where(first > 0.5, 1.0, -1.0)
    right = int((gap * sign > 0)[decided].sum())
    row: Row = {"pairs": len(gap), "decided": int(decided.sum())}
    if n := row["decided"]:
        ci = binomtest(right, n).proportion_ci(0.95, method="exact")
        row |= {"accuracy": right / n, "low": float(ci.low), "high": float(ci.high)}
        row["margin"] = float((gap * sign)[decided].mean())
    chance = torch.sigmoid(gap)
    log = torch.nn.functional.logsigmoid
    row["log_loss"] = float(-(first * log(gap) + (1 - first) * log(-gap)).mean())
    where = (chance * BINS).long().clamp(max=BINS - 1)
    off = torch.stack([(chance - first)[where == b].sum().abs() for b in range(BINS)])
    return row | {"calibration_error": float(off.sum() / len(gap))}


def lines(result: Row) -> list[str]:
    out = []
    if found := result.get("foretold"):
        told = f"{found['pairs']} held-out pairs, {found['decided']} decided"
        if "accuracy" in found:
            told += f": {found['accuracy']:.1%} foretold (95 %: {found['low']:.1%} to {found['high']:.1%})"
            told += f", margin {found['margin']:.3g}"
        out += [told, f"log-loss {found['log_loss']:.4f} nats, calibration error {found['calibration_error']:.3f}"]
    if found := result.get("samples"):
        told = f"answers to {found['prompts']} prompts: {found['length']:.1f} tokens"
        out.append(told + _figure(found, "kl", "KL") + _figure(found, "reward", "reward"))
        if "ratio" in found:
            out.append(f"the server against the model: {found['ratio']}")
        if "wins" in found:
            told = f"against {found['against']}: wins {found['wins']:.1%} ± {found['wins_error']:.1%}"
            out.append(told + _figure(found, "their_reward", "whose reward is"))
        if said := found.get("preferred"):
            told = f"against {found['against']}, by the judge: wins {said['wins']:.1%} ± {said['wins_error']:.1%}"
            out.append(f"{told} of {said['pairs']} pairs, {said['alike']} of them alike")
            if "consistent" in said:
                told = f"both orders agree on {said['consistent']:.1%}, the first place has {said['first']:.3f}"
                out.append("; ".join([told, *(f"{n} without a verdict: {why}" for why, n in said["without"].items())]))
    if found := result.get("gold"):
        figures = {name: f"{f['value']:.3f} ± {f['error']:.3f}" for name, f in found.items() if name != "gold_before"}
        told = f"the tutor's gold {figures['gold']}, before {found['gold_before']:.3f}; KL {figures['kl']} nats"
        shares = ", ".join(f"{name} {found[name]['value']:.1%}" for name in ("correct", "scaffold", "polite", "toxic"))
        out += [f"{told}; share of the possible gain {figures['share']}", shares]
    return out


def _figure(found: Row, name: str, label: str) -> str:
    return f", {label} {found[name]:.3f} ± {found[f'{name}_error']:.3f}" if name in found else ""


def _beta(config: Row) -> float:
    """What makes of a run's log-ratios the chances that it was taught."""
    from rapport.align.methods import coefficients, method_of

    if config.get("verb") != "align":
        return 0.1
    told = dict(s.partition("=")[::2] for s in config["set"])
    method_of(config["method"], config["set"])
    usual = coefficients(config["method"]).get("beta")
    return float(told.get("beta", usual if isinstance(usual, float) else 0.1))
