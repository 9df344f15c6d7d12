"""Importance of prompt tokens from the attention of probe queries."""

from attention_backend.ops.estimate.reference import Importance, estimate_importance, probe_positions

__all__ = ["Importance", "estimate_importance", "probe_positions"]
