"""The smallest set of prompt tokens that carries a share of the attention mass."""

from attention_backend.ops.select.reference import forced_tokens, select_tokens

__all__ = ["forced_tokens", "select_tokens"]
