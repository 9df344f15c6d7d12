"""Time on the device by kernel, from torch's profiler."""

import re
from collections.abc import Callable, Mapping

import torch

# The first match counts: vLLM's cache write is named after FlashAttention's layout.
GROUPS = {
    "cache_write": re.compile(r"reshape_and_cache|concat_and_cache"),
    "attention": re.compile(r"flash|fmha|attn|attention", re.IGNORECASE),
}
NUM_LISTED = 20


def group_of(kernel: str) -> str:
    """ "attention", "cache_write" or "other"."""
    return next((group for group, pattern in GROUPS.items() if pattern.search(kernel)), "other")


def group_times_ms(kernel_ms: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds by group; every group is there."""
    times = dict.fromkeys([*GROUPS, "other"], 0.0)
    for kernel, time_ms in kernel_ms.items():
        times[group_of(kernel)] += time_ms
    return times


def longest(kernel_ms: Mapping[str, float]) -> dict[str, float]:
    """The kernels that took longest, names cut to a readable length."""
    ranked = sorted(kernel_ms.items(), key=lambda item: -item[1])[:NUM_LISTED]
    return {kernel[:160]: round(time_ms, 4) for kernel, time_ms in ranked}


def profile(work: Callable[[], None], num_runs: int) -> dict[str, float] | None:
    """Milliseconds of every kernel in one run of `work`, averaged; None without a GPU.

    Args:
        work: launches kernels; they may still run when it returns.
        num_runs: how often it is called.
    """
    if not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(num_runs):
            work()
        torch.cuda.synchronize()
    times: dict[str, float] = {}
    for event in profiler.key_averages():
        if event.self_device_time_total > 0:
            times[event.key] = times.get(event.key, 0.0) + event.self_device_time_total / 1000 / num_runs
    return times
