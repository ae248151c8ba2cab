import csv
import http.client
import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from assay.core.errors import InputError
from assay.human_review.corrections import HEADER
from tests.own_cases import read_cases
from tools.review import queue_page
from tools.review.server import TYPES, Added, listening

CASES = read_cases(__file__)

OWN = {"Origin": "http://127.0.0.1:8765", "Host": "127.0.0.1:8765"}


def write_queue(folder: Path, labels: dict[str, str]) -> None:
    """A queue with a row per id, and records with three labels."""
    (folder / "data/review").mkdir(parents=True)
    with (folder / "data/review/queue.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*queue_page.COLUMNS, "score"])
        for rank, (row_id, label) in enumerate(labels.items(), start=1):
            near = [{"id": "n", "label": "good", "text": "near", "cosine": 0.9}]
            row = [rank, row_id, "train", "s", f"text\nof {row_id}", label, "good", "label error: x"]
            writer.writerow([*row, json.dumps(near), "reference_label" if row_id == "c" else "label", 0.1])
    (folder / "data/corrected").mkdir()
    records = pl.DataFrame({"id": ["1", "2", "3", "4"], "label": ["good", "bad", "fair", None]})
    records.write_parquet(folder / "data/corrected/records.parquet")
    (folder / "params.yaml").write_text("correct: {path: data/corrections.csv, new_labels: [new]}\n", encoding="utf-8")


@pytest.fixture
def corrections(tmp_path: Path) -> Path:
    write_queue(tmp_path, {"a": "bad", 'b,"': "bad", "c": "fair", "none": ""})
    path = Path("data/corrections.csv")
    path.write_text(f"{HEADER}\n", encoding="utf-8")
    return path


@pytest.fixture
def client(corrections: Path) -> FlaskClient:
    queue, labels = queue_page.read_queue(queue_page.QUEUE), queue_page.known_labels(queue_page.RECORDS, ["new"])
    return queue_page.make_app(queue, labels, "Ann", Added(corrections, "decision")).test_client()


def post(client: FlaskClient, address: str, headers: dict[str, str] = OWN, **body: Any) -> TestResponse:
    return client.post(address, json=body, headers=headers)


def get(client: FlaskClient, address: str) -> TestResponse:
    return client.get(address, headers={"Host": "127.0.0.1:8765"})


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removeprefix(f"{HEADER}\n").splitlines()


def test_the_queue_is_shown_with_its_labels_and_neighbours(client: FlaskClient) -> None:
    shown = get(client, "/api/rows").get_json()
    assert (shown["labels"], shown["reviewer"]) == (["bad", "fair", "good", "new"], "Ann")
    assert [(row["id"], row["label"], row["decided"]) for row in shown["rows"]] == [
        ("a", "bad", False),
        ('b,"', "bad", False),
        ("c", "fair", False),
        ("none", None, False),
    ]
    assert shown["rows"][0]["text"] == "text\nof a"
    assert shown["rows"][0]["neighbours"] == [{"id": "n", "label": "good", "text": "near", "cosine": 0.9}]


def test_each_decision_is_a_line(client: FlaskClient, corrections: Path) -> None:
    said = post(client, "/api/decide", id="a", action="accept").get_json()
    assert said == {"id": "a", "line": 2, "field": "label", "old": "bad", "new": "bad"}
    post(client, "/api/decide", id='b,"', action="relabel", label="good", reason='"so"\nsaid')
    post(client, "/api/decide", id="c", action="remove", reason=None)
    assert post(client, "/api/decide", id="none", action="relabel", label="new").get_json()["line"] == 5
    assert lines(corrections) == [
        f"a,label,bad,bad,,Ann,{date.today()}",
        f'"b,""",label,bad,good,"""so"" said",Ann,{date.today()}',
        f"c,row,keep,remove,,Ann,{date.today()}",
        f"none,label,,new,,Ann,{date.today()}",
    ]
    shown = client.get("/api/rows", headers={"Host": "localhost"}).get_json()
    assert all(row["decided"] for row in shown["rows"])


def test_the_label_that_is_decided_is_that_of_the_field(client: FlaskClient, corrections: Path) -> None:
    # A line about the other label of the row decides nothing here.
    corrections.write_text(f"{HEADER}\nc,label,good,bad,,Bo,2026-01-02\na,reference_label,bad,good,,Bo,2026-01-02\n")
    assert not any(row["decided"] for row in get(client, "/api/rows").get_json()["rows"])
    assert post(client, "/api/decide", id="c", action="accept").get_json()["field"] == "reference_label"
    assert [row["id"] for row in get(client, "/api/rows").get_json()["rows"] if row["decided"]] == ["c"]


@pytest.mark.parametrize(("body", "said"), CASES["what_is_no_decision_writes_nothing"])
def test_what_is_no_decision_writes_nothing(
    client: FlaskClient, corrections: Path, body: dict[str, Any], said: str
) -> None:
    answer = post(client, "/api/decide", **body)
    assert answer.status_code == 400
    assert said in answer.get_json()["error"]
    assert lines(corrections) == []


def test_other_lines_stay_byte_for_byte_and_a_missing_line_end_is_made_good(
    client: FlaskClient, corrections: Path
) -> None:
    others = f"\ufeff{HEADER}\r\nx,label,good,bad,why,Bo,2026-01-02".encode()
    corrections.write_bytes(others)
    assert post(client, "/api/decide", id="a", action="accept").get_json()["line"] == 3
    line = f"a,label,bad,bad,,Ann,{date.today()}\n".encode()
    assert corrections.read_bytes() == others + b"\n" + line
    assert post(client, "/api/undo").get_json() == {"id": "a"}
    assert corrections.read_bytes() == others + b"\n"


def test_a_file_that_is_not_there_is_made(client: FlaskClient, corrections: Path) -> None:
    corrections.unlink()
    post(client, "/api/decide", id="a", action="accept")
    assert corrections.read_text(encoding="utf-8") == f"{HEADER}\na,label,bad,bad,,Ann,{date.today()}\n"


def test_undo_takes_back_this_sessions_lines_from_the_last_on(client: FlaskClient, corrections: Path) -> None:
    corrections.write_text(f"{HEADER}\nx,label,good,bad,,Ann,2026-01-02\n", encoding="utf-8")
    post(client, "/api/decide", id="a", action="accept")
    post(client, "/api/decide", id="c", action="remove")
    assert [post(client, "/api/undo").get_json() for _ in range(2)] == [{"id": "c"}, {"id": "a"}]
    none_left = post(client, "/api/undo")
    assert none_left.status_code == 409
    assert none_left.get_json()["error"] == "this session added no decision that could be undone"
    assert lines(corrections) == ["x,label,good,bad,,Ann,2026-01-02"]


def test_undo_leaves_a_line_that_is_no_longer_the_last(client: FlaskClient, corrections: Path) -> None:
    post(client, "/api/decide", id="a", action="accept")
    with corrections.open("a", encoding="utf-8") as file:
        file.write(f"c,label,fair,bad,,Bo,{date.today()}\n")
    before = corrections.read_bytes()
    answer = post(client, "/api/undo")
    assert answer.status_code == 409
    assert "the line on a is no longer the last, so it stays" in answer.get_json()["error"]
    assert corrections.read_bytes() == before


def test_what_somebody_decided_meanwhile_is_not_decided_again(client: FlaskClient, corrections: Path) -> None:
    corrections.write_text(f"{HEADER}\na,label,bad,good,,Bo,2026-01-02\n", encoding="utf-8")
    answer = post(client, "/api/decide", id="a", action="accept")
    assert answer.status_code == 409
    assert answer.get_json() == {"error": "data/corrections.csv: line 2: Bo decided a meanwhile", "decided": True}
    assert len(lines(corrections)) == 1


def test_nothing_is_added_to_a_file_that_cannot_be_read(client: FlaskClient, corrections: Path) -> None:
    corrections.write_text(f"{HEADER}\n<<<<<<< HEAD\n", encoding="utf-8")
    before = corrections.read_bytes()
    answer = post(client, "/api/decide", id="a", action="accept")
    assert (answer.status_code, answer.get_json()["decided"]) == (409, False)
    assert "merge marker" in answer.get_json()["error"]
    assert corrections.read_bytes() == before


def test_a_write_that_breaks_off_leaves_the_file_as_it_was(
    client: FlaskClient, corrections: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = corrections.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    answer = post(client, "/api/decide", id="a", action="accept")
    assert answer.status_code == 500
    assert answer.get_json()["error"] == "data/corrections.csv: nothing was written: No space left on device"
    assert corrections.read_bytes() == before
    monkeypatch.undo()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "0.0.0.0:8765"])
