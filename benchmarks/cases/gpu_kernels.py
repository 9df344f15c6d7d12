"""Every kernel on the GPU against its torch reference, at the dimensions that are served."""

import argparse
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.device import require_cuda
from benchmarks.gpu.dimensions import MODELS, Dimensions
from benchmarks.gpu.kernel_checks import Check, check_attend, check_compact, check_estimate, check_select
from benchmarks.gpu.prompts import PrefillStep, prefill_step
from benchmarks.gpu.tables import error_line
from benchmarks.gpu.virtualise_check import check_virtualise
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ragged: no length is a multiple of the others' tiles, and one prompt is all probes.
LENGTHS = (32768, 4097, 1000, 77)
SPARSITY_P = (0.9, 0.975, 0.5, 0.6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    models = sorted(path.name for path in MODELS.iterdir())
    parser.add_argument("--models", nargs="+", default=models, choices=models, help="dimensions (default: %(default)s)")


def run(args: argparse.Namespace) -> Result:
    """Run all checks; one that raises counts as failed, with its message."""
    require_cuda()
    device = torch.device("cuda")
    summary: list[dict[str, Any]] = []
    for model in args.models:
        dims = Dimensions.read(model)
        step = prefill_step(LENGTHS, SPARSITY_P, dims.num_heads, dims.num_kv_heads, dims.head_size, device)
        for name, check in checks(step, dims.num_layers, device):
            summary += [{"model": model, **row} for row in outcome(name, check)]
    return Result(
        case="gpu_kernels",
        arguments={"models": args.models, "lengths": LENGTHS, "sparsity_p": SPARSITY_P},
        environment=describe(),
        units={
            "error": "relative error in the 2-norm, or number of wrong entries",
            "tolerance": "largest allowed error",
        },
        summary=summary,
        samples=[],
    )


def checks(
    step: PrefillStep, num_layers: int, device: torch.device
) -> Iterator[tuple[str, Callable[[], Iterator[Check]]]]:
    """All checks by the kernel they are about."""
    # Masses fall steeply, scores do not follow them: as in a model, unlike random queries and keys.
    generator = torch.Generator(device).manual_seed(1)
    importance = torch.rand(2, len(step.query), generator=generator, device=device)
    importance[0] **= 8
    yield "estimate", partial(check_estimate, step)
    yield "select", partial(check_select, step, importance, None)
    yield "select fixed", partial(check_select, step, importance, 0.25)
    yield "attend zipvl", partial(check_attend, step, importance, "zipvl")
    yield "attend keys", partial(check_attend, step, importance, "keys")
    yield "compact", partial(check_compact, step, importance)
    yield "virtualise", partial(check_virtualise, num_layers, 64, 2048, device)


def outcome(name: str, check: Callable[[], Iterator[Check]]) -> list[dict[str, Any]]:
    """Rows of one kernel's checks."""
    rows = []
    try:
        for found in check():
            rows.append({**found._asdict(), "passed": found.passed})
    # The next kernel is checked all the same.
    except Exception as error:
        traceback.print_exc()
        rows.append({"what": name, "passed": False, "error": f"{type(error).__name__}: {error}"})
    return rows


def table(result: Result) -> str:
    """A row per check."""
    rows = [
        [row["model"], row["what"], _cell(row["error"]), _cell(row.get("tolerance", "-")), _passed(row["passed"])]
        for row in result.summary
    ]
    return markdown_table(["dimensions", "check", "error", "tolerance", "result"], rows)


def _cell(value: float | str) -> str:
    return error_line(value) if isinstance(value, str) else f"{value:.3g}"


def _passed(passed: bool) -> str:
    return "pass" if passed else "**FAIL**"


def figures(result: Result) -> "dict[str, Figure]":
    """Nothing to draw."""
    return {}
