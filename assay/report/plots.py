"""Plots of the report as inline SVG, drawn by small functions, so that the page needs no script and no network.

Colours are CSS classes that the page sets, for light, dark and print. Every text is escaped. Lengths are in SVG units,
which are about a pixel on a wide screen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

FONT = 12
CHARACTER_WIDTH = 6.6
"""Of a sans-serif face at FONT, generously."""
FLAT_LABELS = 5
"""A confusion matrix of more labels has the names of its columns standing on end."""
MAX_NUMBERED_LABELS = 12
"""A confusion matrix of more labels shows shares by colour alone."""
MAX_NAMED_LABELS = 120
"""A confusion matrix of more labels has no names on its axes, which nobody could read."""
TOP, BOTTOM = 12.0, 44.0
"""Margins of a plot with two axes."""
CURVE_STYLES = 6
"""Ways of drawing a line that the page knows: `curve-0` and so on."""


@dataclass(frozen=True)
class Interval:
    """A named score with the ends of its interval; `muted` rows are drawn as what the others are measured against."""

    name: str
    value: float
    low: float
    high: float
    muted: bool


@dataclass(frozen=True)
class Change:
    """A named score before and after something was done; `low` and `high` are the ends of the difference's interval."""

    name: str
    before: float
    after: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A named point; `low` and `high` are the ends of the interval of `y`."""

    name: str
    x: float
    y: float
    low: float
    high: float
    muted: bool


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


def number(value: float, digits: int = 3) -> str:
    """A number to be read: thousands separated, at least `digits` significant digits, whole numbers in full."""
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{decimals}f}"


def score(value: float) -> str:
    """A score between 0 and 1."""
    return f"{value:.3f}"


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], about so many of them."""
    magnitude = 10 ** math.floor(math.log10((high - low) / about))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if (high - low) / (factor * magnitude) <= 1.5 * about)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _svg(
    width: float, height: float, title: str, description: str, body: Sequence[Markup], css: str = "plot"
) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" '
        'style="max-width: {:.0f}px"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(css, width, height, title, width * 1.2, title, description, Markup("\n").join(body))


def _text(
    x: float, y: float, text: str, css: str = "", anchor: str = "start", turn: float = 0, size: float = FONT
) -> Markup:
    turned = Markup(' transform="rotate({:.0f} {:.1f} {:.1f})"').format(turn, x, y) if turn else Markup("")
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}" font-size="{:g}"{}>{}</text>').format(
        x, y, css, anchor, size, turned, text
    )


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, css)


def _rectangle(x: float, y: float, width: float, height: float, css: str, more: Markup | str = "") -> Markup:
    """A rectangle; `more` are further attributes."""
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"{}/>').format(
        x, y, width, height, css, more
    )


def _marker(x: float, y: float, muted: bool) -> Markup:
    """A dot, or a hollow square for what is muted, so that shape tells them apart without colour."""
    if muted:
        return Markup('<rect x="{:.1f}" y="{:.1f}" width="9" height="9" class="mark muted"/>').format(x - 4.5, y - 4.5)
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" class="mark"/>').format(x, y)


def shortened(text: str, characters: int) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _name_width(names: Sequence[str], at_most: float) -> float:
    return min(at_most, max((len(name) for name in names), default=0) * CHARACTER_WIDTH + 10)


def _with_margin(low: float, high: float, bounds: tuple[float, float], least: float = 0.02) -> tuple[float, float]:
    """An axis that holds all values between `low` and `high`, and a little more, within its bounds."""
    margin = max(least, 0.06 * (high - low))
    return max(bounds[0], low - margin), min(bounds[1], high + margin)


def _scale(first: float, last: float, at: float, length: float) -> Callable[[float], float]:
    """From a value to its place: `first` is at `at`, `last` is `length` further on."""
    return lambda value: at + (value - first) / (last - first) * length


@dataclass(frozen=True)
class _Row:
    """A line of a plot of intervals: a bar from `low` to `high`, markers `(value, muted)`, and a text at the right."""

    name: str
    low: float
    high: float
    css: str
    markers: Sequence[tuple[float, bool]]
    text: str


def _interval_rows(
    rows: Sequence[_Row], width: float, right: float, bounds: tuple[float, float], title: str, description: str
) -> Markup:
    """Bars with markers over one axis; names at the left, numbers at the right."""
    left = _name_width([row.name for row in rows], 130)
    top, step = 8.0, 26.0
    bottom = top + step * len(rows)
    values = [value for row in rows for value in (row.low, row.high, *(value for value, _ in row.markers))]
    start, end = _with_margin(min(values, default=0.0), max(values, default=1.0), bounds)
    x = _scale(start, end, left, width - left - right)
    body: list[Markup] = []
    for tick in ticks(start, end, 4):
        body.append(_line(x(tick), top, x(tick), bottom, "grid"))
        body.append(_text(x(tick), bottom + 16, f"{tick:g}", "soft", "middle"))
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        body.append(_text(left - 8, y + 4, shortened(row.name, 19), "", "end"))
        body.append(_line(x(row.low), y, x(row.high), y, row.css))
        body += [_line(x(edge), y - 5, x(edge), y + 5, row.css) for edge in (row.low, row.high)]
        body += [_marker(x(value), y, muted) for value, muted in row.markers]
        body.append(_text(width, y + 4, row.text.replace("-", "−"), "soft", "end"))
    return _svg(width, bottom + 24, title, description, body)


