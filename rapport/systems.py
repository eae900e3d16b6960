"""The table of systems: what the project sets out to make usable, and what of it works today.

A system is working when `rapport/reproduce/<key>.py` exists, in the domains which that file names; nobody types either.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_ROOMS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "A. The spine (embodied)": (
        ("rapl", "RAPL: preference-aligned visual representation, optimal-transport reward", "E1"),
        ("regret", "Models of human preference: regret vs partial return", "E2"),
        ("cpl", "Contrastive preference learning and the accidental-advantage effect", "E2.5-2.6"),
        ("basalt", "MineRL BASALT: four described tasks, agents from demonstrations and feedback, human ratings", "E3"),
        ("prefrl", "Preference-based RL with a reward ensemble (ours, the base of all below)", "E0, E6.2-6.3"),
        ("survey", "Survey of RLHF: checklist of feedback types, query strategies, training tricks, evaluation", "E6"),
        ("pebble", "PEBBLE, SURF, RUNE, Preference Transformer with B-Pref teachers (what one compares with)", "E7"),
    ),
    "B. People differ": (
        ("vpl", "VPL: latent user, variational", "E4"),
        ("maxmin", "MaxMin-RLHF: EM mixture of rewards, egalitarian policy", "E5"),
        ("more", "MORE: multi-objective reward, calibration", "D-B1"),
        ("dpa", "DPA: preference directions", "L"),
        ("meet", "MEET: parameter-efficient control tokens", "L"),
        ("lcpo", "LCPO: EM over label correctness, any base loss", "L"),
        ("crm", "CRM: two reward models review each other, curriculum", "D-B2"),
        ("hybrid", "Hybrid preferences: route each question to a person or an AI judge", "D-A3"),
        ("prism", "PRISM: participants, profiles, per-person feedback", "D-A5"),
        ("trilemma", "Alignment trilemma: representativeness, tractability, robustness", "D-B5"),
    ),
    "C. Safety": (
        ("hcrlhf", "HC-RLHF: pessimistic cost, high-confidence test", "D-C2"),
        ("saferlhfv", "Safe RLHF(-V): reward and cost, Lagrangian min-max, guardrail", "D-C1"),
    ),
    "D. Direct and listwise losses": (
        ("daa", "The direct alignment family (DPO, IPO, KTO, SimPO, ORPO, CPO, hinge, robust ...)", "L5"),
        ("pro", "PRO: rankings of any length", "L"),
        ("gapo", "GAPO: gap-aware weights (AnimeReward)", "D-D5, L"),
        ("rlhfv", "RLHF-V: dense segment-level DPO from corrections", "L"),
        ("cxr", "Chest X-ray study: five direct methods, judge-made pairs, length audit", "D-A12, L"),
        ("pedagogical", "Pedagogical alignment: scaffolded tutoring from preference pairs", "L"),
        ("entangle", "Gradient entanglement of margin losses", "L"),
        ("ddascale", "Over-optimisation laws of direct methods", "L"),
        ("onoff", "Online vs offline gap", "L"),
    ),
    "E. Online, game-theoretic and filtering algorithms": (
        ("p3o", "P3O: pairwise policy optimisation", "L"),
        ("nash", "Nash learning: Nash-MD, Nash-EMA", "L"),
        ("ipomd", "Online IPO, IPO-MD", "L"),
        ("egpo", "EGPO: extragradient", "L"),
        ("sppo", "SPPO: self-play", "L"),
        ("apo", "Accelerated preference optimisation (momentum)", "L"),
        ("raft", "RAFT: reward-ranked fine-tuning", "L"),
        ("superhf", "SuperHF: filtered supervised with KL prior", "L"),
        ("phf", "Pretraining with human preferences: five objectives", "L"),
        ("bai", "Balanced actor initialisation", "L"),
        ("ama", "Adaptive model averaging against the alignment tax", "L"),
        ("klcf", "Knowledge-level consistency: recall, precision, self-assessment rewards", "L"),
        ("ceiling", "Alignment ceiling: proxy, gold and downstream metrics", "D-B4"),
    ),
    "F. Diffusion and flow policies": (
        ("ddpo", "Diffusion-DPO", "D-D1"),
        ("videoalign", "VideoReward, Flow-DPO, Flow-RWR, Flow-NRG", "D-D2..D4"),
        ("animereward", "AnimeReward: multi-dimensional reward", "D-D5"),
        ("seppo", "SePPO: semi-policy", "D-D6"),
        ("distar", "Diff-Instruct*: one-step generator from rewards", "D-D7"),
        ("rlg", "RLG: guidance strength at deployment", "D-D8"),
    ),
    "G. Preference data and judges": (
        ("fifa", "FiFA: filter by margin, quality, diversity", "D-A1"),
        ("isa", "Efficient alignment by data sampling", "D-A2"),
        ("wimhf", "WIMHF: what preference data encode, by sparse autoencoder", "D-A4"),
        ("oasst", "OpenAssistant conversations", "D-A6"),
        ("pika", "PiKa: expert-level synthetic data", "D-A11"),
        ("cyclealign", "CycleAlign: black-box and white-box rankers", "D-A10"),
        ("selfalign", "SELF-ALIGN: principles, four stages", "D-A7"),
        ("salmon", "SALMON: principle-following reward model", "D-A8"),
        ("rlbff", "RLBFF: binary principles, entailment reward", "D-A9"),
    ),
}


@dataclass(frozen=True)
class System:
    """One row: the key that commands take, what it is, the room it stands in, where it runs, and its specification."""

    key: str
    title: str
    room: str
    domains: tuple[str, ...]
    """The domains in which `rapport reproduce KEY` runs it."""
    spec: str
    state: Literal["working", "planned"]


def domains_of(reproduction: Path) -> tuple[str, ...]:
    """The `DOMAINS` of a reproduction, () if there is no such file. Read, not imported: this table loads no torch."""
    if not reproduction.exists():
        return ()
    for statement in ast.parse(reproduction.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="DOMAINS")], value=value):
                return tuple(ast.literal_eval(value))
            case ast.AnnAssign(target=ast.Name(id="DOMAINS"), value=ast.expr() as value):
                return tuple(ast.literal_eval(value))
    raise ValueError(f"{reproduction} names no domain; give it a DOMAINS = (...) of plain strings")


def _system(key: str, title: str, room: str, spec: str) -> System:
    domains = domains_of(Path(__file__).with_name("reproduce") / f"{key}.py")
    return System(key, title, room, domains, spec, "working" if domains else "planned")


SYSTEMS: tuple[System, ...] = tuple(
    _system(key, title, room, spec) for room, rows in _ROOMS.items() for key, title, spec in rows
)
