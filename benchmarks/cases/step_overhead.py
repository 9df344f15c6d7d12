"""What one scheduler step costs with a KV cache group per layer, against vLLM's own scheduler with one group.

Real scheduler objects, no model: the model's output is made up, so nothing but `schedule()` and
`update_from_output()` of steady decoding is timed. All variants run in one process, in turns.
"""

import argparse
from itertools import product
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.errors import BenchmarkError
from benchmarks.measure import spread
from benchmarks.plots import heat_map
from measurement.environment import describe
from measurement.results import Result
from measurement.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINE = "vLLM AsyncScheduler, 1 group"
OURS = ("TopPScheduler, dense requests", "TopPScheduler, sparse requests")
# The point of the table: layers of a 7B, and as many requests as a server of one GPU has.
SHOWN = (28, 64)
SHORT = {"num_layers": [28], "num_requests": [16, 64], "steps": 64, "rounds": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this case's options."""
    for name, default, what in (
        ("--num-layers", [4, 28, 48], "KV cache groups"),
        ("--num-requests", [1, 16, 64, 128], "running requests"),
    ):
        parser.add_argument(name, type=int, nargs="+", default=default, help=f"{what} (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=512, help="of the shortest prompt (default: %(default)s)")
    parser.add_argument("--block-size", type=int, default=16, help="tokens in a KV block (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=128, help="timed steps of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant (default: %(default)s)")


def run(args: argparse.Namespace) -> Result:
    """Time all variants at every number of layers and requests."""
    _check(args)
    from benchmarks.schedulers import VARIANTS, time_variants

    summary, samples = [], []
    points = list(product(args.num_layers, args.num_requests))
    with tqdm(total=len(points) * args.rounds * len(VARIANTS), desc="scheduler", unit="round", leave=None) as progress:
        for num_layers, num_requests in points:
            point = argparse.Namespace(**{**vars(args), "num_layers": num_layers, "num_requests": num_requests})
            times_ms = time_variants(point, progress.update)
            where = {"num_layers": num_layers, "num_requests": num_requests}
            summary += [where | row for row in summarise(times_ms)]
            samples += [
                where | {"variant": name, "times": [round(t, 4) for t in times]} for name, times in times_ms.items()
            ]
    keys = ("num_layers", "num_requests", "prompt_tokens", "block_size", "steps", "rounds")
    return Result(
        case="step_overhead",
        arguments={key: getattr(args, key) for key in keys},
        environment=describe(),
        units={"median": "ms", "p20": "ms", "p80": "ms", "ratio": f"median / median of {BASELINE}", "times": "ms"},
        summary=summary,
        samples=samples,
    )


def _check(args: argparse.Namespace) -> None:
    """Raises:
    BenchmarkError: an option breaks a rule.
    """
    for name in ("num_layers", "num_requests", "prompt_tokens", "block_size", "steps", "rounds"):
        value = getattr(args, name)
        if min(value if isinstance(value, list) else [value]) < 1:
            option = f"--{name.replace('_', '-')}"
            raise BenchmarkError(f"{option} is {value}, but must be at least 1. Raise it.")


def summarise(times_ms: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row per variant, with its ratio to the baseline."""
    baseline = spread(times_ms[BASELINE]).median
    return [
        {"variant": name, **spread(times)._asdict(), "ratio": spread(times).median / baseline}
        for name, times in times_ms.items()
    ]


def table(result: Result) -> str:
    """Times as multiples of vLLM's own median: machines differ, ratios of one run travel. The JSON has milliseconds."""
    points = list(dict.fromkeys((row["num_layers"], row["num_requests"]) for row in result.summary))
    shown = SHOWN if SHOWN in points else points[-1]
    rows = [row for row in result.summary if (row["num_layers"], row["num_requests"]) == shown]
    baseline = next(row["median"] for row in rows if row["variant"] == BASELINE)
    main = markdown_table(
        ["scheduler", "median", "p20", "p80"],
        [[row["variant"], *(f"{row[key] / baseline:.2f}" for key in ("median", "p20", "p80"))] for row in rows],
    )
    return main if points == [shown] else f"{main}\n\n{_grid_table(result)}"


def _grid_table(result: Result) -> str:
    """The ratios of our variants at every point, folded away."""
    rows = [
        [name, str(num_layers), *(f"{ratio:.2f}" for ratio in ratios)]
        for name in OURS
        for num_layers, ratios in zip(*_ratios(result, name), strict=True)
    ]
    header = ["scheduler", "layers", *(f"{count} requests" for count in _counts(result, "num_requests"))]
    grid = markdown_table(header, rows)
    return f"<details><summary>Medians over layers and requests</summary>\n\n{grid}\n\n</details>"


def _ratios(result: Result, variant: str) -> tuple[list[int], list[list[float]]]:
    """The numbers of layers, and for each the ratios of one variant over the numbers of requests."""
    ratios = {
        (row["num_layers"], row["num_requests"]): row["ratio"] for row in result.summary if row["variant"] == variant
    }
    layers = _counts(result, "num_layers")
    return layers, [[ratios[count, requests] for requests in _counts(result, "num_requests")] for count in layers]


def _counts(result: Result, name: str) -> list[int]:
    return list(dict.fromkeys(row[name] for row in result.summary))


def figures(result: Result) -> "dict[str, Figure]":
    """A heat map over layers and requests for every variant of ours; nothing where there is one point."""
    if len(result.summary) == len({row["variant"] for row in result.summary}):
        return {}
    requests = [str(count) for count in _counts(result, "num_requests")]
    figures = {}
    for variant in OURS:
        layers, ratios = _ratios(result, variant)
        labels = [f"{count} layers" for count in layers]
        name = variant.partition(", ")[2].replace(" ", "-")
        title = f"{variant}: one step, by running requests"
        figures[name] = heat_map(ratios, requests, labels, title, "times vLLM's AsyncScheduler")
    return figures