def dot_and_interval(
    rows: Sequence[Interval], title: str, *, bounds: tuple[float, float] = (0.0, 1.0), as_given: bool = False
) -> Markup:
    """Scores within `bounds` as dots with their intervals as bars, the highest first unless they stay `as_given`."""
    ordered = list(rows) if as_given else sorted(rows, key=lambda row: (-row.value, row.name))
    drawn = []
    for row in ordered:
        text = f"{score(row.value)} [{score(row.low)}, {score(row.high)}]"
        css = "whisker muted" if row.muted else "whisker"
        drawn.append(_Row(row.name, row.low, row.high, css, [(row.value, row.muted)], text))
    description = "; ".join(
        f"{row.name} {score(row.value)}, 95% interval {score(row.low)} to {score(row.high)}" for row in ordered
    )
    return _interval_rows(drawn, 460.0, 140.0, bounds, title, description)


def before_and_after(rows: Sequence[Change], title: str) -> Markup:
    """Scores before (hollow) and after (dot, with the interval of the difference), in the order given."""
    drawn = []
    for row in rows:
        text = f"{row.after - row.before:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        markers = [(row.before, True), (row.after, False)]
        drawn.append(_Row(row.name, row.before + row.low, row.before + row.high, "whisker", markers, text))
    description = "; ".join(f"{row.name} {score(row.before)} before, {score(row.after)} after" for row in rows)
    return _interval_rows(drawn, 480.0, 165.0, (0.0, 1.0), title, description)


