from pathlib import Path

import polars as pl
import pytest

from assay.core.errors import InputError
from tests.own_process import run_main
from tools.changes import why

SOURCE = {"source_url": "https://example.org/a", "licence": "MIT", "retrieved": "2026-11-22", "authenticity": "real"}
SOURCE["source_sha256"] = "5d7c"


def write(path: Path, **columns: object) -> None:
    pl.DataFrame({name: [value] for name, value in columns.items()}).write_parquet(path, mkdir=True)


def test_a_row_is_followed_through_the_stages(tmp_path: Path) -> None:
    row = {"id": "a:1", "text": "Good &amp; bad", "label": "x", "reference_label": "y", "origin": "a.csv:2"}
    write(tmp_path / "ingested/records.parquet", **row, **SOURCE)
    change = {"before": "Good &amp; bad", "after": "Good & bad"}
    write(tmp_path / "clean/changed.parquet", id="a:1", rule="html_to_text", **change)
    write(tmp_path / "split/train.parquet", id="a:1")
    found = {"is_label_error": True, "label_quality": 0.02, "suggested_label": "y"}
    write(tmp_path / "label_errors/scores.parquet", id="a:1", **found)
    write(tmp_path / "label_errors/removed.parquet", id="a:1", rule="label_error", before="Good & bad", after=None)
    example = {"text": "Great", "label": "x", "parent_id": "b:1", "recipe": "synonym"}
    write(tmp_path / "augmented/train.parquet", id="b:1~synonym", **example)
    assert list(why.history("a:1", tmp_path)) == [
        "ingest: read from a.csv:2, label 'x', reference 'y'",
        "  'Good &amp; bad'",
        "  from https://example.org/a, licence MIT, retrieved 2026-11-22, real, SHA-256 5d7c",
        "clean: changed by html_to_text",
        "  'Good & bad'",
        "split: train",
        "label_errors: a label error (quality 0.020, suggested 'y')",
        "label_errors: removed by label_error",
    ]
    assert list(why.history("b:1", tmp_path)) == ["augment: augmented example b:1~synonym", "  'Great'"]
    assert list(why.history("b:1~synonym", tmp_path)) == ["augment: trains, made of b:1 by synonym, with label 'x'"]


def test_what_is_not_stated_of_a_source_says_so() -> None:
    shown = why.provenance(SOURCE | {"licence": None, "retrieved": None, "authenticity": "generated"})
    assert shown == "from https://example.org/a, no licence stated, generated, SHA-256 5d7c"


def write_group(folder: Path, kept: list[str]) -> None:
    records = {"id": kept, "semantic_group": ["a:1" if one.startswith("a") else one for one in kept]}
    pl.DataFrame(records).write_parquet(folder / "records.parquet", mkdir=True)
    pairs = {"semantic_group": ["a:1", "a:1"], "cosine": [0.9876, 0.95], "id": ["a:2", "a:1"]}
    texts = {"text": ["Great", "Good"], "other_id": ["a:3", "a:2"], "other_text": ["So great", "Great"]}
    pl.DataFrame(pairs | texts).write_parquet(folder / "pairs.parquet")


def test_rows_that_say_the_same_are_named_with_the_closest_of_them(tmp_path: Path) -> None:
    write_group(tmp_path / "semantic_duplicates", ["a:1", "a:2", "a:3", "b:1"])
    assert list(why.history("a:2", tmp_path)) == [
        "semantic_duplicates: in group a:1 with a:1, a:3",
        "  cosine 0.988 to a:3 'So great'",
        "  cosine 0.950 to a:1 'Good'",
    ]
    assert list(why.history("b:1", tmp_path)) == []


def test_a_row_that_stands_for_others_that_say_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "semantic_duplicates"
    write_group(folder, ["a:1", "b:1"])
    write(folder / "removed.parquet", id="a:2", rule="semantic_duplicate", before="Great", after=None, kept_id="a:1")
    assert list(why.history("a:1", tmp_path)) == [
        "semantic_duplicates: stands for its duplicates",
        "  cosine 0.950 to a:2 'Great'",
    ]
    assert list(why.history("a:2", tmp_path)) == [
        "semantic_duplicates: a duplicate of another row",
        "  cosine 0.988 to a:3 'So great'",
        "  cosine 0.950 to a:1 'Good'",
        "semantic_duplicates: removed by semantic_duplicate; a:1 stands for it",
    ]


def test_what_a_person_decided_is_told(tmp_path: Path) -> None:
    who = {"reason": "irony", "reviewer": "Ann", "date": "2026-11-23", "line": 4}
    folder = tmp_path / "corrected"
    write(folder / "changed.parquet", id="a", rule="relabel", before="bad", after="good", **who)
    write(folder / "removed.parquet", id="a", rule="correction", before="text", after=None, **who)
    assert list(why.history("a", tmp_path)) == [
        "correct: label 'bad' → 'good' by Ann on 2026-11-23, line 4: irony",
        "corrected: removed by correction by Ann on 2026-11-23, line 4: irony",
    ]
    who["reason"] = ""
    write(folder / "changed.parquet", id="b", rule="confirm_reference_label", before="bad", after="bad", **who)
    assert list(why.history("b", tmp_path)) == ["correct: reference label 'bad' confirmed by Ann on 2026-11-23, line 4"]


def test_an_unknown_id_names_those_near_it() -> None:
    error = why.unknown_id("tweets:42", pl.Series(["amazon:1", "tweets:41", "tweets:7"]))
    assert isinstance(error, InputError)
    assert "no row has the id 'tweets:42'; there are tweets:41, tweets:7" in str(error)


def test_it_says_so_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data/split/test.parquet", id="c:1")
    run_main(why, "c:1")
    assert capsys.readouterr().out == "c:1\nsplit: test\n"
