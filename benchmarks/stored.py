"""Result files: reading them for the command line, and finding the newest of every case."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.errors import BenchmarkError
from benchmarks.registry import Case, case_of
from measurement.results import Result, read

# What `benchmarks.gpu.failure` puts behind the name of a case that did not come to its end.
FAILED = "-failed"
# The case of what `benchmarks.harnesses.collect` writes; `benchmarks.papers` shows it.
HARNESS = "harness"
Rendered = TypeVar("Rendered")


def read_result(path: Path) -> Result:
    """Read a result file.

    Raises:
        BenchmarkError: it cannot be read, or holds something else.
    """
    try:
        return read(path)
    except OSError as error:
        raise BenchmarkError(
            f"{path} cannot be read: {error.strerror}. Give a file that `python -m benchmarks run` wrote."
        ) from error
    except ValueError as error:
        raise BenchmarkError(str(error)) from error


def rendered(result: Result, render: Callable[[Case], Callable[[Result], Rendered]]) -> Rendered:
    """What the result's case makes of it.

    Args:
        result: to be shown.
        render: the function of the case, such as its `table`.

    Raises:
        BenchmarkError: no case knows such results, or the case finds other rows than it writes.
    """
    case = case_of(result)
    try:
        return render(case)(result)
    except (LookupError, TypeError, StopIteration) as error:
        raise BenchmarkError(
            f"a result of {result.case} holds other rows than this version writes ({type(error).__name__}: {error}). "
            "Measure again."
        ) from error


def newest(folder: Path) -> dict[str, Result]:
    """The newest result of every case and device in a folder, by `section_of`; stages that failed hide none.

    Raises:
        BenchmarkError: a file cannot be used.
    """
    results: dict[str, Result] = {}
    # File names end in the time.
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stem.rpartition("-")[2]):
        result = read_result(path)
        section = section_of(result)
        if section is not None:
            results[section] = result
    return results


def section_of(result: Result) -> str | None:
    """Name of the part of a report that shows a result: its case, with "-cuda" where the name does not say it.

    None for what has no such part: stages that failed, GPU cases without a GPU, and harnesses.
    """
    has_gpu = result.environment.get("gpu") is not None
    if result.case.endswith(FAILED) or result.case == HARNESS:
        return None
    if result.case.startswith("gpu_"):
        return result.case if has_gpu else None
    return f"{result.case}-cuda" if has_gpu else result.case
