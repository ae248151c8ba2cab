"""Plots are well-formed SVG with every value in a place that says it."""

import xml.etree.ElementTree as ElementTree

import pytest

from assay.report.plots import (
    Curve,
    Flow,
    Interval,
    Point,
    confusion_heat_map,
    counted_bars,
    curves,
    dot_and_interval,
    log_scatter,
    number,
    row_flow,
    ticks,
    waterfall,
)


def drawn(svg: str) -> ElementTree.Element:
    """The root of a drawing, which has to be well-formed."""
    return ElementTree.fromstring(svg)  # noqa: S314  # our own drawing


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (12345, "12,345"),
        (1234.5, "1,234"),
        (999.6, "1,000"),
        (2.0, "2"),
        (0.12345, "0.123"),
        (41.037, "41.0"),
        (0.004, "0.00400"),
        (0.0000123, "1.23e-05"),
        (-0.5, "-0.500"),
    ],
)
def test_numbers_are_readable(value: float, expected: str) -> None:
    assert number(value) == expected


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.31, 0.79, 4) == [0.4, 0.5, 0.6, 0.7]
    assert ticks(0.655, 0.75, 4) == [0.66, 0.68, 0.7, 0.72, 0.74]


def test_higher_scores_lie_further_right_and_names_are_escaped() -> None:
    svg = dot_and_interval(
        [Interval("a<b", 0.5, 0.4, 0.6, muted=False), Interval("c", 0.7, 0.6, 0.8, muted=False)], "t"
    )
    root = drawn(svg)
    first, second = [float(dot.attrib["cx"]) for dot in root.iter("circle")]
    assert first > second
    assert "a&lt;b" in svg


def test_baselines_have_another_shape() -> None:
    root = drawn(dot_and_interval([Interval("m", 0.3, 0.2, 0.4, muted=True)], "t"))
    assert len(list(root.iter("circle"))) == 0
    assert len(list(root.iter("rect"))) == 1


def test_scatter_takes_zero_seconds() -> None:
    root = drawn(
        log_scatter(
            [Point("m", 0.0, 0.3, 0.3, 0.3, muted=True), Point("f", 400.0, 0.7, 0.6, 0.8, muted=False)], "x", "y", "t"
        )
    )
    assert len(list(root.iter("circle"))) == 1


def test_flow_of_no_rows_is_drawn() -> None:
    drawn(row_flow([Flow("raw", 0, 0, 0)], "t"))


def test_heat_map_draws_cells_that_have_rows_only() -> None:
    root = drawn(confusion_heat_map(["a", "b"], [[3, 1], [0, 4]], "t"))
    cells = [cell for cell in root.iter("rect") if cell.attrib["class"] == "cell"]
    assert [cell.findtext("title") for cell in cells] == [
        "a → a: 3 of 4 (75%)",
        "a → b: 1 of 4 (25%)",
        "b → b: 4 of 4 (100%)",
    ]


def test_waterfall_goes_down_from_rows_in_to_rows_out() -> None:
    svg = waterfall(1000, [("short", 10), ("dup<", 40)], "t")
    root = drawn(svg)
    bars = [bar for bar in root.iter("rect") if bar.attrib.get("style") or bar.attrib.get("class") == "kept"]
    ends = [float(bar.attrib["x"]) + float(bar.attrib["width"]) for bar in bars]
    _, short, duplicates, _ = bars
    assert ends[0] == pytest.approx(ends[1], abs=0.2)
    assert float(short.attrib["x"]) == pytest.approx(ends[2], abs=0.2)
    assert float(duplicates.attrib["x"]) == pytest.approx(ends[3], abs=0.2)
    assert "−40 (4.0%)" in svg
    assert "dup&lt;" in svg
    assert "950" in svg


def test_waterfall_and_bars_of_nothing_are_drawn() -> None:
    for svg in (waterfall(0, [], "t"), waterfall(5, [], "t"), waterfall(5, [("all", 5)], "t"), counted_bars([], "t")):
        drawn(svg)


def test_bars_are_as_long_as_their_counts() -> None:
    root = drawn(counted_bars([("a", 100), ("b", 25)], "t"))
    first, second = [float(bar.attrib["width"]) for bar in root.iter("rect")]
    assert first == pytest.approx(4 * second, rel=0.01)


def test_curves_rise_to_the_right_and_names_do_not_cover_each_other() -> None:
    lines = [Curve("a<b", [(0.0, 1.0), (4.0, 3.0)]), Curve("c", [(0.0, 1.0), (4.0, 3.0)]), Curve("none", [])]
    root = drawn(curves(lines, "step", "loss", "t"))
    lines_drawn = [node for node in root.iter() if node.tag.endswith("polyline")]
    assert len(lines_drawn) == 2
    (x1, y1), (x2, y2) = [map(float, point.split(",")) for point in lines_drawn[0].attrib["points"].split()]
    assert x2 > x1
    assert y2 < y1
    heights = [float(node.attrib["y"]) for node in root.iter() if node.text in ("a<b", "c")]
    assert abs(heights[0] - heights[1]) >= 12


@pytest.mark.parametrize(("last", "below"), [(4.0, "1234"), (6.0, "123456"), (2.0, "12")])
def test_a_curve_has_no_half_steps_below_it(last: float, below: str) -> None:
    line = Curve("ppo", [(1.0, 0.2), (2.0, 0.3), (last, 0.1)])
    root = drawn(curves([line], "step", "reward", "t"))
    texts = [(node.text, node.attrib) for node in root.iter() if node.tag.endswith("text")]
    assert [text for text, at in texts if at["text-anchor"] == "middle"][:-2] == list(below)


def test_curves_of_one_point_and_of_none_are_drawn() -> None:
    for lines in ([], [Curve("a", [(1.0, 2.0)])]):
        drawn(curves(lines, "step", "loss", "t"))


def test_scores_beyond_one_and_in_their_order() -> None:
    rows = [Interval("low", -2.0, -3.0, -1.0, muted=False), Interval("high", 5.0, 4.0, 6.0, muted=False)]
    svg = dot_and_interval(rows, "t", bounds=(float("-inf"), float("inf")), as_given=True)
    root = drawn(svg)
    first, second = [float(node.attrib["cx"]) for node in root.iter("circle")]
    assert first < second
    assert "−2.000 [−3.000, −1.000]" in svg
