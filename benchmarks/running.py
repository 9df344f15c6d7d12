"""Running cases: one with its own options, or the short set with one progress bar."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.errors import BenchmarkError, NoCudaDevice
from benchmarks.parser import OneLineParser
from benchmarks.readme import has_section, replace_section
from benchmarks.registry import CASES, DEVICES, RESULTS_DIR, Case, info, load, module_name
from measurement.results import write

README = Path(__file__).parents[1] / "README.md"
# Apart from the stored results: a short run must not take the place of a whole one in documents.
SHORT_DIR = Path("runs/bench")


def run(argv: Sequence[str]) -> None:
    """`run CASE [options]` or `run --short [options]`.

    Raises:
        BenchmarkError: bad input, or a case could not measure.
    """
    # Unless the environment says otherwise: vLLM's notes would tear the progress bars.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if argv and not argv[0].startswith("-"):
        run_case(argv[0], argv[1:])
    else:
        run_short_set(argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all cases share."""
    parser.add_argument("--out", type=Path, help=f"folder of the JSON file ({shown(RESULTS_DIR)}; short: {SHORT_DIR})")
    parser.add_argument("--device", choices=("auto", *DEVICES), default="auto", help="auto takes cuda where it is")
    parser.add_argument("--short", action="store_true", help="smaller settings; without a case, of all that have them")
    parser.add_argument("--update-readme", action="store_true", help="put the table between its markers in README.md")


def run_case(name: str, argv: Sequence[str]) -> None:
    """Run one case, print its table and write its result.

    Raises:
        BenchmarkError: bad input, or the case could not measure; then nothing is written.
    """
    device = _asked_device(name, argv)
    module = module_name(name, device)
    case = load(module)
    args = parse(name, case, argv)
    args.device = device
    if args.update_readme and (args.short or not has_section(README, module)):
        raise BenchmarkError(f"--update-readme is set, but {README.name} shows no such run of {name}. Leave it out.")
    result = case.run(args)
    table = case.table(result)
    print(table)
    print(f"\nWrote {write(result, args.out)}")
    if args.update_readme:
        replace_section(README, result.case, table)
        print(f"Updated the section '{result.case}' of {README.name}")


def _asked_device(name: str, argv: Sequence[str]) -> str:
    """The device of a run, before the case's own options are known: they depend on it."""
    modules = info(name).modules
    parser = OneLineParser(prog=_program(name), add_help=False)
    add_arguments(parser)
    asked = parser.parse_known_args(argv)[0].device
    if {"-h", "--help"} & {*argv}:
        return next(iter(modules)) if asked == "auto" else asked
    if asked != "auto":
        module_name(name, asked)
    return device_for(asked, modules)


def device_for(asked: str, modules: Mapping[str, str]) -> str:
    """The device that a case runs on here.

    Args:
        asked: "auto", or one of `DEVICES`.
        modules: of the case, by device.

    Raises:
        NoCudaDevice: a GPU is needed, and there is none.
        BenchmarkError: a CPU is asked for where vLLM would take the GPU.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    if asked == "cpu" and has_cuda:
        raise BenchmarkError(
            "--device is cpu, but torch sees a CUDA device, and vLLM takes what its build is for. "
            "Leave --device out, or run where vLLM's CPU build is installed."
        )
    if not has_cuda and (asked == "cuda" or "cpu" not in modules):
        raise NoCudaDevice("There is no CUDA device, but this benchmark measures one. Run it on a machine with a GPU.")
    return "cuda" if has_cuda else "cpu"


def parse(name: str, case: Case, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one case: its own, and those that all share.

    Raises:
        BenchmarkError: an argument is unknown or wrong, or --short is set and the case has no short form.
    """
    parser = OneLineParser(prog=_program(name), description=f"{info(name).summary}; beside: {info(name).baseline}")
    add_arguments(parser)
    case.add_arguments(parser)
    if "--short" in argv:
        if not hasattr(case, "SHORT"):
            raise BenchmarkError(f"--short is set, but {name} has no short form here. Leave it out.")
        parser.set_defaults(**case.SHORT)
    args = parser.parse_args(argv)
    args.case = name
    args.out = args.out or (SHORT_DIR if args.short else RESULTS_DIR)
    return args


def _program(name: str) -> str:
    return f"python -m benchmarks run {name}"


def run_short_set(argv: Sequence[str]) -> None:
    """Run all cases that have a short form, one after the other; one that cannot measure does not stop the others.

    Raises:
        BenchmarkError: bad input, or a case could not measure.
    """
    choices = f"CASE is one of {', '.join(CASES)}. `run CASE --help` shows the options of a case."
    parser = OneLineParser(prog="python -m benchmarks run", usage="%(prog)s CASE|--short [options]", epilog=choices)
    add_arguments(parser)
    args = parser.parse_args(argv)
    if not args.short:
        raise BenchmarkError(f"run got no case, but needs one of {', '.join(CASES)}, or --short. Name it first.")
    if args.update_readme:
        raise BenchmarkError("--update-readme is set, but documents show whole runs only. Leave it or --short out.")
    out, failed = args.out or SHORT_DIR, []
    with tqdm(short_set(args.device), unit="case") as progress:
        for name, module in progress:
            progress.set_description(name)
            try:
                _run_short(name, module, out)
            except BenchmarkError as error:
                failed.append(name)
                tqdm.write(f"{name}: {error}", file=sys.stderr)
    command = f"{shown(Path(sys.executable))} -m benchmarks report --results {out}"
    print(f"\nTo see it with its figures, run\n\n    {command}\n\nand open {out / 'report.html'}.")
    if failed:
        raise BenchmarkError(f"{len(failed)} of the short set could not measure: {', '.join(failed)}. See above.")


def short_set(asked_device: str) -> list[tuple[str, str]]:
    """Name and module of every case with a short form on this device."""
    device = device_for(asked_device, dict.fromkeys(DEVICES, ""))
    modules = [(name, case.modules[device]) for name, case in CASES.items() if device in case.modules]
    return [(name, module) for name, module in modules if _may_have_short_form(module)]


def _may_have_short_form(module: str) -> bool:
    """Whether a module has one, or why it cannot be loaded is still to be said."""
    try:
        return hasattr(load(module), "SHORT")
    except BenchmarkError:
        return True


def _run_short(name: str, module: str, out: Path) -> None:
    case = load(module)
    args = parse(name, case, ["--short"])
    args.device = device_for("auto", info(name).modules)
    result = case.run(args)
    tqdm.write(f"\n## {result.case}\n\n{case.table(result)}\n\nWrote {write(result, out)}\n")


def shown(path: Path) -> str:
    """A path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
