"""Bytes and operations that a model of given dimensions cannot avoid: the bounds printed beside measured figures."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
_BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The decoder of a Qwen2.5-VL in bf16.

    Attributes follow the model's `config.json`; `head_size` is `hidden_size / num_heads`.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int

    @classmethod
    def read(cls, model: str) -> "Dimensions":
        """The dimensions of `benchmarks/models/<model>`."""
        text = json.loads((MODELS / model / "config.json").read_text(encoding="utf-8"))["text_config"]
        return cls(
            num_layers=text["num_hidden_layers"],
            hidden_size=text["hidden_size"],
            intermediate_size=text["intermediate_size"],
            num_heads=text["num_attention_heads"],
            num_kv_heads=text["num_key_value_heads"],
            vocab_size=text["vocab_size"],
        )

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def layer_parameters(self) -> int:
        """Weights, biases and norms of one layer."""
        hidden, kv_size = self.hidden_size, self.num_kv_heads * self.head_size
        qkv = (hidden + 1) * (hidden + 2 * kv_size)
        return qkv + hidden * hidden + 3 * hidden * self.intermediate_size + 2 * hidden

    @property
    def weight_bytes(self) -> int:
        """Read once by a decode step: all layers, the last norm and the output projection, but no embedding table."""
        head = self.vocab_size * self.hidden_size + self.hidden_size
        return _BF16_BYTES * (self.num_layers * self.layer_parameters + head)

    @property
    def kv_bytes_per_token(self) -> int:
        return _BF16_BYTES * 2 * self.num_layers * self.num_kv_heads * self.head_size

    def prefill_flops(self, num_tokens: int, token_ratio: float = 1.0) -> float:
        """Operations of one prompt: matrix products of all tokens, causal attention among the kept ones."""
        kept = math.ceil(token_ratio * num_tokens)
        attention = 2 * kept * kept * self.num_heads * self.head_size
        return self.num_layers * (2 * num_tokens * self.layer_parameters + attention)
