"""Causal attention over the kept tokens of a prompt."""

from attention_backend.ops.attend.reference import attend_selected

__all__ = ["attend_selected"]
