"""The benchmark cases by name. Knowing them imports none of them, because most import vLLM."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.errors import BenchmarkError
from measurement.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS_DIR = Path(__file__).parent / "results"
DEVICES = ("cpu", "cuda")


class Case(Protocol):
    """What a module under `cases/` offers."""

    # Arguments of `run --short` by name, in place of the defaults; a case without them is not in the short set.
    SHORT: Mapping[str, Any]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the case's options."""

    def run(self, args: argparse.Namespace) -> Result:
        """Measure.

        Raises:
            BenchmarkError: bad input, or what the case depends on is not right.
        """

    def table(self, result: Result) -> str:
        """The result as a Markdown table."""

    def figures(self, result: Result) -> "dict[str, Figure]":
        """Figures by name; empty where there is nothing to draw."""


@dataclass(frozen=True, slots=True)
class CaseInfo:
    """What is known of a case before it is loaded.

    Attributes:
        summary: what it measures.
        baseline: what stands beside ours in the same run.
        modules: device -> module under `benchmarks/cases`. A result carries the name of its module as its case,
            followed by "-" and a suffix where one module makes several tables.
    """

    summary: str
    baseline: str
    modules: Mapping[str, str]


CASES: dict[str, CaseInfo] = {
    "quality": CaseInfo(
        "accuracy and token ratio over sparsity_p through HTTP, by question type",
        "sparsity_p = 1; random and recent tokens at the same ratio",
        {"cpu": "quality", "cuda": "quality"},
    ),
    "capacity": CaseInfo(
        "running requests, throughput, preemptions and KV bytes at a fixed size of the KV cache",
        "stock vLLM",
        {"cpu": "capacity", "cuda": "gpu_capacity"},
    ),
    "decode": CaseInfo(
        "time per output token against context, at fixed batch and with a full KV cache",
        "stock vLLM",
        {"cpu": "decode", "cuda": "gpu_engine"},
    ),
    "prefill": CaseInfo("time of a prefill by stage", "dense attention", {"cpu": "prefill", "cuda": "gpu_prefill"}),
    "step_overhead": CaseInfo(
        "scheduler and its metadata per step, over layers x requests",
        "vLLM's AsyncScheduler with one table for all layers",
        {"cpu": "step_overhead", "cuda": "step_overhead"},
    ),
    "serve": CaseInfo(
        "load through HTTP: TTFT, TPOT, ITL, goodput, and the Pareto curve of throughput and latency",
        "sparsity_p = 1 and stock vLLM's server",
        {"cpu": "serve", "cuda": "serve"},
    ),
    "soak": CaseInfo(
        "mixed requests in thousands: blocks, memory, answers and statuses, with preemptions and clients that leave",
        "each greedy request alone",
        {"cpu": "soak"},
    ),
    "kernels": CaseInfo("correctness of every kernel", "torch references in float32", {"cuda": "gpu_kernels"}),
    "smoke": CaseInfo("the demo model generates, by engine variant", "stock vLLM", {"cuda": "gpu_smoke"}),
}


def info(name: str) -> CaseInfo:
    """What is known of a case.

    Raises:
        BenchmarkError: there is no case of this name.
    """
    if name not in CASES:
        raise BenchmarkError(f"case is {name!r}, but must be one of {', '.join(CASES)}. Choose one of these.")
    return CASES[name]


def module_name(name: str, device: str) -> str:
    """The module under `benchmarks/cases` that measures a case on a device.

    Raises:
        BenchmarkError: there is no such case, or not for this device.
    """
    modules = info(name).modules
    if device not in modules:
        raise BenchmarkError(f"--device is {device}, but {name} runs on {', '.join(modules)} only. Leave --device out.")
    return modules[device]


def load(module: str) -> Case:
    """A module under `benchmarks/cases`; imported only when asked for, because most import vLLM.

    Raises:
        BenchmarkError: the module, or a package that it needs, is not installed.
    """
    try:
        return import_module(f"benchmarks.cases.{module}")
    except ModuleNotFoundError as error:
        raise BenchmarkError(
            f"benchmarks.cases.{module} needs {error.name}, which is not installed. "
            "Install the project with an extra of the platform and the extra `benchmarks`."
        ) from error


def case_of(result: Result) -> Case:
    """The module that knows a result's table and figures.

    Raises:
        BenchmarkError: no module writes results of this case.
    """
    module = result.case.partition("-")[0]
    known = {module for case in CASES.values() for module in case.modules.values()}
    if module not in known:
        raise BenchmarkError(
            f"case of the result is {result.case!r}, but must begin with one of {', '.join(sorted(known))}."
        )
    return load(module)
