from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.core.errors import InputError
from stages import semantic_duplicates
from tests.own_cases import read_cases
from tests.own_params import change
from tests.own_results import read_outputs

CASES = read_cases(__file__)

PARAMS = """
compute: {device: cpu, precision: float32, threads: 1, processes: 1, checkpoint_seconds: 600.0, backend: processes}
semantic_duplicates: {min_cosine: 0.95, action: group}
split: {group_column: null, given_column: null, given_values: {train: train}}
seed: 1
"""
# Degrees: a, c, d within 10 of one another; f and g too; b and e alone.
ROWS: list[tuple[str, str, str | None, float]] = CASES["rows"]


@pytest.fixture(autouse=True)
def workspace() -> None:
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")


def run(rows: Sequence[tuple[str, str, str | None, float]] = ROWS) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    ids, texts, labels, degrees = zip(*rows, strict=True)
    angles = np.deg2rad(np.array(degrees, dtype=np.float64))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    columns = {"id": ids, "text": texts, "label": labels}
    pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).with_columns(
        source=pl.lit("s"),
        near_duplicate_group="id",
        reference_label=pl.lit(None, pl.String),
        thread=pl.when(pl.col("id").is_in(["b", "e"])).then(pl.lit("7")).otherwise(pl.lit(" ")),
    ).write_parquet("data/corrected/records.parquet", mkdir=True)
    embedding = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, 2))
    # In another order, with a row that is no longer there.
    table = pl.DataFrame({"id": ids, "embedding": embedding})
    pl.concat([table, table.head(1).with_columns(id=pl.lit("gone"))]).reverse().write_parquet(
        "data/embeddings/embeddings.parquet", mkdir=True
    )
    semantic_duplicates.main()
    return read_outputs("data/semantic_duplicates", "semantic_duplicates")


def test_rows_that_say_the_same_get_one_group_and_stay() -> None:
    out, metrics = run()
    assert out["records"].select("id", "semantic_group").rows() == [
        ("a", "a"),
        ("b", "b"),
        ("c", "a"),
        ("d", "a"),
        ("e", "e"),
        ("f", "f"),
        ("g", "f"),
    ]
    assert out["removed"].height == 0
    assert {key: value for key, value in metrics.items() if key not in ("compare_seconds", "run_id")} == (
        {"rows_in": 7, "rows_out": 7, "removed": {"semantic_duplicate": 0}, "linked_pairs": 4, "groups": 2}
        | {"rows_in_groups": 5, "largest_group": 3, "groups_with_conflicting_labels": 1, "split_groups": 4}
        | {"rows_joined_to_other_split_groups": 3, "rows_without_group_value": 7}
    )


def test_each_row_is_paired_with_the_closest_one() -> None:
    out, _ = run()
    cosine = {degrees: round(float(np.cos(np.deg2rad(degrees))), 5) for degrees in (2, 8, 10)}
    assert out["pairs"].with_columns(pl.col("cosine").round(5)).rows() == [
        ("f", cosine[2], "f", "good", "No fee", "g", None, "There is no fee"),
        ("a", cosine[8], "c", "good", "I am in love with it", "d", "bad", "I hate it"),
        ("a", cosine[10], "a", "good", "I love it", "c", "good", "I am in love with it"),
    ]
    assert out["pairs"].columns == [
        *("semantic_group", "cosine", "id", "label", "text"),
        *("other_id", "other_label", "other_text"),
    ]


def test_labels_that_differ_are_reported_and_left_as_they_are() -> None:
    out, _ = run()
    # No label is no other label: f and g do not differ.
    assert out["conflicts"].rows() == [
        ("a", "a", "s", "good", "I love it"),
        ("a", "c", "s", "good", "I am in love with it"),
        ("a", "d", "s", "bad", "I hate it"),
    ]
    assert out["records"]["label"].to_list() == [label for _, _, label, _ in ROWS]


def test_rows_that_say_the_same_are_removed_on_request() -> None:
    change("semantic_duplicates", action="remove")
    out, metrics = run()
    # Of another label (d, g) and of another meaning none goes, whatever the cosine.
    assert out["removed"].select("rule", "after").rows() == [("semantic_duplicate", None)]
    assert {out["removed"]["id"][0], out["removed"]["kept_id"][0]} == {"a", "c"}
    assert out["records"]["id"].to_list() == [id_ for id_, *_ in ROWS if id_ != out["removed"]["id"][0]]
    assert (metrics["rows_in"], metrics["rows_out"], metrics["removed"]) == (7, 6, {"semantic_duplicate": 1})
    assert out["conflicts"].height == 3
    # A chain removes nothing that is not directly similar; and a negation stays.
    chain: list[tuple[str, str, str | None, float]] = [(f"r{i}", "a text", "x", 15.0 * i) for i in range(4)]
    out, _ = run([*chain, ("alone", "b", "x", 180.0), ("not", "not a text", "x", 15.0)])
    angle = {id_: degrees for id_, _, _, degrees in chain}
    for id_, kept in out["removed"].select("id", "kept_id").iter_rows():
        assert abs(angle[id_] - angle[kept]) == 15
    assert 1 <= out["removed"].height <= 2


def test_rows_of_one_group_value_are_one_split_group(capsys: pytest.CaptureFixture[str]) -> None:
    change("split", group_column="thread")
    out, metrics = run()
    found = dict(out["records"].select("id", "split_group").iter_rows())
    assert found["b"] == found["e"] == "thread=7"
    assert found["a"] == found["c"] == found["d"] != found["f"] == found["g"]
    assert (metrics["split_groups"], metrics["rows_without_group_value"]) == (3, 5)
    assert set(out["joined"]["own_group"]) < set("acdfg")
    change("split", group_column="ticket")
    run()
    assert (
        "no column 'ticket' (`split.group_column`): no rows are grouped by it; see `carry`" in capsys.readouterr().err
    )


def test_a_group_that_takes_in_a_large_part_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    alone = [(f"r{number}", f"text {number}", "good", 50.0 * number) for number in range(3)]
    run(alone)
    assert capsys.readouterr().err == ""
    run([*alone, ("s", "text", "good", 1.0)])
    assert "one group has 2 of 4 rows" in capsys.readouterr().err


def test_a_row_without_an_embedding_is_named() -> None:
    run()
    records = pl.read_parquet("data/corrected/records.parquet")
    pl.concat([records, records.head(1).with_columns(id=pl.lit("new"))]).write_parquet("data/corrected/records.parquet")
    with pytest.raises(InputError, match=r"embeddings\.parquet: no embedding for 1 row.*'new'; run `embed` again"):
        semantic_duplicates.main()
