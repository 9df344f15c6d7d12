"""Rewards by problem type: what an answer is worth, as functions that TRL calls.

`answers` reads an answer from a text, `text_similarity` compares texts, `scores` grades one answer of one problem type,
`functions` makes reward functions of it.
"""

from training.rewards.functions import accuracy_reward, format_reward
from training.rewards.scores import PROBLEM_TYPES, Grading, UnknownProblemType, score_answer

__all__ = ["PROBLEM_TYPES", "Grading", "UnknownProblemType", "accuracy_reward", "format_reward", "score_answer"]
