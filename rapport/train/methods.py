"""The methods that users know, as values: settings of the one loop, or a reward network handed to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Reward = Literal["ensemble", "transformer", "true"]
Preference = Literal["return", "regret", "cpl"]
Choice = Literal[
    "uniform",
    "disagreement",
    "entropy",
    "information",
    "k-centre",
    "disagreement+k-centre",
    "entropy+k-centre",
    "information+dpp",
    "information+medoids",
]


@dataclass(frozen=True)
class Semi:
    """SURF's settings (arXiv 2203.10050): sureness, weight and number of pseudo-labels; crop: the share of a clip, at
    most, that is cut off at random (of the paper's 50 steps, 5)."""

    tau: float = 0.95
    weight: float = 1.0
    ratio: int = 1
    crop: float = 0.1


@dataclass(frozen=True)
class Method:
    """How answers become a reward and a reward becomes behaviour.

    explore: share of the environment steps spent on new states before the first question (0: on random actions).
    relabel: every remembered step gets the rewards of today. new_critic: with the first reward, new critics, and then
    this many updates on the replay. bonus: of the ensemble's spread at step 0, which shrinks by `bonus_decay` a step.
    preference: what people are taken to compare: sums of rewards; how far each clip falls short of what could have been
    done, with an advantage for a reward (`AdvantageEnsemble`); or (cpl) how likely the policy is to do each, and then
    there is no reward at all.
    """

    name: str
    reward: Reward = "ensemble"
    select: Choice = "uniform"
    explore: float = 0.0
    relabel: bool = True
    new_critic: int = 0
    bonus: float = 0.0
    bonus_decay: float = 1e-5
    semi: Semi | None = None
    preference: Preference = "return"

    def __post_init__(self) -> None:
        if not (0 <= self.explore < 1 and self.new_critic >= 0 and self.bonus >= 0 and 0 <= self.bonus_decay < 1):
            raise ValueError(
                f"explore {self.explore}, new_critic {self.new_critic}, bonus {self.bonus}, bonus_decay "
                f"{self.bonus_decay}; give shares in [0,1), and nothing below 0"
            )
        if self.reward == "transformer" and (self.bonus or self.semi):
            raise ValueError(
                f"bonus {self.bonus} and semi {self.semi} with the transformer's reward, which offers neither a spread "
                "of steps nor crops; leave them out, or take the ensemble"
            )
        if self.preference == "regret" and self.reward != "ensemble":
            raise ValueError(
                f"the preference is regret and the reward {self.reward}: an advantage is of single steps; take a "
                "method with the ensemble (pebble, surf, rune, ensemble)"
            )
        if self.preference == "cpl" and (self.select != "uniform" or self.explore or self.reward != "ensemble"):
            raise ValueError(
                f"the preference is cpl, which has no reward and one policy: questions are drawn evenly and nothing "
                f"is explored first; select is {self.select}, explore {self.explore}, reward {self.reward}: take "
                "contrast()"
            )


def ensemble() -> Method:
    """Christiano et al. (2017) with an off-policy agent: uniform questions, and remembered steps keep their rewards."""
    return Method("ensemble", relabel=False)


def pebble(select: Choice = "disagreement", explore: float = 0.1) -> Method:
    """PEBBLE (arXiv 2106.05091): explore without reward first, relabel the replay, new critics for the first reward."""
    return Method("pebble", select=select, explore=explore, new_critic=100)


def surf(select: Choice = "disagreement", explore: float = 0.1, semi: Semi = Semi()) -> Method:
    """SURF (arXiv 2203.10050): PEBBLE whose reward also learns from what it is sure about, on cropped segments."""
    return Method("surf", select=select, explore=explore, new_critic=100, semi=semi)


def rune(select: Choice = "disagreement", explore: float = 0.1, bonus: float = 0.05) -> Method:
    """RUNE (arXiv 2205.12401): PEBBLE with a bonus where the members of the reward disagree, which fades."""
    return Method("rune", select=select, explore=explore, new_critic=100, bonus=bonus)


def transformer(select: Choice = "uniform", explore: float = 0.1) -> Method:
    """Preference Transformer's reward (arXiv 2303.00957), which sees the steps before, in PEBBLE's loop."""
    return Method("transformer", reward="transformer", select=select, explore=explore, new_critic=100)


def by_regret(method: Method) -> Method:
    """The method with people taken to compare regret (Knox et al. 2022, arXiv 2206.02231): docs/regret.md."""
    return replace(method, name=f"{method.name}-regret", preference="regret")


def contrast() -> Method:
    """Contrastive preference learning (arXiv 2310.13639): the policy straight from answers, no reward and no RL."""
    return Method("cpl", preference="cpl")


def true_reward() -> Method:
    """No question at all: the environment's own reward, the ceiling that others are held against."""
    return Method("true", reward="true")


METHODS: Mapping[str, Callable[[], Method]] = MappingProxyType(
    {
        "ensemble": ensemble,
        "pebble": pebble,
        "surf": surf,
        "rune": rune,
        "transformer": transformer,
        "true": true_reward,
    }
)
"""What the command line calls them."""
