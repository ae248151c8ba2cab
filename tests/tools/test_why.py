from pathlib import Path

import polars as pl
import pytest

from stages.lib.errors import InputError
from tools import why


def write(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({name: [value] for name, value in columns.items()}).write_parquet(path)


def test_a_row_is_followed_through_the_stages(tmp_path: Path) -> None:
    write(
        tmp_path / "ingested/records.parquet",
        id="a:1",
        text="Good &amp; bad",
        label="x",
        reference_label="y",
        origin="a.csv:2",
    )
    write(
        tmp_path / "clean/changed.parquet", id="a:1", rule="html_to_text", before="Good &amp; bad", after="Good & bad"
    )
    write(tmp_path / "split/train.parquet", id="a:1")
    write(
        tmp_path / "label_errors/scores.parquet", id="a:1", is_label_error=True, label_quality=0.02, suggested_label="y"
    )
    write(tmp_path / "label_errors/removed.parquet", id="a:1", rule="label_error", before="Good & bad", after=None)
    write(
        tmp_path / "augmented/train.parquet",
        id="b:1~synonym",
        text="Great",
        label="x",
        parent_id="b:1",
        recipe="synonym",
    )
    assert list(why.history("a:1", tmp_path)) == [
        "ingest: read from a.csv:2, label 'x', reference 'y'",
        "  'Good &amp; bad'",
        "clean: changed by html_to_text",
        "  'Good & bad'",
        "split: train",
        "label_errors: a label error (quality 0.020, suggested 'y')",
        "label_errors: removed by label_error",
    ]
    assert list(why.history("b:1", tmp_path)) == ["augment: copy b:1~synonym", "  'Great'"]
    assert list(why.history("b:1~synonym", tmp_path)) == ["augment: trains as a copy of b:1 by synonym with label 'x'"]


def test_an_unknown_id_names_those_near_it() -> None:
    error = why.unknown_id("tweets:42", pl.Series(["amazon:1", "tweets:41", "tweets:7"]))
    assert isinstance(error, InputError)
    assert "no row has the id 'tweets:42'; there are tweets:41, tweets:7" in str(error)


def test_it_says_so_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["why", "c:1"])
    write(tmp_path / "data/split/test.parquet", id="c:1")
    why.main()
    assert capsys.readouterr().out == "c:1\nsplit: test\n"
