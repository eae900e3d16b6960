"""The types of feedback in the terms of the survey (Kaufmann et al. 2023, arXiv 2312.14925), a row for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FeedbackType:
    """granularity: what it is about; arity: of how many such; intent: to judge, to teach, to describe, or neither
    (literal); explicit: it was meant as feedback; noise: how it is believed to go wrong; record: what holds it."""

    key: str
    granularity: Literal["step", "segment", "episode", "feature", "state", "reward"]
    involvement: Literal["observed", "generated", "co-generated"]
    arity: Literal["1", "2", "n"]
    abstraction: Literal["instance", "feature"]
    intent: Literal["evaluative", "instructive", "descriptive", "literal"]
    explicit: bool
    noise: str
    record: str


TYPES: tuple[FeedbackType, ...] = (
    FeedbackType(
        "compare", "segment", "observed", "2", "instance", "evaluative", True, "Bradley-Terry", "values.Compare"
    ),
    FeedbackType("tie", "segment", "observed", "2", "instance", "evaluative", True, "Rao-Kupper", "values.Compare"),
    FeedbackType(
        "thurstone", "segment", "observed", "2", "instance", "evaluative", True, "normal (probit)", "values.Compare"
    ),
    FeedbackType("grade", "segment", "observed", "2", "instance", "evaluative", True, "ordinal logit", "values.Grade"),
    FeedbackType("rank", "segment", "observed", "n", "instance", "evaluative", True, "Plackett-Luce", "values.Rank"),
    FeedbackType("choose", "segment", "observed", "n", "instance", "evaluative", True, "Boltzmann", "values.Choose"),
    FeedbackType("rate", "segment", "observed", "1", "instance", "evaluative", True, "ordinal logit", "values.Rate"),
    FeedbackType("mark", "step", "observed", "1", "instance", "evaluative", True, "logistic", "values.Marks"),
    FeedbackType(
        "stop", "episode", "observed", "1", "instance", "evaluative", True, "Boltzmann over moments", "values.Stop"
    ),
    FeedbackType("survey", "segment", "observed", "2", "instance", "evaluative", True, "as compare", "values.Survey"),
    FeedbackType(
        "tamer", "step", "observed", "1", "instance", "evaluative", True, "a coin of that mean, late", "signals.Signals"
    ),
    FeedbackType(
        "coach", "step", "observed", "1", "instance", "evaluative", True, "a coin of that mean, late", "signals.Signals"
    ),
    FeedbackType(
        "intervention",
        "episode",
        "co-generated",
        "1",
        "instance",
        "evaluative",
        True,
        "logistic hazard",
        "interventions.Watched",
    ),
    FeedbackType(
        "correction",
        "episode",
        "co-generated",
        "1",
        "instance",
        "instructive",
        True,
        "Boltzmann within reach",
        "options.Chosen",
    ),
    FeedbackType(
        "demonstration",
        "episode",
        "generated",
        "1",
        "instance",
        "instructive",
        True,
        "maximum entropy",
        "acting.Demonstrations",
    ),
    FeedbackType(
        "samples", "episode", "generated", "n", "instance", "instructive", True, "Boltzmann", "options.Chosen"
    ),
    FeedbackType(
        "state", "state", "generated", "1", "instance", "literal", False, "maximum entropy", "acting.Sighting"
    ),
    FeedbackType("critique", "feature", "observed", "1", "feature", "instructive", True, "Boltzmann", "values.Written"),
    FeedbackType(
        "feature query", "feature", "observed", "2", "feature", "descriptive", True, "Boltzmann", "options.Chosen"
    ),
    FeedbackType("reason", "feature", "observed", "2", "feature", "descriptive", True, "Boltzmann", "options.Chosen"),
    FeedbackType(
        "trace",
        "feature",
        "generated",
        "1",
        "feature",
        "descriptive",
        True,
        "Boltzmann at each step",
        "acting.Demonstrations",
    ),
    FeedbackType(
        "proxy", "reward", "generated", "1", "feature", "literal", True, "Boltzmann over proxies", "options.Chosen"
    ),
)
