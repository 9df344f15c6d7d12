"""The CUDA device: is there one, and how fast does it copy? `python -m benchmarks.gpu.device` answers the first."""

import sys
from statistics import median

import torch

from benchmarks.errors import NoCudaDevice

_COPY_BYTES = 4 << 30
_NUM_COPIES = 20


def require_cuda() -> None:
    """Raises:
    NoCudaDevice: torch sees no CUDA device.
    """
    if not torch.cuda.is_available():
        raise NoCudaDevice("There is no CUDA device, but this benchmark measures one. Run it on a machine with a GPU.")


def copy_bandwidth() -> float:
    """Bytes per second of a large device-to-device copy, bytes read plus bytes written; the median of many."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    times_ms = []
    for _ in range(_NUM_COPIES + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        times_ms.append(start.elapsed_time(end))
    del source, target
    torch.cuda.empty_cache()
    return 2 * _COPY_BYTES / (median(times_ms[3:]) / 1000)


def main() -> None:
    """Name the device, or end with the exit status of `NoCudaDevice`."""
    try:
        require_cuda()
    except NoCudaDevice as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    print(torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
