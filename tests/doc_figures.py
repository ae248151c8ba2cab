"""Figures that stand in the documentation between markers: written from files, and compared with them by tests."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assay.core.outputs import read_json, write_text

REPOSITORY = Path(__file__).parents[1]
METRICS = REPOSITORY / "metrics"
FULL = REPOSITORY / "docs/results_full.json"
"""Metrics of the preset `full`, of which the docs speak."""

Parts = Mapping[str, Callable[[], str]]
"""What makes the text of each pair of markers, by their name."""


def read_full(name: str) -> Any:
    """A file of metrics as the preset `full` made it."""
    return read_json(FULL)["metrics"][name]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(of: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """A score of a metrics file with its interval."""
    low, high = (format(of[f"{name}_ci95_{end}"], form) for end in ("low", "high"))
    return f"{of[name]:{form}} [{low}, {high}]"


def between(name: str, doc: Path) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", doc.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def write_parts(doc: Path, parts: Parts) -> None:
    for name, make in parts.items():
        before, _, rest = doc.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        write_text(doc, f"{before}<!-- {name} -->\n{make()}\n{end}{after}")
