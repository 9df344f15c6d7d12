"""Pictures of results, drawn from JSON only: `python -m training.plots accuracy|curves FILE.json ... --out FILE.png`.

accuracy: files that `python -m training.evaluate` wrote; accuracy against token ratio, one line a model.
curves: `trainer_state.json` of training runs; reward, accuracy, token ratio and KL over the steps, one line a run.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from measurement.results import Result, read

matplotlib.use("Agg")

# Colours that stay apart for colour-blind readers (Okabe and Ito); the first one is for what others are compared with.
COLORS = ("#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P")

SMOOTHED_STEPS = 10

# Title of a panel -> what its figure is called in the log, and how the name ends.
PANELS = {
    "reward": ("reward",),
    "accuracy": ("rewards/accuracy/mean", "rewards/exact_match/mean"),
    "token ratio": ("token_ratio",),
    "KL to the dense reference": ("kl",),
}


def accuracy_plot(results: Sequence[Result], path: Path) -> Path:
    """Accuracy against token ratio of every model in the results; each point says its `sparsity_p`.

    Args:
        results: of `python -m training.evaluate`.
        path: picture to write; its ending says the format.
    """
    rows = [row for result in results for row in result.summary]
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for index, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
        points = sorted((row for row in rows if row["model"] == model), key=lambda row: row["token_ratio"])
        _draw_model(axes, model, points, index)
    axes.set(xlabel="token ratio (1 is dense)", ylabel="accuracy", xlim=(0, 1.04))
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    num_questions = {row["num_questions"] for row in rows}
    axes.set_title(
        f"{', '.join(map(str, sorted(num_questions)))} questions; labels: sparsity_p", fontsize=9, loc="left"
    )
    return _save(figure, path)


def _draw_model(axes: Axes, model: str, points: Sequence[dict[str, Any]], index: int) -> None:
    color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
    ratios, values = [row["token_ratio"] for row in points], [row["accuracy"] for row in points]
    axes.plot(ratios, values, color=color, marker=marker, markersize=5, linewidth=1.5, label=model)
    # Models in turn to the upper left and the lower right of their lines, so that labels of neighbours stay apart.
    above = index % 2
    for row, ratio, value in zip(points, ratios, values, strict=True):
        axes.annotate(
            f"{row['sparsity_p']:g}",
            (ratio, value),
            xytext=(-4, 5) if above else (4, -5),
            textcoords="offset points",
            ha="right" if above else "left",
            va="bottom" if above else "top",
            fontsize=7,
            color=color,
        )


def curves_plot(runs: dict[str, list[dict[str, Any]]], path: Path) -> Path:
    """Training curves; held-out figures are points.

    Args:
        runs: label -> `log_history` of transformers' trainer state.
        path: picture to write; its ending says the format.

    Raises:
        ValueError: the logs hold none of the figures.
    """
    panels = {title: keys for title, keys in PANELS.items() if any(_series(log, keys) for log in runs.values())}
    if not panels:
        raise ValueError(f"the logs of {', '.join(runs)} hold none of {', '.join(PANELS)}. Give logs of training.grpo.")
    figure = Figure(figsize=(7.5, 2.2 * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, keys) in zip(rows, panels.items(), strict=True):
        for index, (label, log) in enumerate(runs.items(), start=1):
            color = COLORS[index % len(COLORS)]
            points = _series(log, keys)
            axes.plot(*_columns(points), color=color, linewidth=0.8, alpha=0.3)
            axes.plot(*_columns(_running_mean(points)), color=color, linewidth=1.6, label=label)
            held_out = _series(log, tuple(f"eval_{key}" for key in keys))
            axes.plot(*_columns(held_out), color=color, linestyle="", marker="o", markersize=5, markeredgecolor="white")
        axes.set_ylabel(title)
        axes.grid(alpha=0.25)
    axes.set_xlabel(f"step; thick lines: mean of {SMOOTHED_STEPS} steps; points: held-out questions")
    figure.axes[0].legend(frameon=False)
    return _save(figure, path)


def _series(log: list[dict[str, Any]], keys: tuple[str, ...]) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in log for key in keys if key in row]


def _running_mean(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The mean of each value and those before it, `SMOOTHED_STEPS` at most."""
    values = [value for _, value in points]
    windows = (values[max(0, end - SMOOTHED_STEPS) : end] for end in range(1, len(values) + 1))
    return [(step, sum(window) / len(window)) for (step, _), window in zip(points, windows, strict=True)]


def _columns(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def read_runs(paths: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """The logs of runs, each under the name of its folder."""
    states = {path.parent.name or str(path): json.loads(path.read_text(encoding="utf-8")) for path in paths}
    if len(states) < len(paths):
        states = {str(path): json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {name: state["log_history"] for name, state in states.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.plots", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("accuracy", "curves"))
    parser.add_argument("files", type=Path, nargs="+", help="result files, or trainer_state.json of runs")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png, .svg or .pdf")
    args = parser.parse_args(argv)
    if args.kind == "accuracy":
        print(f"Wrote {accuracy_plot([read(path) for path in args.files], args.out)}")
    else:
        print(f"Wrote {curves_plot(read_runs(args.files), args.out)}")


if __name__ == "__main__":
    main()
