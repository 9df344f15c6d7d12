"""One layer's prefill of one prompt on CPU: the stages as the backend strings them together; vLLM's dense kernel."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from attention_backend.config import SparsityConfig
from attention_backend.ops.attend import attend_selected
from attention_backend.ops.compact import compact_slots, plan_removal
from attention_backend.ops.estimate import estimate_importance, probe_positions
from attention_backend.ops.select import forced_tokens, select_tokens
from benchmarks.cpu.models import BLOCK_SIZE
from benchmarks.errors import BenchmarkError

DENSE, DENSE_WRITE = "dense attention", "dense cache write"
STAGES = ("estimate", "select", "attend", "compact")
LAYER = 5
# Largest difference of outputs of order 1 that another order of float32 sums may make.
TOLERANCE = 1e-3


class Heads(NamedTuple):
    """Attention of one layer."""

    num_heads: int
    num_kv_heads: int
    head_size: int


class Prompt:
    """Random queries, keys and values of one prompt in float32, and a paged cache that holds them.

    Args:
        num_tokens: of the prompt.
        heads: of the layer.
        token_ratio: share of the tokens that the stages keep, whatever the random scores say.
    """

    def __init__(self, num_tokens: int, heads: Heads, token_ratio: float) -> None:
        generator = torch.Generator().manual_seed(num_tokens)
        self.num_tokens, self.heads, self.token_ratio = num_tokens, heads, token_ratio
        self.scale = heads.head_size**-0.5
        # [num_tokens, heads, head_size]
        self.query, self.key, self.value = (
            torch.randn(num_tokens, count, heads.head_size, generator=generator)
            for count in (heads.num_heads, heads.num_kv_heads, heads.num_kv_heads)
        )
        num_blocks = -(-num_tokens // BLOCK_SIZE)
        # Block 0 belongs to nobody. [num_blocks]
        self.block_row = 1 + torch.randperm(num_blocks, generator=generator).int()
        positions = torch.arange(num_tokens)
        self.slots = self.block_row[positions // BLOCK_SIZE].long() * BLOCK_SIZE + positions % BLOCK_SIZE
        # [num_blocks + 1, num_kv_heads, 2 * block_size, head_size]: keys, then values.
        self.cache = torch.zeros(num_blocks + 1, heads.num_kv_heads, 2 * BLOCK_SIZE, heads.head_size)
        self.write(self.key, self.value, self.slots)

    def dense(self) -> torch.Tensor:
        """vLLM's kernel over the paged cache, with its metadata; [num_tokens, num_heads, head_size]."""
        from vllm import _custom_ops as ops

        lengths = {
            "seq_lens": torch.tensor([self.num_tokens], dtype=torch.int32),
            "query_start_loc": torch.tensor([0, self.num_tokens], dtype=torch.int32),
        }
        metadata = ops.cpu_attn_get_scheduler_metadata(
            num_reqs=1,
            num_heads=self.heads.num_heads,
            num_kv_heads=self.heads.num_kv_heads,
            head_dim=self.heads.head_size,
            dtype=self.query.dtype,
            causal=True,
            sliding_window_size=-1,
            isa=self._isa(),
            enable_kv_split=True,
            **lengths,
        )
        key_cache, value_cache = self.cache.chunk(2, dim=2)
        output = torch.empty_like(self.query)
        ops.cpu_attention_with_kv_cache(
            query=self.query,
            key_cache=key_cache,
            value_cache=value_cache,
            output=output,
            scale=self.scale,
            causal=True,
            alibi_slopes=None,
            sliding_window=-1,
            block_table=self.block_row[None],
            softcap=0.0,
            scheduler_metadata=metadata,
            s_aux=None,
            **lengths,
        )
        return output

    def write(self, key: torch.Tensor, value: torch.Tensor, slots: torch.Tensor) -> None:
        """vLLM's cache write.

        Args:
            key, value: [n, num_kv_heads, head_size].
            slots: [n], int64.
        """
        from vllm import _custom_ops as ops

        ops.cpu_attn_reshape_and_cache(key, value, *self.cache.chunk(2, dim=2), slots, self._isa())

    def _isa(self) -> str:
        """The instruction set that vLLM takes on this machine."""
        from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

        return _get_attn_isa(self.query.dtype, BLOCK_SIZE, self.heads.head_size)

    def estimate(self) -> torch.Tensor:
        """Mass and score, [2, num_tokens]."""
        probes = probe_positions(self.num_tokens, LAYER, SparsityConfig())
        return torch.stack(estimate_importance(self.query[probes], self.key, probes, self.scale))

    def select(self, importance: torch.Tensor) -> torch.Tensor:
        """Positions that stay, [k], int64."""
        forced = forced_tokens(self.num_tokens, SparsityConfig())
        return select_tokens(*importance, 0.5, forced, self.token_ratio)

    def attend(self, kept: torch.Tensor) -> torch.Tensor:
        """[num_tokens, num_heads, head_size]; rows that were not selected are 0."""
        return attend_selected(self.query, self.key, self.value, kept, self.num_tokens, self.scale, "zipvl")

    def compact(self, kept: torch.Tensor) -> None:
        """Kept keys and values into the first slots of the prompt's blocks."""
        removal = plan_removal(self.num_tokens, kept.numel(), BLOCK_SIZE)
        slots = compact_slots(self.block_row, removal, kept.numel(), BLOCK_SIZE)
        self.write(self.key[kept], self.value[kept], slots)

    def check(self) -> None:
        """Attention among all tokens must be what vLLM's kernel computes.

        Raises:
            BenchmarkError: it is not.
        """
        error = (self.attend(torch.arange(self.num_tokens)) - self.dense()).abs().max().item()
        if not error <= TOLERANCE:
            raise BenchmarkError(
                f"attend differs from vLLM's dense attention by {error:.1e} at {self.num_tokens} tokens, but may by "
                f"{TOLERANCE:g}. Times of wrong results are worth nothing; mend it first."
            )

    def stages(self) -> dict[str, Callable[[], Any]]:
        """What is timed, by name, on inputs that the stages before made; dense attention first."""
        importance = self.estimate()
        kept = self.select(importance)
        return {
            DENSE: self.dense,
            DENSE_WRITE: lambda: self.write(self.key, self.value, self.slots),
            "estimate": self.estimate,
            "select": lambda: self.select(importance),
            "attend": lambda: self.attend(kept),
            "compact": lambda: self.compact(kept),
        }


def times_ms(stages: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every stage, in turns after a first one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, stage in stages.items():
                start = time.perf_counter()
                stage()
                if turn:
                    times[name].append(1000 * (time.perf_counter() - start))
    return times
