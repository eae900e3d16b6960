"""A verdict as plain sentences, and as lines of a table."""

from __future__ import annotations

from collections.abc import Sequence

from embodied.explain import MARGIN, Held, Lead, Verdict

HEADER = ("model", "nats per answer", "lead over a coin", "lead of the first", "calibration error")
TRAINED = ("return", "regret", "cpl")  # what `rapport train --preference` takes


def advice(verdict: Verdict) -> str:
    """What explains the answers, if it can be told, and what to train with."""
    best = next(held.model for held in verdict.models if held.model in TRAINED)
    if verdict.named == "coin":
        return (
            f"No model predicts these {verdict.answers} answers better than tossing a coin: they are given at random, "
            "or too few, or follow something else; ask more before anything is trained on them."
        )
    if verdict.named is None:
        names = [name for name in verdict.open if name != verdict.models[0].model]
        rivals = " and ".join([verdict.models[0].model, *names] if names else [verdict.models[0].model, "a coin"])
        about = f"about {_round(verdict.needed):,}" if verdict.needed else "far more"
        return (
            f"Cannot tell from these answers: {rivals} predict them about as well, and {about} answers would be "
            f"needed; until then --preference {best} is the best guess."
        )
    top = verdict.models[0]
    if top.model == "mixture":
        return (
            f"A mixture of return and regret explains these answers best, {top.over_coin.mean:.2f} nats each better "
            f"than a coin, and clearly better than either; train with --preference {best}, the nearer of both."
        )
    beside = "" if top.model == "cpl" else f" (a mixture is surely better by less than {MARGIN})"
    what = {"return": "Partial return", "regret": "Regret", "cpl": "A policy of their own (CPL)"}[top.model]
    return (
        f"{what} explains these answers best, {top.over_coin.mean:.2f} nats each better than a coin{beside}; train "
        f"with --preference {top.model}."
    )


def _round(n: int) -> int:
    """Two digits: no more is known of it."""
    unit = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit


def cells(held: Held, first: bool, coin: bool) -> Sequence[str]:
    behind = "" if first else f"{_interval(held.behind)}{' *' if held.settled and not coin else ''}"
    return held.model, f"{held.nats:.3f}", _interval(held.over_coin), behind, f"{held.error:.3f}"


def _interval(lead: Lead) -> str:
    return f"{lead.mean:.3f} [{lead.low:.3f}, {lead.high:.3f}]"


def rows(verdict: Verdict) -> list[Sequence[str]]:
    return [cells(held, i == 0, verdict.named == "coin") for i, held in enumerate(verdict.models)]


def lines(name: str, verdict: Verdict) -> list[str]:
    table = [HEADER, *rows(verdict)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADER))]
    drawn = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return [f"{name}: {count(verdict)}", *("  " + line for line in drawn), "  " + advice(verdict)]


def count(verdict: Verdict) -> str:
    return f"{verdict.answers} answers to {verdict.questions} questions, {verdict.ties} of them ties"
