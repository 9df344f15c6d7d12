"""Put the newest GPU results into docs/performance.md: `python -m benchmarks.report [--results DIR] [--print]`."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from benchmarks.gpu.targets import NOT_MEASURED, targets_table
from benchmarks.readme import replace_section
from benchmarks.registry import CASES, RESULTS_DIR, load
from measurement.results import Result, read

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
TARGETS = "targets"
SMALL_MODEL = "gpu_engine-qwen2_5_vl_3b"
# Section of the document, and the case that knows its table.
SECTIONS = {case: case for case in CASES if case.startswith("gpu_")} | {SMALL_MODEL: "gpu_engine"}


def newest(folder: Path) -> dict[str, Result]:
    """The newest result of every case that ran on a GPU, by case."""
    results: dict[str, Result] = {}
    # File names end in the time.
    for path in sorted(folder.glob("gpu_*.json"), key=lambda path: path.stem.rpartition("-")[2]):
        result = read(path)
        if result.environment["gpu"] is not None:
            results[result.case] = result
    return results


def sections(results: Mapping[str, Result]) -> dict[str, str]:
    """The content of every generated section of the document."""
    found = {TARGETS: targets_table(results)}
    if failed := sum(not row["passed"] for row in results["gpu_kernels"].summary) if "gpu_kernels" in results else 0:
        found[TARGETS] += f"\n\n**{failed} checks of kernel correctness failed: these times are of wrong results.**"
    for section, case in SECTIONS.items():
        result = results.get(section)
        content = f"{load(case).table(result)}\n\n{measured_on(result)}" if result else f"{NOT_MEASURED.capitalize()}."
        found[section] = content
    return found


def measured_on(result: Result) -> str:
    """One line on machine, versions and commit."""
    environment = result.environment
    versions = ", ".join(f"{name} {environment[name]}" for name in ("torch", "triton", "vllm") if name in environment)
    bandwidth = environment.get("copy_bandwidth")
    copies = f" A device-to-device copy moves {bandwidth / 1e12:.2f} TB/s, read and written." if bandwidth else ""
    return f"{environment['gpu']}, driver {environment['driver']}; {versions}; commit {environment['commit']}.{copies}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS_DIR, help="folder of JSON files (default: %(default)s)")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="(default: %(default)s)")
    parser.add_argument("--print", action="store_true", help="print the targets instead of writing the document")
    args = parser.parse_args()
    content = sections(newest(args.results))
    if args.print:
        print(content[TARGETS])
        return
    for section, text in content.items():
        replace_section(args.document, section, text)
    print(f"Updated {len(content)} sections of {args.document}")


if __name__ == "__main__":
    main()
