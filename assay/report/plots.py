"""Plots of the report as inline SVG by Matplotlib, so that the page needs no script and no network.

Each colour stands for a CSS variable that the page sets, for light, dark and print. Texts stay texts. What a plot shows
is said in words too, in its `desc`. Lengths are in SVG units, which are about a pixel on a wide screen.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from assay.report.numbers import number, score

NAMES = ("text", "soft", "grid", "accent", "made", "out", "muted", "background")
VARIABLES = {f"#01010{digit}": name for digit, name in enumerate(NAMES)}
"""Of the CSS, in whose place Matplotlib writes these colours."""
TEXT, SOFT, GRID, ACCENT, MADE, OUT, MUTED, BACKGROUND = VARIABLES
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 12,
    "text.color": TEXT, "axes.labelcolor": SOFT, "xtick.labelcolor": SOFT, "ytick.labelcolor": TEXT,
    "xtick.color": GRID, "ytick.color": GRID, "axes.edgecolor": GRID, "grid.color": GRID,
    "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
CURVES = [(ACCENT, "-"), (OUT, (0, (7, 3))), (MUTED, (0, (2, 3))), (MADE, "-."), (TEXT, (0, (4, 4))), (SOFT, ":")]
"""Colours and dashes of curves: told apart without colour, too."""
MAX_NUMBERED_LABELS = 12
"""A confusion matrix of more labels shows shares by colour alone."""
MAX_NAMED_LABELS = 120
"""A confusion matrix of more labels has no names on its axes, which nobody could read."""
Paint = Callable[[Axes], object]


@dataclass(frozen=True)
class Interval:
    """A named score and its interval, if it has one; `muted` rows are drawn as what the others are measured against."""

    name: str
    value: float
    low: float | None
    high: float | None
    muted: bool


@dataclass(frozen=True)
class Curve:
    """A named course of a metric: points `(x, y)` in the order of x."""

    name: str
    points: list[tuple[float, float]]


def ends(row: Interval, form: str) -> str:
    """The 95% interval of a score in a form with two places, if it has one."""
    return "" if row.low is None or row.high is None else form.format(score(row.low), score(row.high))


def shortened(text: str, characters: int) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def draw(width: float, height: float, title: str, description: str, paint: Paint, css: str = "plot") -> Markup:
    """What `paint` puts on the axes, as SVG with its title and description; the same bytes each time."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": title}):  # names of its parts are those of no other plot
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        paint(figure.subplots())
        drawn = io.StringIO()
        figure.savefig(
            drawn, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = drawn.getvalue().partition("<svg ")[2]
    # Names of groups that repeat in each plot of the page; what is referred to by name stays.
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    attributes = Markup('class="{}" role="img" aria-label="{}" style="max-width: {:.0f}px"').format(
        css, title, width * 1.2
    )
    opening, _, body = svg.partition(">")
    said = Markup("<title>{}</title><desc>{}</desc>").format(title, description)
    return Markup(f"<svg {attributes} {opening}>{said}{body}")  # Matplotlib has escaped the texts


def dot_and_interval(rows: Sequence[Interval], title: str) -> Markup:
    """Scores from 0 to 1 with their intervals as bars, the highest first: dots, or hollow squares where muted."""
    ordered = sorted(rows, key=lambda row: (-row.value, row.name))

    def paint(axes: Axes) -> None:
        for y, row in enumerate(ordered):
            shape, face, edge = ("s", BACKGROUND, MUTED) if row.muted else ("o", ACCENT, ACCENT)
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [y, y], color=edge, marker="|", linewidth=2)
            axes.plot(row.value, y, shape, markerfacecolor=face, markeredgecolor=edge, markersize=8, markeredgewidth=2)
        axes.set_yticks(range(len(ordered)), [shortened(row.name, 28) for row in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.tick_params("y", length=0)
        for y, row in enumerate(ordered):
            said = f"{score(row.value)}{ends(row, ' [{}, {}]')}"
            axes.annotate(said, (1.02, y), xycoords=("axes fraction", "data"), va="center", color=SOFT)
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -0.01), min(high, 1.01))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x")

    said = ", 95% interval {} to {}"
    description = "; ".join(f"{row.name} {score(row.value)}{ends(row, said)}" for row in ordered)
    return draw(460, 40 + 26 * len(ordered), title, description, paint)


