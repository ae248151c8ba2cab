"""The stages of docs/protocol.md, and no others, depend on test rows or on scores of them, by both `dvc.yaml`."""

import re
from pathlib import Path
from typing import Any

import pytest

from assay.core.results import read_pipeline

TEST_ROWS = ("data/split/test.parquet", "data/instruct/test.parquet", "data/instruct/prompts.parquet")
SCORING = ("evaluate", "robustness", "evaluate_generation", "compare_generation")
"""Stages whose outputs are scores on test rows, or predictions for them."""


def names(entries: list[Any]) -> list[str]:
    """Paths of deps or outputs, up to what `dvc.yaml` fills in."""
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    return [path.partition("${")[0].rstrip("/") for path in paths]


def overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one is a folder that holds the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


@pytest.fixture(scope="module")
def stages() -> dict[str, dict[str, Any]]:
    return {name: body.get("do", body) for name, body in read_pipeline()["stages"].items()}


@pytest.fixture(scope="module")
def tables(repository: Path) -> list[dict[str, set[str]]]:
    """What each stage reads by the tables of the page, in their order."""
    text = (repository / "docs/protocol.md").read_text()
    parts = [part for part in re.split(r"\n\n+", text) if part.startswith("| stage |")]
    rows = [re.findall(r"^\| `(\w+)` \| ([^|]+) \|", part, re.M) for part in parts]
    return [{stage: set(re.findall(r"`([^`]+)`", reads)) for stage, reads in table} for table in rows]


def readers(stages: dict[str, dict[str, Any]], files: list[str]) -> dict[str, set[str]]:
    """The stages that depend on one of the files, or on a folder about or below it, with these dependencies."""
    found = {
        name: {dep for dep in names(body["deps"]) if dep and any(overlap(dep, file) for file in files)}
        for name, body in stages.items()
    }
    return {name: deps for name, deps in found.items() if deps}


def test_test_rows_are_read_by_the_listed_stages_alone(
    stages: dict[str, dict[str, Any]], tables: list[dict[str, set[str]]]
) -> None:
    assert readers(stages, list(TEST_ROWS)) == tables[0]


def test_scores_on_test_rows_reach_the_listed_stages_alone(
    stages: dict[str, dict[str, Any]], tables: list[dict[str, set[str]]]
) -> None:
    outputs = [names(stages[name].get(kind, [])) for name in SCORING for kind in ("outs", "metrics", "plots")]
    assert readers(stages, [path for paths in outputs for path in paths]) == tables[1]


def test_a_stage_that_scores_on_test_rows_is_one_of_the_listed(tables: list[dict[str, set[str]]]) -> None:
    """Those that do not score, do not read labels: the tests of `augment` and `preferences` give them files without."""
    others = {"instruct_data", "augment", "preferences", "review_queue", "report"}
    assert set(tables[0]) | set(tables[1]) == set(SCORING) | others