@pytest.mark.parametrize("address", ["/", "/queue_page.js", "/api/rows"])
def test_another_host_name_is_refused(client: FlaskClient, host: str, address: str) -> None:
    answer = client.get(address, headers={"Host": host})
    assert answer.status_code == 400
    assert b"text\\nof a" not in answer.data


@pytest.mark.parametrize(("headers", "status"), CASES["a_write_of_another_origin_or_type_is_refused"])
def test_a_write_of_another_origin_or_type_is_refused(
    client: FlaskClient, corrections: Path, headers: dict[str, str], status: int
) -> None:
    body = json.dumps({"id": "a", "action": "accept"})
    sent = {"Host": "127.0.0.1:8765", "Content-Type": "application/json"} | headers
    assert client.post("/api/decide", data=body, headers=sent).status_code == status
    assert client.post("/api/undo", data="{}", headers=sent).status_code == status
    assert lines(corrections) == []


def test_reading_from_another_origin_is_refused(client: FlaskClient) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.get("/api/rows", headers={"Host": "127.0.0.1:8765"} | headers)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_page_runs_no_script_but_its_own(client: FlaskClient) -> None:
    answer = get(client, "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    files = [file for file in Path(queue_page.__file__).parent.iterdir() if file.suffix in TYPES]
    page = "".join(file.read_text(encoding="utf-8") for file in files)
    assert "innerHTML" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_too_much_and_what_is_no_json_is_refused(client: FlaskClient) -> None:
    assert post(client, "/api/decide", id="a", action="accept", reason="x" * 100_000).status_code == 413
    assert client.post("/api/decide", data="{", headers=OWN, content_type="application/json").status_code == 400
    assert client.get("/api/decide", headers={"Host": "127.0.0.1"}).status_code == 405


def test_a_missing_queue_or_table_says_how_to_make_it(corrections: Path) -> None:
    with pytest.raises(InputError, match=r"no such file; make the queue with `dvc repro review_queue`"):
        queue_page.read_queue(corrections.with_name("none.csv"))
    with pytest.raises(InputError, match="no column rank"):
        queue_page.read_queue(corrections)
    with pytest.raises(InputError, match="make it with `dvc repro correct`"):
        queue_page.known_labels(corrections.with_name("none.parquet"), [])


def test_a_port_that_is_taken_says_what_to_do() -> None:
    with listening(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf'make review ARGS="--port {port + 1}"'):
            listening(port)
        assert taken.getsockname()[0] == "127.0.0.1"


def test_without_a_name_it_asks_for_one(corrections: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert corrections.is_file()
    monkeypatch.setattr("sys.argv", ["review"])
    monkeypatch.setattr(queue_page, "git", lambda *_: None)
    with pytest.raises(InputError, match="who reviews"):
        queue_page.main()


def test_it_serves_until_ctrl_c_and_says_what_is_next(corrections: Path, repository: Path) -> None:
    assert corrections.is_file()
    command = [sys.executable, "-m", "tools.review.queue_page", "--port", "0", "--reviewer", "Ann"]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "review: 4 rows, 0 decided; you are Ann\n"
        address = server.stdout.readline().split()[1]
        body = json.dumps({"id": "a", "action": "accept"}).encode()
        headers = {"Origin": address.rstrip("/"), "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))
        connection.request("POST", "/api/decide", body, headers)
        assert connection.getresponse().status == 200
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    assert server.returncode == 0
    assert said == (
        "\nreview: 1 decision(s) added to data/corrections.csv;"
        " next: `dvc repro`, then commit data/corrections.csv with dvc.lock and metrics/\n"
    )
    assert lines(corrections) == [f"a,label,bad,bad,,Ann,{date.today()}"]