def _names_apart(points: Sequence[tuple[float, float, str]], right: float, bottom: float) -> list[tuple[float, float]]:
    """Where the name of each point `(x, y, name)` starts, so that it hides no other name and no point, where it can."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in points]
    placed = []
    for x, y, name in points:
        wide = len(name) * CHARACTER_WIDTH
        places = [(x + 9, y - 7), (x - 9 - wide, y - 7), (x + 9, y + 16), (x - 9 - wide, y + 16), (x + 9, y + 4)]

        def collisions(place: tuple[float, float], wide: float = wide) -> int:
            left, base = place
            box = (left, base - FONT + 2, left + wide, base + 2)
            outside = box[0] < 0 or box[2] > right or box[1] < 0 or box[3] > bottom
            return 10 * outside + sum(
                box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
            )

        left, base = min(places, key=collisions)
        taken.append((left, base - FONT + 2, left + wide, base + 2))
        placed.append((left, base))
    return placed


def _axes(
    heights: dict[float, float], left: float, right: float, height: float, x_label: str, y_label: str
) -> list[Markup]:
    """Lines of the y axis at the `heights` of its ticks, with their values, and the names of both axes."""
    body = []
    for tick, at in heights.items():
        body.append(_line(left, at, right, at, "grid"))
        body.append(_text(left - 6, at + 4, f"{tick:g}".replace("-", "−"), "soft", "end"))
    body.append(_text((left + right) / 2, height - 6, x_label, "soft", "middle"))
    body.append(_text(12, (TOP + height - BOTTOM) / 2, y_label, "soft", "middle", turn=-90))
    return body


def log_scatter(points: Sequence[Point], x_label: str, y_label: str, title: str) -> Markup:
    """Points over a logarithmic x axis, each named, with the interval of y as a bar. `x` below 0.001 is drawn there."""
    width, height, left, right = 460.0, 300.0, 48.0, 20.0
    exponents = [math.log10(max(point.x, 1e-3)) for point in points]
    first = math.floor(min(exponents, default=0))
    last = max(first + 1, math.ceil(max(exponents, default=1)))
    ends = [end for point in points for end in (point.low, point.high)] or [0.0, 1.0]
    start, end = _with_margin(min(ends), max(ends), (0.0, 1.0))
    x = _scale(first, last, left, width - left - right)
    y = _scale(end, start, TOP, height - TOP - BOTTOM)
    body: list[Markup] = []
    for exponent in range(first, last + 1):
        body.append(_line(x(exponent), TOP, x(exponent), height - BOTTOM, "grid"))
        body.append(_text(x(exponent), height - BOTTOM + 16, f"{10**exponent:,g}", "soft", "middle"))
    body += _axes({tick: y(tick) for tick in ticks(start, end, 5)}, left, width - right, height, x_label, y_label)
    places = [(x(exponent), y(point.y), point) for exponent, point in zip(exponents, points, strict=True)]
    for at, _, point in places:
        css = "whisker muted" if point.muted else "whisker"
        body.append(_line(at, y(point.low), at, y(point.high), css))
    body += [_marker(at, level, point.muted) for at, level, point in places]
    names = _names_apart([(at, level, point.name) for at, level, point in places], width, height - BOTTOM)
    body += [_text(*place, point.name) for place, point in zip(names, points, strict=True)]
    description = "; ".join(f"{point.name}: {number(point.x)}, {score(point.y)}" for point in points)
    return _svg(width, height, title, description, body)


def curves(lines: Sequence[Curve], x_label: str, y_label: str, title: str) -> Markup:
    """Courses over steps, each with its name at its end; lines differ in colour and in dashes."""
    names = [line.name for line in lines]
    width, height, left = 460.0, 260.0, 52.0
    right = _name_width(names, 130) + 8
    xs = [x for line in lines for x, _ in line.points] or [0.0, 1.0]
    ys = [y for line in lines for _, y in line.points] or [0.0, 1.0]
    first, last = min(xs), max(xs)
    start, end = _with_margin(min(ys), max(ys), (-math.inf, math.inf), least=1e-3)
    x = _scale(first, last if last > first else first + 1, left, width - left - right)
    y = _scale(end, start, TOP, height - TOP - BOTTOM)
    # There is no half a step.
    steps = [tick for tick in ticks(first, last, 5) if tick % 1 == 0] if last > first else []
    body = [_text(x(tick), height - BOTTOM + 16, f"{tick:g}", "soft", "middle") for tick in steps]
    body += _axes({tick: y(tick) for tick in ticks(start, end, 5)}, left, width - right, height, x_label, y_label)
    drawn = [line for line in lines if line.points]
    for index, line in enumerate(drawn):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        body.append(Markup('<polyline points="{}" class="curve curve-{}"/>').format(points, index % CURVE_STYLES))
    # Names keep their order and a line's height from each other.
    ends = sorted((y(line.points[-1][1]), x(line.points[-1][0]), line.name) for line in drawn)
    base = -math.inf
    for height_of_end, at, name in ends:
        base = max(base + FONT + 2, height_of_end + 4)
        body.append(_text(at + 6, base, shortened(name, 19)))
    description = "; ".join(
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in drawn
    )
    return _svg(width, height, title, description, body)


def _hatching(name: str) -> Markup:
    """The pattern of what is removed; its name must be the only one of the page."""
    return Markup(
        '<defs><pattern id="{}" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="5" height="5" class="removed"/>'
        '<line x1="0" y1="0" x2="0" y2="5" class="hatch"/></pattern></defs>'
    ).format(name)


def row_flow(stages: Sequence[Flow], title: str) -> Markup:
    """Rows of each stage as a bar: those that go on, those made anew, those removed (hatched)."""
    left = _name_width([stage.name for stage in stages], 150)
    width, right, top, step, bar = 620.0, 200.0, 4.0, 30.0, 16.0
    most = max((stage.kept + stage.made + stage.removed for stage in stages), default=0) or 1
    unit = (width - left - right) / most
    body = [_hatching("hatch")]
    for index, stage in enumerate(stages):
        y = top + step * index + (step - bar) / 2
        body.append(_text(left - 8, y + bar - 4, shortened(stage.name, 22), "", "end"))
        x = left
        for rows, css in ((stage.kept, "kept"), (stage.made, "made"), (stage.removed, "taken")):
            if rows:
                body.append(_rectangle(x, y, max(rows * unit, 1), bar, css))
                x += max(rows * unit, 1)
        parts = [number(stage.kept + stage.made)]
        parts += [f"+{number(stage.made)}"] if stage.made else []
        parts += [f"−{number(stage.removed)}"] if stage.removed else []
        body.append(_text(x + 8, y + bar - 4, "  ".join(parts), "soft"))
    description = "; ".join(
        f"{stage.name}: {stage.kept + stage.made} rows out, {stage.made} made, {stage.removed} removed"
        for stage in stages
    )
    return _svg(width, top + step * len(stages) + 4, title, description, body)


def waterfall(start: int, removals: Sequence[tuple[str, int]], title: str) -> Markup:
    """From the rows that came in, down one removal `(name, rows)` after the other, to the rows that are left.

    The axis begins where the smallest removals can still be seen, and not at 0, so the lengths of the solid bars say
    nothing; the numbers beside them do.
    """
    end = start - sum(rows for _, rows in removals)
    names = ["rows in", *(name for name, _ in removals), "rows out"]
    left = _name_width(names, 190)
    width, right, top, step, bar = 620.0, 110.0, 4.0, 26.0, 14.0
    low = max(0.0, end - 0.25 * (start - end)) if start > end else 0.0
    unit = (width - left - right) / ((start - low) or 1)
    body = [_hatching("hatch-fall")]
    level = start
    for index, (name, rows) in enumerate([("rows in", 0), *removals, ("rows out", 0)]):
        y = top + step * index + (step - bar) / 2
        body.append(_text(left - 8, y + bar - 3, shortened(name, 28), "", "end"))
        after = level - rows
        first = left if not rows else left + (after - low) * unit
        long = max((level - low) * unit - (first - left), 1)
        fill = Markup(' style="{}"').format("fill:url(#hatch-fall)" if rows else "")
        body.append(_rectangle(first, y, long, bar, "" if rows else "kept", fill))
        said = f"−{number(rows)} ({rows / start:.1%})" if rows else number(level)
        body.append(_text(first + long + 8, y + bar - 3, said, "soft"))
        level = after
    description = f"{number(start)} rows in; " + "; ".join(f"{name} takes {number(rows)}" for name, rows in removals)
    return _svg(width, top + step * len(names) + 4, title, f"{description}; {number(end)} rows out", body)


def counted_bars(rows: Sequence[tuple[str, int]], title: str) -> Markup:
    """A bar for each name, on one scale, with its count."""
    left = _name_width([name for name, _ in rows], 190)
    width, right, top, step, bar = 620.0, 90.0, 4.0, 24.0, 12.0
    unit = (width - left - right) / (max((count for _, count in rows), default=0) or 1)
    body: list[Markup] = []
    for index, (name, count) in enumerate(rows):
        y = top + step * index + (step - bar) / 2
        long = max(count * unit, 1)
        body.append(_text(left - 8, y + bar - 2, shortened(name, 28), "", "end"))
        body.append(_rectangle(left, y, long, bar, "kept"))
        body.append(_text(left + long + 8, y + bar - 2, number(count), "soft"))
    description = "; ".join(f"{name}: {number(count)}" for name, count in rows)
    return _svg(width, top + step * len(rows) + 4, title, description, body)


def confusion_heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], title: str) -> Markup:
    """Rows are the actual labels, columns the predicted ones; the colour is the share of the actual label's rows."""
    k = len(labels)
    named = k <= MAX_NAMED_LABELS
    cell = 64.0 if k <= FLAT_LABELS else 40.0 if k <= MAX_NUMBERED_LABELS else 9.0 if named else max(2.0, 900 / k)
    size = FONT if k <= MAX_NUMBERED_LABELS else 7.0
    letter = CHARACTER_WIDTH * size / FONT
    longest = max((len(label) for label in labels), default=0)
    margin = (min(30, longest) * letter + 12 if named else 0) + 18
    # Few labels lie flat over their columns, many stand on end.
    top = 38.0 if named and k <= FLAT_LABELS else margin
    side = k * cell
    body: list[Markup] = [
        _text(11, top + side / 2, "actual", "soft", "middle", turn=-90),
        _text(margin + side / 2, 12, "predicted", "soft", "middle"),
        _rectangle(margin, top, side, side, "frame"),
    ]
    if named:
        for index, label in enumerate(labels):
            middle = (index + 0.5) * cell
            short = shortened(label, 30)
            body.append(_text(margin - 6, top + middle + size / 3, short, "", "end", size=size))
            if k <= FLAT_LABELS:
                flat = shortened(label, int(cell / letter))
                body.append(_text(margin + middle, top - 8, flat, "", "middle", size=size))
            else:
                body.append(_text(margin + middle + size / 3, top - 6, short, "", "start", turn=-90, size=size))
    for row, (actual, row_counts) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row_counts)
        for column, (predicted, count) in enumerate(zip(labels, row_counts, strict=True)):
            if not count:
                continue
            share = count / total
            x, y = margin + column * cell, top + row * cell
            body.append(
                Markup(
                    '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="cell" fill-opacity="{:.2f}">'
                    "<title>{} → {}: {} of {} ({:.0%})</title></rect>"
                ).format(x, y, cell, cell, 0.06 + 0.94 * share, actual, predicted, count, total, share)
            )
            if k <= MAX_NUMBERED_LABELS:
                css = "on-dark" if share > 0.5 else ""
                body.append(_text(x + cell / 2, y + cell / 2 + 4, number(count), css, "middle"))
    total = sum(map(sum, counts))
    right = sum(counts[index][index] for index in range(k))
    description = f"{right} of {total} test rows are on the diagonal, which is where actual and predicted agree"
    return _svg(margin + side + 4, top + side + 4, title, description, body, "plot wide" if k > 40 else "plot")
