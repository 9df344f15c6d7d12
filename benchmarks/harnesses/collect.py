"""lmms-eval's result files as results of ours, so that `report` can print them beside the papers' figures.

`python -m benchmarks.harnesses.collect RESULTS.json --model Qwen2.5-VL-7B --url http://127.0.0.1:8000`

The token ratio is the server's own mean over all sparse requests since it started: start it anew for each run.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.errors import BenchmarkError, exit_status
from benchmarks.load.metrics import metric_sum
from benchmarks.papers import CASE, DENSE
from benchmarks.parser import OneLineParser
from benchmarks.registry import RESULTS_DIR
from measurement.environment import describe
from measurement.results import Result, write

TASKS = Path(__file__).parent / "tasks.json"
# Not among the results of the cases: no case draws these.
OUT = RESULTS_DIR / "harnesses"
METHODS = ("ZipVL", "Sparsity Forcing")
ALIAS = "@p="
# What lmms-eval puts in place of an answer that it did not get.
FAILED = "[LMMS_EVAL_REQUEST_FAILED"


def scores(content: dict[str, Any]) -> dict[str, float]:
    """Scores by the papers' names of the benchmarks, in their units.

    Args:
        content: of lmms-eval's `*_results.json`.

    Raises:
        BenchmarkError: no task of the file belongs to a benchmark of the papers.
    """
    found = {}
    for entry in json.loads(TASKS.read_text(encoding="utf-8")):
        values = [content["results"].get(part["task"], {}).get(f"{part['metric']},none") for part in entry["score"]]
        if all(isinstance(value, int | float) for value in values):
            found[entry["benchmark"]] = sum(
                part["factor"] * value for part, value in zip(entry["score"], values, strict=True)
            )
    if not found:
        raise BenchmarkError(
            f"the results hold {', '.join(content['results'])}, but no task of {TASKS.name}. Run one of those."
        )
    return found


def refuse_failures(path: Path) -> None:
    """Look at the answers beside a result file.

    Raises:
        BenchmarkError: there are none, or lmms-eval counted a request that failed as a wrong answer.
    """
    time = path.name.removesuffix("_results.json")
    samples = sorted(path.parent.glob(f"{time}_samples_*.jsonl"))
    if not samples:
        raise BenchmarkError(f"{path} has no answers beside it, but they show failed requests. Use --log_samples.")
    failed = sum(line.count(FAILED) > 0 for file in samples for line in file.read_text(encoding="utf-8").splitlines())
    if failed:
        raise BenchmarkError(
            f"{failed} requests of {path} failed, and lmms-eval counted them as wrong. Look at its log; run it again."
        )


def sparsity_p_of(content: dict[str, Any], given: float | None) -> float:
    """From the model's name `NAME@p=VALUE`, or as given.

    Raises:
        BenchmarkError: neither says it.
    """
    _, separator, value = str(content.get("model_name")).rpartition(ALIAS)
    if separator:
        return float(value)
    if given is None:
        raise BenchmarkError(f"sparsity_p is not in the model's name {content.get('model_name')!r}. Give --sparsity-p.")
    return given


def token_ratio_of(url: str) -> float:
    """Mean token ratio of all sparse requests of a server.

    Raises:
        BenchmarkError: it cannot be reached or answered none.
    """
    try:
        page = httpx.get(f"{url}/metrics", timeout=60).raise_for_status().text
    except httpx.HTTPError as error:
        raise BenchmarkError(f"The server at {url} does not answer ({type(error).__name__}: {error}).") from error
    count = metric_sum(page, "winnow_token_ratio_count")
    if not count:
        raise BenchmarkError(f"The server at {url} has answered no sparse request, so it knows no token ratio.")
    return metric_sum(page, "winnow_token_ratio_sum") / count


def collect(args: argparse.Namespace) -> Result:
    """One result of ours from one file of lmms-eval.

    Raises:
        BenchmarkError: the file cannot be used.
    """
    try:
        content = json.loads(args.results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{args.results} cannot be read ({error}). Give lmms-eval's *_results.json.") from error
    if not isinstance(content, dict) or "results" not in content:
        raise BenchmarkError(f"{args.results} has no `results`. Give lmms-eval's *_results.json.")
    refuse_failures(args.results)
    sparsity_p = sparsity_p_of(content, args.sparsity_p)
    is_dense = sparsity_p == 1.0
    token_ratio = 1.0 if is_dense else token_ratio_of(args.url)
    return Result(
        case=CASE,
        arguments={"model": args.model, "sparsity_p": sparsity_p, "harness": "lmms-eval", "method": args.method},
        environment=describe(model=args.model, lmms_eval=content.get("lmms_eval_version")),
        units={"score": "of the benchmark", "token_ratio": "tokens kept / tokens"},
        summary=[
            {
                "model": args.model,
                "method": DENSE if is_dense else args.method,
                "benchmark": benchmark,
                "score": score,
                "sparsity_p": sparsity_p,
                "token_ratio": token_ratio,
            }
            for benchmark, score in scores(content).items()
        ],
        samples=[{"task": task, **values} for task, values in content["results"].items()],
    )


def main(argv: Sequence[str]) -> None:
    """Command line."""
    parser = OneLineParser(prog="python -m benchmarks.harnesses.collect", description=__doc__)
    parser.add_argument("results", type=Path, help="lmms-eval's *_results.json")
    parser.add_argument("--model", required=True, help="as the papers call it, such as Qwen2.5-VL-7B")
    parser.add_argument("--sparsity-p", type=float, help="where the model's name does not say it")
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="second: the model was trained for it")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server of the run, still up")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the result")
    args = parser.parse_args(argv)
    print(f"Wrote {write(collect(args), args.out)}")


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
