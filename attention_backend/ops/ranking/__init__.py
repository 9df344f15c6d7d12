"""Scores that ignore attention, for benchmarks: what a selection must beat at an equal number of tokens."""

from attention_backend.ops.ranking.reference import baseline_score

__all__ = ["baseline_score"]
