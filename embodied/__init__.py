"""The preference core. Names are loaded when first used: records, episodes, store, contract and annotators
never load torch.

from embodied import Compare, RewardEnsemble, Store, logistic, pairwise, preference_loop, ranking
from embodied.best_of import best_of        # eight functions share the name of their file
from embodied.direct import direct
from embodied.explain import explain
from embodied.feedback import feedback
from embodied.fit import fit
from embodied.online import online
from embodied.policy_gradient import policy_gradient
from embodied.rational import rational
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "records": "Answer Choose Compare Grade Marks Query Rank Rate RecordError Segment Skip Stop Survey Value Written",
    "episodes": "Episode EpisodeError Episodes cut",
    "store": "Store StoreError",
    "contract": "Contract ContractError Joint Source",
    "checkpoint": "CheckpointError Stateful",
    "importers": "DataError",
    "human_labels": "TIE_RATE tie_threshold",
    "pairs": "read_pairs write_pairs",
    "annotators": "Crowd Reliability reliabilities",
    "plateau": "CannotTell Plateau fit_plateau",
    "feedback": "Budget Feedback Segments all_pairs by_kind spent stack",
    "scores": "Return Score Scorer Steps changed discounted_log_prob discounted_log_ratio every_step f_divergence "
    "log_odds log_prob log_ratio mean_log_prob mean_log_ratio with_length",
    "losses": "Loss LossError LossReport PairLoss as_loss biased bt_ties check_loss hinge logistic noise_contrastive "
    "pairwise plackett_luce pointwise pro_ranking saturating scaled square toward",
    "likelihoods": "Likelihoods choice ordinal stopped verdict",
    "label_models": "EM LabelModel as_given gap_weight smooth unbias",
    "fit": "FitReport Objective fit_all imitate judged plus ranking",
    "policy": "Anchored Policy",
    "methods": "Method apo_zero bco cdpo cpl cpl_kl cpo dense_dpo dpo em_preference f_dpo ipo kto length_dpo nca orpo "
    "pro rankings robust_dpo simpo slic sppo sppo_hard",
    "direct": "Direct MixedContexts",
    "remembered": "Remembered RememberedError weights_fingerprint",
    "reference": "Reference Rule average ema extrapolate fixed previous",
    "policy_gradient": "Advantage Surrogate clipped jointly_clipped pairwise_clipped reinforce",
    "advantages": "Critic GAE critic_loss group leave_one_out nash plain",
    "kl_terms": "forward_kl kl_term",
    "online": "Judge OnlineReport Prefer Sample best_only collect win_rate",
    "best_of": "best_of_kl best_of_law",
    "entangle": "Entanglement entanglement normalised",
    "planning": "Tables Values World optimal scaled_return",
    "regret": "LinearReward Regret candidates successor_features",
    "explain": "CannotJudge Verdict",
    "accident": "StepScores as_reward shifted",
    "evidence.options": "Chosen Options chosen",
    "evidence.acting": "Demonstrations Sighting demonstrated sighted",
    "evidence.signals": "Signals coach tamer",
    "evidence.interventions": "Watched watched",
    "evidence.pairs": "thurstone",
    "evidence.learning": "Evidence Learned Said",
    "rewards.advantage": "AdvantageEnsemble",
    "rewards.ensemble": "RewardEnsemble",
    "rewards.semi": "SemiSupervised Unlabelled",
    "rewards.conv": "PixelEnsemble",
    "rewards.transformer": "PreferenceTransformer",
    "rewards.additive": "Additive Features Posterior Prior Turn greedy_information",
    "criteria": "Criterion deviation expected_information per_second predictive_entropy removed_volume",
    "rapl": "Head Matching Rapl align negative_square sized",
    "videos": "VideoReward gains ranked",
    "video_rewards": "FrameNet VideoNet",
    "queries": "Select best disagreement entropy focused information_gain k_centre narrowed uniform volume_removal",
    "batches": "coverage dpp medoids",
    "costs": "skip_probability",
    "schedule": "Schedule shares",
    "generated": "Duels maximum_regret telling",
    "walks": "every_way",
    "teachers": "Flaws StepReward Teacher Thresholds Utility answer bpref noisy oracle threshold",
    "explore": "RunningStd state_entropy",
    "loop": "Agent RewardModel Round RoundReport preference_loop",
}
_FILE = {name: file for file, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_FILE)


def __getattr__(name: str) -> Any:
    if name not in _FILE:
        raise AttributeError(f"embodied has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"embodied.{_FILE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
