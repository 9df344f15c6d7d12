"""The benchmark cases by name."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Protocol

from measurement.results import Result


class Case(Protocol):
    """What a module under `cases/` offers."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the case's options."""

    def run(self, args: argparse.Namespace) -> Result:
        """Measure."""

    def table(self, result: Result) -> str:
        """The result as a Markdown table."""


RESULTS_DIR = Path(__file__).parent / "results"

CASES = ("accuracy", "step_overhead", "gpu_kernels", "gpu_smoke", "gpu_engine", "gpu_prefill", "gpu_capacity")


def load(name: str) -> Case:
    """The module of a case; imported only when asked for, because some import vLLM."""
    return import_module(f"benchmarks.cases.{name}")
