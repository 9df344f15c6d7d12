"""What one request asks for (`sparsity_p`) and what it is told afterwards (`SparsityReport`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attention_backend.errors import InvalidSparsityP

# Key in `SamplingParams.extra_args`; absent or 1 means dense.
SPARSITY_P = "sparsity_p"

# Key in `SamplingParams.extra_args`; true asks for `SparsityReport.kept_mask`.
RETURN_KEPT = "winnow_return_kept"

# Key in `RequestOutput.kv_transfer_params` of a request's last output.
REPORT = "winnow"


def check_sparsity_p(value: Any, *, minimum: float = 0.0, maximum: float = 1.0) -> float:
    """Validate the share of attention mass that a request wants to keep.

    Args:
        value: what the request holds.
        minimum: smallest allowed value; 0 stands for "greater than 0".
        maximum: largest allowed value, at most 1.

    Returns:
        The value as a float in (0, 1] and in [minimum, maximum].

    Raises:
        InvalidSparsityP: it is not a number or outside these bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSparsityP(
            f"sparsity_p is {value!r}, but must be a number in (0, 1]. Send a number such as 0.975, or 1 for dense."
        )
    # Also false for NaN; and no conversion to float, which whole numbers beyond its range do not survive.
    if not 0 < value <= 1:
        raise InvalidSparsityP(
            f"sparsity_p is {value}, but must be greater than 0 and at most 1. "
            "Send a number such as 0.975, or 1 for dense."
        )
    if not minimum <= value <= maximum:
        raise InvalidSparsityP(
            f"sparsity_p is {value}, but this server allows {minimum} to {maximum}. "
            "Send a number in that range, or leave it out."
        )
    return float(value)


def sparsity_p_of(sampling_params: Any | None) -> float:
    """The checked `sparsity_p` of vLLM sampling parameters; 1.0 where none is set.

    Raises:
        InvalidSparsityP: the parameters hold a value that no server would have let through.
    """
    extra_args = getattr(sampling_params, "extra_args", None)
    value = extra_args.get(SPARSITY_P) if extra_args else None
    return 1.0 if value is None else check_sparsity_p(value)


def returns_kept(sampling_params: Any | None) -> bool:
    """Whether vLLM sampling parameters ask for the kept mask."""
    extra_args = getattr(sampling_params, "extra_args", None)
    return bool(extra_args and extra_args.get(RETURN_KEPT))


def pack_mask(kept: np.ndarray) -> bytes:
    """A kept mask of any shape as bits, in C order; `unpack_mask` is the way back."""
    return np.packbits(kept).tobytes()


def unpack_mask(packed: bytes, num_layers: int, num_prompt_tokens: int) -> np.ndarray:
    """The mask of `SparsityReport.kept_mask`, [num_layers, num_prompt_tokens], bool."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=num_layers * num_prompt_tokens)
    return bits.reshape(num_layers, num_prompt_tokens).astype(bool)


@dataclass(frozen=True, slots=True)
class SparsityReport:
    """What pruning did to one sequence.

    Attributes:
        sparsity_p: share of the attention mass that was asked for.
        selection: the selection mode of the engine.
        token_ratio: (|m_Q| + |m_K|) / (2 L), averaged over layers; 1 when dense (ZipR1's "ratio").
        kv_ratio: KV blocks kept for the prompt / KV blocks of the dense prompt, block rounding included.
        kept_tokens_per_layer: prompt tokens whose keys and values stay, by layer.
        num_prompt_tokens: L.
        freed_blocks: KV blocks that went back to the pool after prefill, summed over layers.
        feedback_dropped: pruning results the engine had to drop since the last report, over all requests
            (the request was gone or preempted before they arrived).
        kept_mask: the kept prompt tokens by layer as bits, for `unpack_mask`; None unless asked for (`RETURN_KEPT`).
        ranking: what the engine ranks tokens by; anything but "attention" is a baseline of benchmarks.
    """

    sparsity_p: float
    selection: str
    token_ratio: float
    kv_ratio: float
    kept_tokens_per_layer: list[int]
    num_prompt_tokens: int
    freed_blocks: int
    feedback_dropped: int = 0
    kept_mask: bytes | None = None
    ranking: str = "attention"

    def unpacked_mask(self) -> np.ndarray:
        """The kept prompt tokens by layer, [num_layers, num_prompt_tokens], bool."""
        return unpack_mask(self.kept_mask, len(self.kept_tokens_per_layer), self.num_prompt_tokens)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "SparsityReport":
        return cls(**fields)


def token_ratio(kept_tokens_per_layer: list[int], num_prompt_tokens: int, selection: str) -> float:
    """(|m_Q| + |m_K|) / (2 L), averaged over layers (ZipR1 section 3.2, normalised to [0, 1]).

    Args:
        kept_tokens_per_layer: |m_K| by layer.
        num_prompt_tokens: L.
        selection: "zipvl" and "fixed" have m_Q = m_K; "keys" computes all L queries.
    """
    key_ratio = sum(kept_tokens_per_layer) / (len(kept_tokens_per_layer) * num_prompt_tokens)
    return token_ratio_of_keys(key_ratio, selection)


def token_ratio_of_keys(key_ratio: Any, selection: str) -> Any:
    """(|m_Q| + |m_K|) / (2 L) from |m_K| / L, a number or a tensor of them."""
    return (1.0 + key_ratio) / 2.0 if selection == "keys" else key_ratio
