"""Plots are well-formed SVG that says in words what it shows, in the page's colours and the same bytes each time."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from assay.report import plots
from assay.report.numbers import number
from assay.report.plots import Curve, Interval
from tests.own_cases import read_cases

LOW, HIGH = Interval("a<b", 0.5, 0.4, 0.6, muted=False), Interval("$c$", 0.7, 0.6, 0.8, muted=True)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("value", "expected"), read_cases(__file__)["numbers_are_readable"])
def test_numbers_are_readable(value: float, expected: str) -> None:
    assert number(value) == expected


DRAWN: dict[str, tuple[Callable[[], str], str, list[str]]] = {
    "dots": (
        lambda: plots.dot_and_interval([LOW, HIGH], "t"),
        "$c$ 0.700, 95% interval 0.600 to 0.800; a<b 0.500, 95% interval 0.400 to 0.600",
        ["$c$", "a<b", "0.700 [0.600, 0.800]", "0.500 [0.400, 0.600]"],
    ),
    "costs, one of no seconds": (
        lambda: plots.log_scatter([(0.0, LOW), (400.0, HIGH)], "seconds", "score", "t"),
        "a<b: 0, 0.500; $c$: 400, 0.700",
        ["1 a<b", "2 $c$", "0.001", "100", "seconds"],
    ),
    "curves": (
        lambda: plots.curves([Curve("a<b", [(1.0, 1.0), (3.0, 2.0)]), Curve("none", [])], "step", "loss", "t"),
        "a<b from 1 to 2",
        ["a<b", "1", "2", "3", "loss"],
    ),
    "matrix": (
        lambda: plots.confusion_heat_map(["a<", "b"], [[3, 1], [0, 4]], "t"),
        "7 of 8 test rows are on the diagonal, which is where actual and predicted agree",
        ["a<", "b", "3", "1", "4", "actual", "predicted"],
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_says_what_it_shows_and_is_the_same_again(name: str) -> None:
    draw, description, texts = DRAWN[name]
    svg = draw()
    root = ElementTree.fromstring(svg)  # noqa: S314  # our own drawing
    assert (root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")) == ("t", description)
    shown = [node.text for node in root.iter(f"{SVG}text")]
    assert set(texts) <= set(shown)
    assert "0" not in shown or name not in ("matrix", "curves")
    assert "var(--" in svg
    assert "#0101" not in svg
    assert draw() == svg


def test_what_is_muted_has_another_shape() -> None:
    assert "var(--muted)" not in plots.dot_and_interval([LOW], "t")
    assert "var(--accent)" not in plots.dot_and_interval([HIGH], "t")


@pytest.mark.parametrize(
    "svg",
    [
        plots.curves([], "step", "loss", "t"),
        plots.curves([Curve("a", [(1.0, 2.0)])], "step", "loss", "t"),
        plots.confusion_heat_map(list("abcdefghijklm"), [[1] * 13] * 13, "t"),
    ],
)
def test_little_and_much_are_drawn(svg: str) -> None:
    ElementTree.fromstring(svg)  # noqa: S314  # our own drawing