def log_scatter(points: Sequence[tuple[float, Interval]], x_label: str, y_label: str, title: str) -> Markup:
    """Scores `(x, score)` over a logarithmic x axis, with their intervals as bars. `x` below 0.001 is drawn there.

    Each has a number in the plot and its name beside it, since names of near points would hide each other.
    """

    def paint(axes: Axes) -> None:
        axes.set_xscale("log")
        for index, (x, one) in enumerate(points):
            colour = MUTED if one.muted else ACCENT
            at = max(x, 1e-3)
            if one.low is not None and one.high is not None:
                axes.plot([at, at], [one.low, one.high], color=colour)
            label = f"{index + 1} {shortened(one.name, 28)}"
            shape, face = ("s", BACKGROUND) if one.muted else ("o", ACCENT)
            axes.plot(at, one.value, shape, markerfacecolor=face, markeredgecolor=colour, markersize=8, label=label)
            axes.annotate(str(index + 1), (at, one.value), xytext=(7, 3), textcoords="offset points")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid()
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handlelength=0.8)

    description = "; ".join(f"{one.name}: {number(x)}, {score(one.value)}" for x, one in points)
    return draw(560, 300, title, description, paint)


def curves(lines: Sequence[Curve], x_label: str, y_label: str, title: str) -> Markup:
    """Courses over steps, named beside the plot; lines differ in colour and in dashes."""
    drawn = [line for line in lines if line.points]

    def paint(axes: Axes) -> None:
        for index, line in enumerate(drawn):
            colour, dashes = CURVES[index % len(CURVES)]
            axes.plot(*zip(*line.points, strict=True), color=colour, linestyle=dashes, label=shortened(line.name, 19))
        axes.set(xlabel=x_label, ylabel=y_label)
        # There is no half a step.
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y")
        if drawn:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    description = "; ".join(
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in drawn
    )
    return draw(460, 260, title, description, paint)


def learning_curves(rows: Sequence[tuple[str, str, float, float, float, float]], title: str) -> Markup:
    """Rows of `metrics/plots/learning_curve.csv`: points with their intervals, and each model's law with its band."""
    names = list(dict.fromkeys(row[0] for row in rows))
    points = [row for row in rows if row[1] == "point"]

    def paint(axes: Axes) -> None:
        for (colour, dashes), shape, name in zip(CURVES, "os^vDP", names, strict=False):
            _, _, x, y, low, high = zip(*(row for row in rows if row[:2] == (name, "law")), strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, y, color=colour, linestyle=dashes, label=f"{shortened(name, 19)}: law, 90% band")
            _, _, x, y, low, high = zip(*(row for row in points if row[0] == name), strict=True)
            axes.vlines(x, low, high, color=colour)
            axes.plot(x, y, shape, color=colour, label=f"{shortened(name, 19)}: 95% intervals")
        axes.axvline(max(row[2] for row in points), color=MUTED, linestyle=":", label="all train rows")
        axes.set(xlabel="train rows, without augmented examples", ylabel="macro-F1 on validation rows")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.grid(axis="y")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    return draw(
        640, 320, title, "; ".join(f"{name} at {n:,.0f} rows: {score(y)}" for name, _, n, y, *_ in points), paint
    )


def confusion_heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], title: str) -> Markup:
    """Rows are the actual labels, columns the predicted ones; the colour is the share of the actual label's rows."""
    k = len(labels)
    cell = 64.0 if k <= 5 else 40.0 if k <= MAX_NUMBERED_LABELS else 9.0 if k <= MAX_NAMED_LABELS else max(2.0, 900 / k)
    numbered, named = k <= MAX_NUMBERED_LABELS, k <= MAX_NAMED_LABELS
    names = [shortened(label, 30) for label in labels] if named else []

    def paint(axes: Axes) -> None:
        for actual, row in enumerate(counts):
            for predicted, count in enumerate(row):
                if not count:
                    continue
                share = count / sum(row)
                shade = 0.06 + 0.94 * share
                axes.add_patch(Rectangle((predicted, actual), 1, 1, color=ACCENT, alpha=shade, linewidth=0))
                if numbered:
                    colour = BACKGROUND if share > 0.5 else TEXT
                    axes.text(predicted + 0.5, actual + 0.5, number(count), ha="center", va="center", color=colour)
        middles = [index + 0.5 for index in range(len(names))]
        size = 12 if numbered else 7
        axes.set_xticks(middles, names, rotation=0 if k <= 5 else 90, fontsize=size)
        axes.set_yticks(middles, names, fontsize=size)
        axes.set(xlim=(0, k), ylim=(k, 0), aspect="equal", xlabel="predicted", ylabel="actual")
        axes.tick_params(length=0, labelcolor=TEXT, top=False, labeltop=True, labelbottom=False)
        axes.xaxis.set_label_position("top")
        axes.spines[:].set_visible(True)

    right = sum(counts[index][index] for index in range(k))
    said = (
        f"{right} of {sum(map(sum, counts))} test rows are on the diagonal, which is where actual and predicted agree"
    )
    margin = 60 + (5 if not numbered else 7.5) * max((len(name) for name in names), default=0)
    return draw(
        k * cell + margin, k * cell + (60 if k <= 5 else margin), title, said, paint, "plot wide" if k > 40 else "plot"
    )
