"""What came in by `make serve`, on the page of `make review`."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.params import load_params
from assay.human_review.corrections import HEADER
from assay.sources.records import IngestParams, ingest_source
from tests.template_params import read_template_params
from tests.tools.review.test_queue_page import post
from tools.review import feedback, queue_page

TODAY = date.today().isoformat()


def send(label: str, reviewer: str, **more: Any) -> str:
    return feedback.add_posted({"id": None, "text": None, "reason": "", "label": label, "reviewer": reviewer} | more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("split", "corrected"):
        (tmp_path / "data" / name).mkdir(parents=True)
    rows = pl.DataFrame({"id": ["t:1", "t:2"], "source": "t", "text": ["one", "two"], "label": ["good", "bad"]})
    rows.write_parquet("data/split/train.parquet")
    rows.with_columns(id=pl.Series(["t:8", "t:9"])).write_parquet("data/split/test.parquet")
    rows.write_parquet("data/corrected/records.parquet")
    Path("params.yaml").write_text("correct: {path: data/corrections.csv, new_labels: []}\n")
    return tmp_path


def test_nothing_of_it_trains_before_a_person_confirms_it(folder: Path) -> None:
    assert send("bad", "Ann", id="t:1", reason="irony;\nreally") == "t:1"
    assert send("bad", "Bo", id="t:1") == "t:1"
    new = [send(label, "Ann", text='New,\r\n "text"') for label in ("good", "bad")]
    assert [send("bad", "Ann", id="t:9"), send("bad", "Ann", id="unknown")] == ["t:9", "unknown"]
    app, _, summary = queue_page.review_queue("Di")
    assert summary == "2 rows, 0 decided; 2 ids of data/feedback.csv are of test rows, or of none, and not shown"
    client = app.test_client()
    shown = client.get("/api/rows", headers={"Host": "localhost"}).get_json()["rows"]
    columns = ("id", "split", "text", "label", "suggested_label", "reasons")
    assert [tuple(row[name] for name in columns) for row in shown] == [
        ("t:1", "train", "one", "good", "bad", 'Ann says "bad" irony, really; Bo says "bad"'),
        (new[0], "new text", 'New, "text"', None, None, 'Ann says "good"; Ann says "bad"'),
    ]
    assert new[0] == new[1]
    assert not Path("data/corrections.csv").exists()
    post(client, "/api/decide", id="t:1", action="relabel", label="bad")
    refused = post(client, "/api/decide", id=new[0], action="relabel", label="good")
    said = "this text is in no data: docs/serving.md says how it comes in"
    assert (refused.status_code, refused.get_json()["error"]) == (400, said)
    assert Path("data/corrections.csv").read_text() == f"{HEADER}\nt:1,label,good,bad,,Di,{TODAY}\n"


def test_it_stands_before_the_queue_and_takes_its_place(folder: Path) -> None:
    queue = [{"id": one, "split": "train", "label": "bad", "reasons": "r", "neighbours": [1]} for one in ("t:1", "t:2")]
    send("good", "Ann", id="t:2")
    rows, others = feedback.add_first(queue, feedback.read_posted())
    assert ([row["id"] for row in rows], others) == (["t:2", "t:1"], 0)
    assert (rows[0]["reasons"], rows[0]["neighbours"]) == ('Ann says "good"; r', [1])


def test_a_full_file_takes_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send("good", "Ann", id="t:1")
    monkeypatch.setattr(feedback, "MAX_MIB", 0)
    before = feedback.POSTED.read_bytes()
    with pytest.raises(InputError, match=r"^data/feedback.csv has 0 MiB; review it, and take away what is decided"):
        send("good", "Ann", id="t:1")
    assert feedback.POSTED.read_bytes() == before


def test_a_copied_line_is_read_as_the_docs_say(folder: Path, repository: Path) -> None:
    row_id = send("good", "Ann", text='a, "b"')
    Path("data/own").mkdir()
    Path("data/own/feedback.csv").write_text(feedback.POSTED.read_text())
    entry = re.search(r"```yaml\n(.*?)```", (repository / "docs/serving.md").read_text(), re.DOTALL)
    assert entry
    changes = {"path": "data/own", "sources": yaml.safe_load(entry[1]), "rating_bins": None}
    Path("params.yaml").write_text(yaml.safe_dump({"ingest": read_template_params()["ingest"] | changes}))
    params = load_params("ingest", IngestParams)
    found = ingest_source(params.sources[0], 0, params).records
    assert found.select("id", "text", "label").rows() == [(f"feedback:{row_id}", 'a, "b"', "good")]
