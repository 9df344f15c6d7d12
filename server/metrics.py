"""`winnow_*` on the same /metrics page as vLLM's own numbers.

Counted are engine requests that finished: a request with `n = 2` counts twice, as in vLLM's `request_success_total`.
The only labels are the served model's name and, for requests, the two modes.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from attention_backend import SparsityReport

RATIO_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class _Families:
    requests: Counter
    token_ratio: Histogram
    kv_ratio: Histogram
    freed_tokens: Counter
    prompt_blocks: Counter
    freed_blocks: Counter
    freed_block_seconds: Counter
    feedback_dropped: Counter
    cache_blocks: Gauge
    cache_dense_tokens: Gauge


@cache
def _families() -> _Families:
    """Declared once in a process, in the registry that vLLM's /metrics shows."""
    model = ["model_name"]
    return _Families(
        requests=Counter(
            "winnow_requests", "Finished engine requests, by mode (sparse or dense).", [*model, "mode"],
            registry=REGISTRY,
        ),
        token_ratio=Histogram(
            "winnow_token_ratio", "Share of prompt tokens that took part in attention, per sparse request.", model,
            buckets=RATIO_BUCKETS, registry=REGISTRY,
        ),
        kv_ratio=Histogram(
            "winnow_kv_ratio", "Share of the dense prompt's KV cache that was kept, per sparse request.", model,
            buckets=RATIO_BUCKETS, registry=REGISTRY,
        ),
        freed_tokens=Counter(
            "winnow_freed_tokens", "Prompt tokens whose keys and values were dropped, summed over layers.", model,
            registry=REGISTRY,
        ),
        prompt_blocks=Counter(
            "winnow_prompt_blocks", "KV cache blocks that the prompts of sparse requests would hold without pruning.",
            model, registry=REGISTRY,
        ),
        freed_blocks=Counter(
            "winnow_freed_blocks", "KV cache blocks that went back to the pool after prefill.", model,
            registry=REGISTRY,
        ),
        freed_block_seconds=Counter(
            "winnow_freed_block_seconds", "Freed KV cache blocks times the seconds from a request's first token to its "
            "last: the rate is the number of blocks that pruning saves at a time.", model, registry=REGISTRY,
        ),
        feedback_dropped=Counter(
            "winnow_feedback_dropped", "Pruning results that arrived after their request was gone or preempted.",
            model, registry=REGISTRY,
        ),
        cache_blocks=Gauge(
            "winnow_kv_cache_blocks", "KV cache blocks of the server, all layers together.", model, registry=REGISTRY
        ),
        cache_dense_tokens=Gauge(
            "winnow_kv_cache_dense_tokens", "Tokens that fit into the KV cache when nothing is pruned.", model,
            registry=REGISTRY,
        ),
    )  # fmt: skip


class SparsityMetrics:
    """The numbers of one served model.

    Args:
        model_name: the name that vLLM's own metrics carry.
        num_cache_blocks: of the whole KV cache, with one block table for each layer.
        num_layers: that have keys and values.
        block_size: tokens in a block.
    """

    def __init__(self, model_name: str, num_cache_blocks: int, num_layers: int, block_size: int) -> None:
        self._block_size = block_size
        families = _families()
        self._sparse = families.requests.labels(model_name, "sparse")
        self._dense = families.requests.labels(model_name, "dense")
        self._token_ratio = families.token_ratio.labels(model_name)
        self._kv_ratio = families.kv_ratio.labels(model_name)
        self._freed_tokens = families.freed_tokens.labels(model_name)
        self._prompt_blocks = families.prompt_blocks.labels(model_name)
        self._freed_blocks = families.freed_blocks.labels(model_name)
        self._freed_block_seconds = families.freed_block_seconds.labels(model_name)
        self._feedback_dropped = families.feedback_dropped.labels(model_name)
        families.cache_blocks.labels(model_name).set(num_cache_blocks)
        families.cache_dense_tokens.labels(model_name).set(num_cache_blocks // num_layers * block_size)

    def count_finished(self, report: SparsityReport, decode_s: float) -> None:
        """Count one finished engine request.

        Args:
            report: what pruning did to it.
            decode_s: seconds from its first token to its last.
        """
        if report.sparsity_p >= 1.0:
            self._dense.inc()
            return
        self._sparse.inc()
        self._token_ratio.observe(report.token_ratio)
        self._kv_ratio.observe(report.kv_ratio)
        num_layers = len(report.kept_tokens_per_layer)
        self._freed_tokens.inc(num_layers * report.num_prompt_tokens - sum(report.kept_tokens_per_layer))
        self._prompt_blocks.inc(num_layers * ceil(report.num_prompt_tokens / self._block_size))
        self._freed_blocks.inc(report.freed_blocks)
        self._freed_block_seconds.inc(report.freed_blocks * decode_s)

    def count_dropped_feedback(self, num_dropped: int) -> None:
        """Count pruning results that the scheduler had to drop."""
        self._feedback_dropped.inc(num_dropped)
