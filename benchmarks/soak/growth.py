"""Whether memory is level: its slope over a soak, once the server is warm."""

from collections.abc import Sequence
from itertools import combinations
from statistics import median

# The KV cache, allocators and caches of vLLM fill in the first part of a soak.
WARM_SHARE = 1 / 3
# With fewer looks, one of them decides.
MIN_LOOKS = 6
MAX_MIB_PER_1000 = 2.0


def mib_per_1000(levels_mib: Sequence[float], num_per_leg: int) -> float | None:
    """Growth in 1,000 requests: the median of the slopes between all pairs of looks (Theil and Sen).

    A single step of the allocator moves it little, a leak of a few kB for each request much.

    Args:
        levels_mib: memory after each leg.
        num_per_leg: requests of a leg.

    Returns:
        None where there are too few looks to say.
    """
    warm = list(enumerate(levels_mib))[round(len(levels_mib) * WARM_SHARE) :]
    if len(warm) < MIN_LOOKS:
        return None
    slopes = [(later - earlier) / (j - i) for (i, earlier), (j, later) in combinations(warm, 2)]
    return 1000 * median(slopes) / num_per_leg
