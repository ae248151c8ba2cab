"""The guidelines quote the figures that were measured and the rows as they are, and name what exists."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

pytestmark = pytest.mark.figures

FIGURE = re.compile(
    r"^\| [^|]+ \| `([\w.]+)` \| (-?\d\.\d\d)(?: \[(-?\d\.\d\d), (-?\d\.\d\d)\])? \|$", flags=re.MULTILINE
)
EXAMPLE = re.compile(r"^\| `(\w+:\w+)` \| (.+) \| (\d+) \| (\d+) \| (\d+) \|$", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def guidelines(repository: Path) -> str:
    return (repository / "docs/annotation_guidelines.md").read_text(encoding="utf-8")


def test_figures_are_those_that_were_measured(repository: Path, guidelines: str) -> None:
    quoted = FIGURE.findall(guidelines)
    assert len(quoted) == guidelines.count("| `krippendorff") + 5 >= 8
    metrics: Any = json.loads((repository / "metrics/annotation_qa.json").read_text(encoding="utf-8"))
    for key, *figures in quoted:
        *parents, name = key.split(".")
        part = metrics
        for parent in parents:
            part = part[parent]
        measured = [part[name], part.get(f"{name}_ci95_low"), part.get(f"{name}_ci95_high")]
        assert figures == ["" if value is None else f"{value:.2f}" for value in measured], key


def test_examples_are_rows_of_the_data_with_their_ratings(repository: Path, guidelines: str) -> None:
    examples = EXAMPLE.findall(guidelines)
    assert len(examples) > 25
    table = repository / "data/annotation_qa/disagreement.parquet"
    if not table.is_file():
        pytest.skip("data/annotation_qa is not there: `make repro` makes it")
    rows = {row["id"]: row for row in pl.read_parquet(table).iter_rows(named=True)}
    for id_, text, *counts in examples:
        row = rows[id_]
        assert re.sub(r"\\(.)", r"\1", text) == row["text"]
        assert [int(count) for count in counts] == [
            row[f"ratings_{name}"] for name in ("negative", "neutral", "positive")
        ]


def test_examples_of_a_label_are_rows_that_got_it(guidelines: str) -> None:
    for position, label in enumerate(("negative", "neutral", "positive")):
        section = guidelines.split(f"### {label}\n")[1].split("\n#")[0]
        examples = EXAMPLE.findall(section)
        assert len(examples) >= 3
        for _, _, *counts in examples:
            votes = [int(count) for count in counts]
            assert votes[position] > 0.9 * sum(votes)


def test_labels_and_params_that_are_named_exist(repository: Path, guidelines: str) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))
    order = params["annotation_qa"]["label_order"]
    assert re.findall(r"^### (\w+)$", guidelines, flags=re.MULTILINE) == order
    assert sorted(rating_bin["label"] for rating_bin in params["ingest"]["rating_bins"]) == sorted(order)
    gate = params["annotation_qa"]["min_krippendorff_alpha"]
    assert f"(`annotation_qa.min_krippendorff_alpha` in params.yaml) is set\nto {gate} because" in guidelines


def test_the_parts_of_good_guidelines_are_there_in_order(guidelines: str) -> None:
    parts = "Purpose, Unit, Labels, Decision order, Edge cases, When unsure, What annotators must not see"
    parts += ", How disagreement is settled, Training round, Versions"
    assert re.findall(r"^## (.+)$", guidelines, flags=re.MULTILINE) == parts.split(", ")
    assert re.search(r"^\| version \| date \|", guidelines, flags=re.MULTILINE)
