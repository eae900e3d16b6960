"""Rows in the columns of public sets, as their cards describe them; every word in them was made up for these tests."""

from __future__ import annotations

from typing import Any

HELPSTEER2 = [
    {
        "prompt": "Name a colour.",
        "response": "Blue.",
        "helpfulness": 3,
        "correctness": 4,
        "coherence": 4,
        "complexity": 1,
        "verbosity": 0,
    },
    {
        "prompt": "Name a colour.",
        "response": "A colour is a thing one sees.",
        "helpfulness": 1,
        "correctness": 2,
        "coherence": 3,
        "complexity": 1,
        "verbosity": 2,
    },
    {
        "prompt": "Hello\n<extra_id_1>Assistant\nHello. What is it?\n<extra_id_1>User\nA colour.",
        "response": "Red.",
        "helpfulness": 4,
        "correctness": 4,
        "coherence": 4,
        "complexity": 0,
        "verbosity": 1,
    },
]
HELPSTEER2_PREFERENCES = [
    {
        "split": "train",
        "prompt": "Name a colour.",
        "response_1": "Blue.",
        "response_2": "No.",
        "preference_strength": strength,
        "preference_statement": "Response 1 names one.",
        "preference_elaboration": "The other does not.",
        "three_most_similar_preferences": [{"strength": strength, "statement": "", "elaboration": ""}],
        "all_preferences_unprocessed": [{"strength": strength, "statement": "", "elaboration": ""}],
    }
    for strength in (-3, 0, 1)
]
HELPSTEER3 = [
    {
        "domain": "general",
        "language": "english",
        "context": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Name a colour."},
        ],
        "response1": "Blue.",
        "response2": "Red, which is a colour.",
        "overall_preference": 2,
        "individual_preference": [{"score": 2, "reasoning": "it says more", "feedback1": "", "feedback2": ""}],
    }
]
_PART = {"model": "m", "principle": "honesty", "custom_system_prompt": "", "critique": "", "fine-grained_score": 3.5}
ULTRAFEEDBACK = [
    {
        "source": "made_up",
        "instruction": "Name a colour.",
        "models": ["m"] * 4,
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
        "completions": [
            {
                **_PART,
                "response": response,
                "annotations": {
                    "helpfulness": {"Type": ["1"], "Rating": str(rating), "Rationale": "", "Rationale For Rating": ""},
                    "honesty": {"Rating": str(rating), "Rationale": ""},
                    "instruction_following": {"Rating": str(6 - rating), "Rationale": ""},
                    "truthfulness": {"Type": ["None"], "Rating": "N/A" if rating == 1 else str(rating)},
                },
                "overall_score": overall,
            }
            for response, rating, overall in [("Blue.", 5, 8.5), ("Red?", 4, 7.0), ("No.", 1, 2.0), ("Why?", 2, 7.0)]
        ],
    }
]
_TURNS = [{"role": "user", "content": "Name a colour."}]
ULTRAFEEDBACK_BINARIZED = [
    {
        "prompt": "Name a colour.",
        "prompt_id": "0a",
        "chosen": [*_TURNS, {"role": "assistant", "content": "Blue."}],
        "rejected": [*_TURNS, {"role": "assistant", "content": rejected}],
        "messages": [*_TURNS, {"role": "assistant", "content": "Blue."}],
        "score_chosen": 8.5,
        "score_rejected": score,
    }
    for rejected, score in [("No.", 7.0), ("Why?", 9.0)]
]
HH = [
    {
        "chosen": "\n\nHuman: Hello\n\nAssistant: Yes?\n\nHuman: Name a colour.\n\nAssistant: Blue.",
        "rejected": "\n\nHuman: Hello\n\nAssistant: Yes?\n\nHuman: Name a colour.\n\nAssistant: No.",
    },
    {
        "chosen": "\n\nHuman: Why?\n\nAssistant: Because.\n\nHuman: Oh\n\nAssistant: Yes.",
        "rejected": "\n\nHuman: Why?\n\nAssistant: Who knows.\n\nHuman: What\n\nAssistant: No.",
    },
]


def _node(id: str, text: str, role: str, rank: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "message_id": id,
        "parent_id": None,
        "user_id": f"user-{id}",
        "text": text,
        "role": role,
        "lang": "en",
        "review_count": 3,
        "review_result": True,
        "deleted": False,
        "rank": rank,
        "synthetic": False,
        **more,
    }


OASST_TREES = [
    {
        "message_tree_id": "p",
        "tree_state": "ready_for_export",
        "prompt": _node(
            "p",
            "Name a colour.",
            "prompter",
            replies=[
                _node("a", "No.", "assistant", 1.0, replies=[]),
                _node(
                    "b",
                    "Blue.",
                    "assistant",
                    0.0,
                    replies=[
                        _node(
                            "q",
                            "Another?",
                            "prompter",
                            0.0,
                            replies=[
                                _node("e", "Red.", "assistant", 0.0),
                                _node("f", "Blue.", "assistant", 2.0),
                                _node("g", "Blue again.", "assistant", 1.0),
                            ],
                        )
                    ],
                ),
                _node("c", "rude", "assistant", 2.0, deleted=True),
                _node("d", "spam", "assistant", 3.0, review_result=False),
                _node("h", "never ranked", "assistant", None),
            ],
        ),
    }
]


def _flat(node: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    own = {key: value for key, value in node.items() if key != "replies"} | {"parent_id": parent}
    return [own, *(row for reply in node.get("replies", []) for row in _flat(reply, node["message_id"]))]


OASST_MESSAGES = [{**row, "message_tree_id": "p", "tree_state": "x"} for row in _flat(OASST_TREES[0]["prompt"])]  # type: ignore[arg-type]
SHP = [
    {
        "post_id": "1",
        "domain": "askpainting_train",
        "history": "Which colour goes with blue?",
        "human_ref_A": "Another blue.",
        "human_ref_B": "Grey.",
        "labels": label,
        "score_A": 3,
        "score_B": 12,
        "score_ratio": 4.0,
        "seconds_difference": 60.0,
    }
    for label in (0, 1)
]
PKU = [
    {
        "prompt": "How does one open a lock?",
        "response_0": "With a hammer, at night.",
        "response_1": "With its key.",
        "prompt_source": "made_up",
        "is_response_0_safe": False,
        "is_response_1_safe": True,
        "response_0_harm_category": {"Economic Crime": True},
        "response_0_severity_level": 1,
        "better_response_id": 0,
        "safer_response_id": 1,
    }
]
NECTAR = [
    {
        "prompt": "\n\nHuman: Name a colour.\n\nAssistant: ",
        "answers": [
            {"answer": "No.", "model": "m", "rank": 3.0},
            {"answer": "Blue.", "model": "n", "rank": 1.0},
            {"answer": "Bluish.", "model": "o", "rank": 2.0},
        ],
        "turns": 1,
        "num_responses": 3,
        "source": ["made_up"],
        "good_natured": True,
    }
]
