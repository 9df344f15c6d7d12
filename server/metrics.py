"""`winnow_*` on the same /metrics page as vLLM's own numbers.

Counted are engine requests that finished: a request with `n = 2` counts twice, as in vLLM's `request_success_total`.
The only labels are the served model's name and, for requests, the two modes.
"""

from dataclasses import dataclass
from functools import cache

from prometheus_client import REGISTRY, Counter, Histogram

from attention_backend import SparsityReport

RATIO_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class _Families:
    requests: Counter
    token_ratio: Histogram
    kv_ratio: Histogram
    freed_tokens: Counter
    freed_blocks: Counter
    feedback_dropped: Counter


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
        freed_blocks=Counter(
            "winnow_freed_blocks", "KV cache blocks that went back to the pool after prefill.", model,
            registry=REGISTRY,
        ),
        feedback_dropped=Counter(
            "winnow_feedback_dropped", "Pruning results that arrived after their request was gone or preempted.",
            model, registry=REGISTRY,
        ),
    )  # fmt: skip


class SparsityMetrics:
    """The numbers of one served model.

    Args:
        model_name: the name that vLLM's own metrics carry.
    """

    def __init__(self, model_name: str) -> None:
        families = _families()
        self._sparse = families.requests.labels(model_name, "sparse")
        self._dense = families.requests.labels(model_name, "dense")
        self._token_ratio = families.token_ratio.labels(model_name)
        self._kv_ratio = families.kv_ratio.labels(model_name)
        self._freed_tokens = families.freed_tokens.labels(model_name)
        self._freed_blocks = families.freed_blocks.labels(model_name)
        self._feedback_dropped = families.feedback_dropped.labels(model_name)

    def count_finished(self, report: SparsityReport) -> None:
        """Count one finished engine request."""
        if report.sparsity_p >= 1.0:
            self._dense.inc()
            return
        self._sparse.inc()
        self._token_ratio.observe(report.token_ratio)
        self._kv_ratio.observe(report.kv_ratio)
        num_layers = len(report.kept_tokens_per_layer)
        self._freed_tokens.inc(num_layers * report.num_prompt_tokens - sum(report.kept_tokens_per_layer))
        self._freed_blocks.inc(report.freed_blocks)

    def count_dropped_feedback(self, num_dropped: int) -> None:
        """Count pruning results that the scheduler had to drop."""
        self._feedback_dropped.inc(num_dropped)
