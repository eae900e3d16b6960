"""The survey's checklist: every item, and the test that shows it. What has no test is planned; nobody types either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_EVIDENCE = "tests/embodied/evidence/"
_CHOICES, _ACTING, _SIGNALS = (f"{_EVIDENCE}test_{name}.py::test_" for name in ("choices", "acting", "signals"))
_LIKELIHOODS = "tests/embodied/test_likelihoods.py::test_"
_TEACHERS = "tests/embodied/test_teachers.py::test_"
_QUERIES = "tests/embodied/test_queries.py::test_"
_CRITERIA, _BATCHES, _GENERATED, _COSTS = (
    f"tests/embodied/test_{name}.py::test_" for name in ("criteria", "batches", "generated", "costs")
)
_ENSEMBLE = "tests/embodied/rewards/test_ensemble.py::test_"
_TRAINING = "tests/rapport/train/test_training.py::test_"
_OFF_POLICY = "tests/policies/test_sb3_off_policy.py::test_"
_DESK = "tests/human_ui/test_desk.py::test_"
_HABITS = "tests/human_ui/test_overview.py::test_habits_are_seen"


@dataclass(frozen=True)
class Item:
    """`test`: path::name of what shows it, "" where it is planned."""

    section: str
    what: str
    test: str = ""

    @property
    def state(self) -> str:
        return "working" if self.test else "planned"


_SECTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "6.1 Types of feedback": (
        ("comparison, Bradley-Terry", _LIKELIHOODS + "every_kind_alone_tells_the_reward_up_to_scale"),
        ("comparison, Thurstone", _CHOICES + "thurstone_is_the_normal_distribution_and_a_sound_loss"),
        ("comparison with ties (Rao-Kupper)", _CHOICES + "ties_come_as_rao_and_kupper_say"),
        ("comparison with skips", "tests/embodied/test_feedback.py::test_a_log_of_skips_is_feedback_without_rows"),
        ("comparison graded by strength", _LIKELIHOODS + "thresholds_are_learned_back"),
        ("ranking of n", _LIKELIHOODS + "the_rational_person_answers_as_the_likelihood_says"),
        ("best of n", _LIKELIHOODS + "choices_and_stops_are_the_softmax_written_out"),
        ("rating in classes", _LIKELIHOODS + "levels_have_the_probabilities_of_the_logistic_between_thresholds"),
        ("good and bad stretches", _LIKELIHOODS + "a_verdict_of_good_is_the_logistic_of_the_utility"),
        (
            "+1 and -1 for steps, as a reward (TAMER)",
            _SIGNALS + "signals_have_the_mean_that_is_regressed_and_tamer_is_least_where_they_come_from",
        ),
        ("+1 and -1 for steps, as an advantage (COACH)", _SIGNALS + "coach_by_advantages_is_the_policy_gradient"),
        (
            "correction: fresh ways on after a stop",
            "tests/rapport/train/test_people_kinds.py::test_who_stops_a_clip_chooses_among_fresh_ways_on",
        ),
        (
            "correction with its size, within reach",
            _CHOICES + "a_correction_is_within_reach_and_costs_what_was_changed",
        ),
        (
            "demonstration against samples",
            _CHOICES + "a_demonstration_among_samples_is_told_apart_with_that_probability",
        ),
        ("demonstration, maximum entropy", _ACTING + "a_demonstration_has_probability_e_to_the_u_among_all_plans"),
        ("e-stop: the best moment of the whole", _LIKELIHOODS + "choices_and_stops_are_the_softmax_written_out"),
        ("intervention: against the last steps", _SIGNALS + "stops_are_hazards_of_the_last_steps_and_add_up"),
        ("state of the world", _ACTING + "the_world_afterwards_is_where_plans_lead_and_adds_up"),
        (
            "language: critique in a small vocabulary",
            _EVIDENCE + "test_language.py::test_a_critique_is_held_against_what_could_have_been_said",
        ),
        ("language: free text, kept", _LIKELIHOODS + "what_was_written_is_no_row"),
        (
            "language: instruction as a condition of the policy",
            _EVIDENCE + "test_language.py::test_an_instruction_is_followed_while_it_stands",
        ),
        (
            "language: answers of a model that judges",
            "tests/embodied/test_store.py::test_answers_of_every_kind_come_back_in_order",
        ),
        ("feature trace", _ACTING + "a_trace_is_normalised_and_falls_and_the_feature_is_learned"),
        ("feature query", _CHOICES + "statements_are_about_the_features_that_were_asked_about"),
        (
            "saliency: the feature that decided",
            _CHOICES + "reasons_are_about_what_differs_and_a_comparison_by_that_alone",
        ),
        (
            "proxy reward (inverse reward design)",
            _CHOICES + "a_proxy_is_worth_what_its_policy_earns_under_the_true_reward",
        ),
        ("implicit signals: gaze, reaction time, faces", ""),
        ("mixed, a rationality for each", _CHOICES + "each_evidence_has_a_rationality_of_its_own"),
    ),
    "6.2 Choice of questions": (
        ("uniform", _QUERIES + "different_candidates_repeatable_and_as_many_as_asked"),
        ("ensemble disagreement", _QUERIES + "scores_are_those_of_the_definitions"),
        ("predictive entropy", _QUERIES + "scores_are_those_of_the_definitions"),
        ("information gain (BALD)", _QUERIES + "a_coin_flip_for_everyone_teaches_nothing_and_a_quarrel_does"),
        ("volume removal", _CRITERIA + "removed_volume_is_the_mass_that_the_likelier_answer_leaves_at_most"),
        ("maximum regret between posterior samples", _GENERATED + "a_duels_regret_is_what_both_lose"),
        ("k-centre diversity", _QUERIES + "k_centre_is_farthest_first_from_what_was_asked_already"),
        ("disagreement or entropy, then k-centre", _QUERIES + "narrowed_covers_the_better_half_only"),
        ("coverage of trajectories", _BATCHES + "coverage_shows_at_least_its_share_of_the_most_there_is"),
        ("newest roll-outs, near the optimum", _BATCHES + "focus_keeps_to_the_newest_and_hybrid_takes_its_share_there"),
        ("generated questions", _GENERATED + "no_pair_of_ways_is_worth_more"),
        ("batches by determinantal point process", _BATCHES + "dpp_adds_what_makes_the_determinant_greatest"),
        ("batches by medoids", _BATCHES + "medoids_cost_little_more_than_the_best_of_all_batches"),
        ("cost: seconds and skips", _CRITERIA + "per_second_prefers_a_short_question_that_is_answered"),
        ("schedules: constant, decaying, growing", _COSTS + "schedules_are_the_formulas"),
    ),
    "6.3 Training of the reward": (
        (
            "ensemble, own start and shuffle",
            _ENSEMBLE + "members_are_independent_networks_and_the_product_over_them_is_their_own",
        ),
        (
            "normalised before use",
            _ENSEMBLE + "on_the_anchor_set_every_member_has_mean_zero_and_deviation_one_after_each_fit",
        ),
        ("bounded output", _ENSEMBLE + "bounded_rewards_stay_in_the_unit_interval"),
        (
            "label smoothing",
            "tests/embodied/test_label_models.py::test_smoothing_is_conservative_dpo_and_unbiasing_is_robust_dpo",
        ),
        ("weight decay tuned to the validation loss", ""),
        ("early stop at 97 % accuracy", ""),
        ("held-out share of comparisons", ""),
        (
            "pseudo-labels and crops (SURF)",
            "tests/embodied/rewards/test_semi.py::test_one_step_is_the_loss_written_with_plain_loops",
        ),
        ("few-shot pretraining", ""),
        (
            "data augmentation: crops in time",
            "tests/embodied/rewards/test_semi.py::"
            "test_a_crop_is_a_stretch_of_each_segment_as_much_shorter_for_all_of_a_row",
        ),
        (
            "rewards with a memory",
            "tests/embodied/rewards/test_transformer.py::"
            "test_it_learns_a_wish_with_a_memory_that_no_reward_of_one_step_can",
        ),
        (
            "weights for each annotator",
            "tests/embodied/test_label_models.py::"
            "test_a_reward_ranks_better_when_one_of_three_people_answers_at_random",
        ),
        ("latent users (VPL)", ""),
        ("mixtures of rewards (MaxMin)", ""),
        (
            "spread of the members, for optimism (RUNE)",
            _ENSEMBLE + "spread_is_the_deviation_of_the_normalised_members_and_grows_away_from_what_was_answered",
        ),
        ("pessimism: mean less k deviations", ""),
        (
            "potential shaping and identifiability",
            "tests/embodied/test_regret.py::test_a_constant_is_seen_by_regret_alone_and_a_potential_by_return_alone",
        ),
        ("canonical rewards and their distance (EPIC, DARD)", ""),
        ("people: Boltzmann and error rate", _TEACHERS + "preference_rates"),
        ("people: myopic", _TEACHERS + "the_myopic_one_likes_a_better_end_although_the_sum_is_lower"),
        (
            "people: skip and equal",
            _TEACHERS + "order_skip_then_equals_from_plain_sums_then_label_and_flip_then_the_ties",
        ),
        (
            "people: regret against partial return",
            "tests/embodied/test_regret.py::test_regret_learns_from_a_hundred_answers_what_return_does_not",
        ),
        ("people: prospect-like", ""),
        (
            "rationality of each annotator",
            "tests/embodied/test_annotators.py::"
            "test_planted_reliabilities_and_an_adversary_are_found_within_the_stated_error",
        ),
    ),
    "6.4 Learning of the policy": (
        ("on-policy (PPO)", "tests/policies/test_sb3.py::test_the_reward_sees_what_happened_and_is_what_ppo_trains_on"),
        ("off-policy, the whole replay relabelled (SAC)", _OFF_POLICY + "the_whole_replay_gets_the_rewards_of_today"),
        ("planning in a model", "tests/embodied/test_planning.py::test_values_agree_with_sweeps_of_value_iteration"),
        ("off-line (IQL)", "tests/policies/test_iql.py::test_it_beats_copying_and_comes_near_the_optimum"),
        ("direct (DPO and its kin)", "tests/embodied/test_methods.py::test_golden_numbers"),
        ("direct (CPL)", "tests/embodied/test_cpl.py::test_the_loss_is_that_of_the_paper"),
        (
            "exploration before there is a reward",
            "tests/embodied/test_explore.py::test_its_mean_estimates_the_entropy_of_the_uniform_density",
        ),
        ("a reference policy", "tests/embodied/test_direct.py::test_the_reference_is_asked_once_about_each_row"),
        ("no leak by early ends", _TRAINING + "different_lengths_and_an_inexact_environment_are_told"),
        ("answers round after round", _TRAINING + "the_budget_counts_what_was_asked"),
        ("reward hacking when frozen, gone with new answers", ""),
    ),
    "6.5 Evaluation": (
        (
            "true return of what was learned",
            "tests/rapport/test_evaluate.py::test_the_numbers_are_those_of_a_direct_rollout",
        ),
        ("human win rate with TrueSkill", ""),
        ("distance of rewards (EPIC)", ""),
        (
            "accuracy on new answers",
            "tests/rapport/train/test_people.py::test_accuracy_is_of_new_decided_answers_before_they_are_learned",
        ),
        ("accuracy by difficulty", ""),
        ("calibration of P", "tests/embodied/test_explain.py::test_calibration_of_known_cases"),
        ("curves of label efficiency", "tests/embodied/test_plateau.py::test_a_planted_curve_is_found_and_covered"),
        ("robustness to B-Pref's teachers", _TEACHERS + "every_preset_and_what_sets_it_apart_from_the_oracle"),
        (
            "stratified bootstrap of the interquartile mean",
            "tests/rapport/compare/test_statistics.py::test_intervals_cover_the_truth_about_as_often_as_they_say",
        ),
        ("agreement of annotators", _HABITS),
        ("seconds per answer", _HABITS),
    ),
    "6.6 People and the interface": (
        (
            "pairs from the same start",
            "tests/embodied/test_feedback.py::test_same_context_means_the_same_first_observation",
        ),
        ("speed control", ""),
        ("left and right drawn", _DESK + "an_answer_is_taken_once_and_means_the_querys_own_order"),
        ("attention checks by questions with a known answer", _DESK + "gold_comes_at_its_rate_and_to_everybody"),
        ("consent and quiz before labelling", "tests/human_ui/test_http.py::test_consent_and_a_quiz_come_first"),
        ("answers before anything was watched are seen", _HABITS),
        ("buttons for a tie and for can't tell", "tests/human_ui/test_page.py::test_a_person_compares_by_keys_alone"),
        (
            "free text as a reason",
            "tests/human_ui/test_kinds.py::test_a_questionnaire_with_the_goal_and_the_outcome_in_sight",
        ),
        ("undo", "tests/human_ui/test_page.py::test_undo_shows_the_question_again_and_the_new_answer_supersedes"),
        ("breaks", "tests/human_ui/test_kinds.py::test_undo_during_a_break_and_a_mark_that_is_still_held"),
        ("drift of annotators", ""),
        ("who may no longer take part", "tests/human_ui/test_mishaps.py::test_a_token_that_is_revoked"),
        ("interventions that make people follow a preference model", ""),
    ),
}

ITEMS: tuple[Item, ...] = tuple(Item(section, *row) for section, rows in _SECTIONS.items() for row in rows)


def lines() -> Iterator[str]:
    """Each item with its test, or the word planned."""
    for section in _SECTIONS:
        yield section
        yield from (f"  {item.what:58}  {item.test or 'planned'}" for item in ITEMS if item.section == section)
    working = sum(item.state == "working" for item in ITEMS)
    yield f"{working} of {len(ITEMS)} items of the survey have a test; the others are planned."


def table() -> Iterator[str]:
    """The same as Markdown, as `docs/survey.md` has it."""
    for section in _SECTIONS:
        yield from ("", f"### {section}", "", "| item | test |", "| --- | --- |")
        for item in ITEMS:
            if item.section == section:
                shown = item.test.removeprefix("tests/").replace("::", " ")
                yield f"| {item.what} | {f'`{shown}`' if shown else '*planned*'} |"
