from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assay.duplicates.shingles import Documents, compute_jaccard, normalise_texts
from assay.sources.records import RECORDS_SCHEMA
from tests.benchmarks import million_rows
from tests.benchmarks.million_rows import DIRT, EDITS, row_chunks, write_million_rows
from tests.tiny_models import WORDS

BASE = pl.Series([" ".join(WORDS.split()[start : start + 15]) for start in range(90)])


def rows_and_truth(rows: int, seed: int = 3) -> tuple[pl.DataFrame, million_rows.Truth]:
    ((records, truth),) = row_chunks(rows, seed, BASE)
    return records, truth


def test_rows_are_in_the_ingested_form_and_hold_what_is_planted() -> None:
    records, truth = rows_and_truth(2000)
    assert (records.schema, records["id"].n_unique()) == (RECORDS_SCHEMA, 2000)
    assert records.select("id", "text", "label", "source", "origin").null_count().sum_horizontal().item() == 0
    assert (truth.pairs.height, set(truth.pairs["edit"])) == (200, set(EDITS))
    assert len(truth.dirty) == sum(int(share * 2000) for share in DIRT.values())
    rows = pl.concat([truth.pairs["copy"], truth.pairs["original"].unique(), pl.Series(truth.dirty)])
    assert rows.is_unique().all()


def test_pairs_are_alike_above_and_below_the_threshold() -> None:
    records, truth = rows_and_truth(2000)
    original, copy = (truth.pairs[name].to_numpy() for name in ("original", "copy"))
    jaccard = pl.Series(compute_jaccard(Documents(normalise_texts(records["text"]), 5), original, copy))
    by_edit = truth.pairs.with_columns(jaccard=jaccard).group_by("edit").agg(pl.col("jaccard").mean())
    means = dict(by_edit.rows())
    assert means["case"] == 1.0
    assert means["punctuation"] > 0.95
    assert 0.6 < means["word_changed"] < 0.95
    assert means["words_changed"] < 0.6
    assert (jaccard >= 0.8).mean() == pytest.approx(0.75, abs=0.15)


def test_the_same_seed_gives_the_same_rows_and_more_rows_begin_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(million_rows, "CHUNK_ROWS", 100)
    few, many = tmp_path / "few.parquet", tmp_path / "many.parquet"
    truth, more = (write_million_rows(path, rows, 5, BASE) for path, rows in ((few, 200), (many, 350)))
    assert_frame_equal(pl.read_parquet(few), pl.read_parquet(many).head(200))
    assert_frame_equal(truth.pairs, more.pairs.head(truth.pairs.height))
    assert more.pairs.filter(pl.col("copy") >= 300).height
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.parquet", "many.parquet"]
    write_million_rows(few, 200, 6, BASE)
    assert not pl.read_parquet(few).equals(pl.read_parquet(many).head(200))
