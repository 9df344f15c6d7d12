"""Figures that all cases share. matplotlib is imported when a figure is drawn: measuring needs none of it."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = (
    tuple[Sequence[float], Sequence[float]] | tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
)
# Okabe and Ito: colours that stay apart for colour-blind readers. The first series is what others are compared with.
COLORS = ("#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 120
# Cells of a heat map that are darker than this share of the range get white numbers.
DARK_SHARE = 0.6
# Longer labels under a heat map stand at a slant.
MAX_UPRIGHT_CHARS = 6


def line_figure(
    series: Mapping[str, Points],
    x_label: str,
    y_label: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
) -> "Figure":
    """One line with markers per series.

    Args:
        series: label -> x and y, and where known the lower and upper end of the spread of every y.
        x_label: with its unit.
        y_label: with its unit.
        title: one line.
        log_x: logarithmic x axis, with the values themselves as ticks.
        log_y: logarithmic y axis.
    """
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot()
    for index, (label, (x, y, *ends)) in enumerate(series.items()):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        axes.plot(x, y, color=color, marker=marker, markersize=5, linewidth=1.5, label=label)
        if ends:
            axes.fill_between(x, *ends, color=color, alpha=0.15, linewidth=0)
    if log_x:
        ticks = sorted({value for x, *_ in series.values() for value in x})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return figure


def heat_map(
    matrix: Sequence[Sequence[float]], x_labels: Sequence[str], y_labels: Sequence[str], title: str, bar_label: str
) -> "Figure":
    """A matrix as colours, with its numbers in the cells.

    Args:
        matrix: rows of columns; NaN stays white.
        x_labels: one per column.
        y_labels: one per row.
        title: one line.
        bar_label: what the colours mean, with unit.
    """
    figure = _figure(3.2 + 0.6 * len(x_labels), 2.0 + 0.34 * len(y_labels))
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="cividis_r", aspect="auto")
    slant = {"rotation": 40, "ha": "right"} if max(map(len, x_labels)) > MAX_UPRIGHT_CHARS else {}
    axes.set_xticks(range(len(x_labels)), x_labels, **slant)
    axes.set_yticks(range(len(y_labels)), y_labels)
    low, high = image.get_clim()
    for row, values in enumerate(matrix):
        for column, value in enumerate(values):
            # NaN is unequal to itself.
            if value == value:
                color = "white" if value > low + DARK_SHARE * (high - low) else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=axes, label=bar_label)
    axes.set_title(title, fontsize=10, loc="left")
    return figure


def _figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches; no window and no global state.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BenchmarkError(
            "matplotlib is not installed, but figures need it. Install the project's extra `benchmarks`."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: "Figure") -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def save(figure: "Figure", path: Path) -> Path:
    """Write the figure as PNG; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))
    return path
