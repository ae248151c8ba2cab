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
from matplotlib.ticker import MaxNLocator, NullLocator

from assay.report.numbers import number, score

TEXT, SOFT, GRID, ACCENT, MADE, OUT, MUTED, BACKGROUND = (f"#01010{digit}" for digit in range(8))
VARIABLES = dict(
    zip(
        (TEXT, SOFT, GRID, ACCENT, MADE, OUT, MUTED, BACKGROUND),
        ("text", "soft", "grid", "accent", "made", "out", "muted", "background"),
        strict=True,
    )
)
"""Of the CSS, in whose place Matplotlib writes these colours."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 12,
    "text.color": TEXT, "axes.labelcolor": SOFT, "xtick.labelcolor": SOFT, "ytick.labelcolor": TEXT,
    "xtick.color": GRID, "ytick.color": GRID, "axes.edgecolor": GRID, "grid.color": GRID, "hatch.color": OUT,
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
class Change:
    """A named score before and after something was done, and the ends of the difference's interval, if it has one."""

    name: str
    before: float
    after: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """A named course of a metric: points `(x, y)` in the order of x."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Flow:
    """Rows of one stage: those that go on unchanged or changed, those made anew, those removed."""

    name: str
    kept: int
    made: int
    removed: int


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


def _rows(names: Sequence[str], texts: Sequence[str], axes: Axes) -> None:
    """One row for each name, from the top, with a text at the right of the axes."""
    axes.set_yticks(range(len(names)), [shortened(name, 28) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params("y", length=0)
    for y, text in enumerate(texts):
        said = text.replace("-", "−")
        axes.annotate(said, (1.02, y), xycoords=("axes fraction", "data"), va="center", color=SOFT)


def _interval(
    axes: Axes, y: int, low: float | None, high: float | None, marks: Sequence[tuple[float, bool]], muted: bool
) -> None:
    """A bar between the ends of an interval and its marks `(value, muted)`: a dot, or a hollow square if muted."""
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=MUTED if muted else ACCENT, marker="|", linewidth=2)
    for value, is_muted in marks:
        shape, face, edge = ("s", BACKGROUND, MUTED) if is_muted else ("o", ACCENT, ACCENT)
        axes.plot(value, y, shape, markerfacecolor=face, markeredgecolor=edge, markersize=8, markeredgewidth=2)


def _within(axes: Axes, bounds: tuple[float, float]) -> None:
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, bounds[0] - 0.01), min(high, bounds[1] + 0.01))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")


def dot_and_interval(
    rows: Sequence[Interval], title: str, *, bounds: tuple[float, float] = (0.0, 1.0), as_given: bool = False
) -> Markup:
    """Scores within `bounds` as dots with their intervals as bars, the highest first unless they stay `as_given`."""
    ordered = list(rows) if as_given else sorted(rows, key=lambda row: (-row.value, row.name))

    def paint(axes: Axes) -> None:
        for y, row in enumerate(ordered):
            _interval(axes, y, row.low, row.high, [(row.value, row.muted)], row.muted)
        texts = [f"{score(row.value)}{ends(row, ' [{}, {}]')}" for row in ordered]
        _rows([row.name for row in ordered], texts, axes)
        _within(axes, bounds)

    said = ", 95% interval {} to {}"
    description = "; ".join(f"{row.name} {score(row.value)}{ends(row, said)}" for row in ordered)
    return draw(460, 40 + 26 * len(ordered), title, description, paint)


def before_and_after(rows: Sequence[Change], title: str) -> Markup:
    """Scores before (hollow) and after (dot, with the interval of the difference), in the order given."""

    def paint(axes: Axes) -> None:
        for y, row in enumerate(rows):
            marks = [(row.before, True), (row.after, False)]
            low, high = (None if end is None else row.before + end for end in (row.low, row.high))
            _interval(axes, y, low, high, marks, muted=False)
        texts = [
            f"{row.after - row.before:+.3f}"
            + ("" if row.low is None or row.high is None else f" [{row.low:+.3f}, {row.high:+.3f}]")
            for row in rows
        ]
        _rows([row.name for row in rows], texts, axes)
        _within(axes, (0.0, 1.0))

    description = "; ".join(f"{row.name} {score(row.before)} before, {score(row.after)} after" for row in rows)
    return draw(480, 40 + 26 * len(rows), title, description, paint)


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


def _bars(names: Sequence[str], texts: Sequence[tuple[float, str]], axes: Axes) -> None:
    """The names of bars at the left, and the text of each at `(x, text)`."""
    _rows(names, [], axes)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    for y, (x, text) in enumerate(texts):
        axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", color=SOFT)


def row_flow(stages: Sequence[Flow], title: str) -> Markup:
    """Rows of each stage as a bar: those that go on, those made anew, those removed (hatched)."""
    texts = []
    for stage in stages:
        parts = [number(stage.kept + stage.made)]
        parts += [f"+{number(stage.made)}"] if stage.made else []
        parts += [f"−{number(stage.removed)}"] if stage.removed else []
        texts.append((stage.kept + stage.made + stage.removed, "  ".join(parts)))

    def paint(axes: Axes) -> None:
        rows = range(len(stages))
        made_from = [stage.kept for stage in stages]
        removed_from = [stage.kept + stage.made for stage in stages]
        axes.barh(rows, made_from, 0.55, color=ACCENT)
        axes.barh(rows, [stage.made for stage in stages], 0.55, made_from, color=MADE)
        removed = [stage.removed for stage in stages]
        axes.barh(rows, removed, 0.55, removed_from, facecolor="none", edgecolor=OUT, hatch="////", linewidth=0)
        _bars([stage.name for stage in stages], texts, axes)

    description = "; ".join(
        f"{stage.name}: {stage.kept + stage.made} rows out, {stage.made} made, {stage.removed} removed"
        for stage in stages
    )
    return draw(620, 12 + 30 * len(stages), title, description, paint)


def counted_bars(rows: Sequence[tuple[str, int]], title: str) -> Markup:
    """A bar for each name, on one scale, with its count."""

    def paint(axes: Axes) -> None:
        axes.barh(range(len(rows)), [count for _, count in rows], 0.5, color=ACCENT)
        _bars([name for name, _ in rows], [(count, number(count)) for _, count in rows], axes)

    description = "; ".join(f"{name}: {number(count)}" for name, count in rows)
    return draw(620, 12 + 24 * len(rows), title, description, paint)


def confusion_heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], title: str) -> Markup:
    """Rows are the actual labels, columns the predicted ones; the colour is the share of the actual label's rows."""
    k = len(labels)
    cell = 64.0 if k <= 5 else 40.0 if k <= MAX_NUMBERED_LABELS else 9.0 if k <= MAX_NAMED_LABELS else max(2.0, 900 / k)
    numbered, named = k <= MAX_NUMBERED_LABELS, k <= MAX_NAMED_LABELS
    names = [shortened(label, 30) for label in labels] if named else []

    def paint(axes: Axes) -> None:
        for actual, row in enumerate(counts):
            for predicted, count in enumerate(row):
                share = count / sum(row) if count else 0.0
                if count:
                    axes.add_patch(
                        mpl.patches.Rectangle(
                            (predicted, actual), 1, 1, color=ACCENT, alpha=0.06 + 0.94 * share, linewidth=0
                        )
                    )
                if count and numbered:
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
