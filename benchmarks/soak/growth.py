"""Whether memory is level: its slope over a soak, once the server is warm, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

# The KV cache, allocators and caches of vLLM fill in the first part of a soak.
WARM_SHARE = 1 / 3
# With fewer looks, one of them decides.
MIN_LOOKS = 6
# Of the normal distribution, for 95 % in the middle.
Z_95 = 1.96
MAX_MIB_PER_1000 = 2.0
# Memory that sways more than this says nothing: a leak of 20 kB for each request could hide in it.
MAX_UNSURE_MIB_PER_1000 = 20.0


@dataclass(frozen=True, slots=True)
class Growth:
    """MiB in 1,000 requests.

    Attributes:
        slope: the most likely.
        low, high: between them it lies with 95 % confidence.
    """

    slope: float
    low: float
    high: float


def growth_of(levels_mib: Sequence[float], num_per_leg: int) -> Growth | None:
    """The median of the slopes between all pairs of looks (Theil, 1950), with the interval of Sen (1968, section 4).

    A single step of the allocator moves it little, a leak of a few kB for each request much.

    Args:
        levels_mib: memory after each leg.
        num_per_leg: requests of a leg.

    Returns:
        None where there are too few looks to say.
    """
    warm = list(enumerate(levels_mib))[round(len(levels_mib) * WARM_SHARE) :]
    num_looks = len(warm)
    if num_looks < MIN_LOOKS:
        return None
    slopes = sorted((later - earlier) / (j - i) for (i, earlier), (j, later) in combinations(warm, 2))
    reach = Z_95 * math.sqrt(num_looks * (num_looks - 1) * (2 * num_looks + 5) / 18)
    low = max(round((len(slopes) - reach) / 2) - 1, 0)
    high = min(round((len(slopes) + reach) / 2), len(slopes) - 1)
    scale = 1000 / num_per_leg
    return Growth(median(slopes) * scale, slopes[low] * scale, slopes[high] * scale)
