"""`make new`: from files as people have them to params that the stages run with."""

import gzip
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from stages import annotation_qa, clean, correct, embed, ingest, instruct_data, semantic_duplicates, split
from tests.own_params import change
from tests.own_process import commit_all, git, run_main
from tests.template_params import FILE
from tools.new import files, project
from tools.params.check import find_problems

WORDS = {"good": "great happy fast cheap fine", "bad": "awful sad slow broken late", "so-so": "card bank app phone fee"}
PLACES = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris", "Quito", "Tokyo", "Accra", "Dover")
Writer = Callable[[Path], Any]


def row(number: int) -> tuple[str, str]:
    """A text, no two alike, and one of three labels in turn."""
    label = list(WORDS)[number % 3]
    first, second = (WORDS[label].split()[at % 5] for at in (number, number // 5))
    street = f"{number * 7919 % 9973} {PLACES[number // 10 % 10]} Road"
    return f"The desk in {PLACES[number % 10]}, {street}, is {first} and {second} to me number {number}", label


ROWS = [row(number) for number in range(60)]
TABLE = pl.DataFrame(ROWS, ["text", "label"], orient="row")
IDS = pl.int_range(60).cast(pl.String)


@pytest.fixture(autouse=True)
def fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fork").mkdir()
    monkeypatch.chdir(tmp_path / "fork")
    Path("params.yaml").write_text(FILE.read_text())
    commit_all()


def new(source: str | Path, *arguments: str) -> dict[str, Any]:
    """The params after `make new`."""
    run_main(project, str(source), "--yes", *arguments)
    params: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text())
    return params


def write_csv(path: Path, rows: list[Any], *header: str) -> Path:
    pl.DataFrame(rows, list(header or ("text", "label")), orient="row").write_csv(path)
    return path


def write_json(value: Any) -> Writer:
    return lambda path: path.write_text(json.dumps(value))


def write_lines(rows: list[dict[str, Any]]) -> Writer:
    return lambda path: path.write_text("".join(json.dumps(one) + "\n" for one in rows))


def write_workbook(sheets: dict[str, list[Any]]) -> Writer:
    def write(path: Path) -> None:
        book = openpyxl.Workbook()
        for title, rows in sheets.items():
            sheet = book.create_sheet(title)
            for cells in rows:
                sheet.append(cells)
        del book["Sheet"]
        book.save(path)

    return write


def write_folders(path: Path) -> None:
    for number, (text, label) in enumerate(ROWS):
        (path / label).mkdir(parents=True, exist_ok=True)
        (path / label / f"{number}.txt").write_bytes(f"{text}: déjà".encode("cp1252" if number == 7 else "utf-8"))


def write_division(path: Path) -> None:
    path.mkdir()
    write_csv(path / "train.csv", ROWS[:40], "text", "category")
    write_csv(path / "test.csv", ROWS[40:], "text", "category")


def task(number: int, text: str, label: str) -> dict[str, Any]:
    """A task of Label Studio's with two annotations."""
    result = [{"from_name": "tone", "type": "choices", "value": {"choices": [label]}}]
    given = [{"completed_by": person, "result": result} for person in (1, 2)]
    return {"id": number, "data": {"body": text}, "annotations": given, "predictions": [], "meta": {}}


PARTS = pl.Series(("train", "train", "dev", "test") * 15)
TRAIN, SPLIT = {"name": "given_split", "constant": "train"}, {"name": "given_split", "pattern": None}
VOTES = [(text, lab, lab if n % 4 else None, lab if n % 6 else "bad") for n, (text, lab) in enumerate(ROWS)]
RATED: list[tuple[str, Writer, dict[str, Any]]] = [
    (
        "raters.xlsx",
        write_workbook({"Read me": [["Ask Ann"]], "Votes": [("Comment", "Ann", "Bo", "Cy"), *VOTES]}),
        {"format": "jsonl", "columns": {"id": "row_id", "text": "Comment"}},
    ),
    (
        "studio.json",
        write_json([task(number, *cells) for number, cells in enumerate(ROWS)]),
        {"layout": "label_studio", "columns": {"id": "id", "text": "body", "label": "tone"}},
    ),
    (
        "judgements.jsonl",
        write_lines([{"sentence": text, "worker": who, "category": lab} for text, lab in ROWS for who in "abc"]),
        {"columns": {"id": "row_id", "text": "sentence"}},
    ),
    (
        "lists.jsonl",
        write_lines(
            [{"id": f"t{n}", "text": text, "votes": [n % 3, n % 3, n % 2]} for n, (text, _) in enumerate(ROWS)]
        ),
        {"columns": {"id": "id", "text": "text"}},
    ),
]
DIVIDED: list[tuple[str, Writer, dict[str, Any]]] = [
    (
        "splits.json",
        write_json({"version": 2, "train": ROWS[:40], "val": ROWS[40:50], "test": ROWS[50:]}),
        {"columns": {"text": "column_1", "label": "column_2"}, "carry": [SPLIT | {"column": "given_split"}]},
    ),
    (
        "sheets.xlsx",
        write_workbook({"Test": [("text", "label"), *ROWS[40:]], "Train": [("text", "label"), *ROWS[:40]]}),
        {"sheet": "Train", "carry": [TRAIN]},
    ),
    ("files", write_division, {"name": "train", "columns": {"text": "text", "label": "category"}, "carry": [TRAIN]}),
    (
        "threads.csv",
        TABLE.select(
            pl.all(), title="Desk " + IDS, thread="t" + (pl.int_range(60) // 4).cast(pl.String), part=PARTS
        ).write_csv,
        {"columns": {"text": ["title", "text"], "label": "label"}},
    ),
]
PLAIN: list[tuple[str, Writer, dict[str, Any]]] = [
    ("a.csv", TABLE.write_csv, {"format": "csv", "header": True, "columns": {"text": "text", "label": "label"}}),
    ("a.csv.gz", lambda path: path.write_bytes(gzip.compress(TABLE.write_csv().encode())), {"file": "a.csv.gz"}),
    (
        "a.txt",
        lambda path: path.write_bytes(
            TABLE.select("label", pl.lit("Grüße: ") + pl.col("text").str.replace_all(",", ""))
            .write_csv(separator=";", include_header=False)
            .encode("cp1252")
        ),
        {"separator": ";", "header": False, "encoding": "cp1252", "columns": {"text": "2", "label": "1"}},
    ),
    (
        "a.tsv",
        lambda path: TABLE.select(ticket_id=IDS, Message=pl.col("text") + '\n"Bye"', Department="label").write_csv(
            path, separator="\t"
        ),
        {"quote": '"', "columns": {"id": "ticket_id", "text": "Message", "label": "Department"}},
    ),
    ("a.json", TABLE.rename({"text": "utterance", "label": "intent"}).write_json, {"format": "json"}),
    (
        "a.parquet",
        TABLE.select(review="text", stars=pl.col("label").str.len_chars()).write_parquet,
        {"format": "parquet"},
    ),
    ("folders", write_folders, {"format": "jsonl", "columns": {"id": "id", "text": "text", "label": "label"}}),
    (
        "doccano.jsonl",
        write_lines([{"id": n, "data": text, "label": [lab]} for n, (text, lab) in enumerate(ROWS)]),
        {"layout": "doccano", "columns": {"id": "id", "text": "text", "label": "label"}},
    ),
]


@pytest.mark.parametrize(("name", "write", "expected"), [*PLAIN, *RATED, *DIVIDED])
def test_a_form_of_data_is_found_and_ingested(
    name: str, write: Writer, expected: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path / name)
    params = new(tmp_path / name)
    source = params["ingest"]["source_defaults"] | params["ingest"]["sources"][0]
    assert {key: source[key] for key in expected} == expected
    ingest.main()
    rows, ratings = (pl.read_parquet(f"data/ingested/{table}.parquet") for table in ("records", "ratings"))
    assert (rows.height, rows["label"].n_unique()) == (60, 3)
    assert (ratings.height > 60) == ((name, write, expected) in RATED)
    if (name, write, expected) in DIVIDED:
        assert {params["split"]["given_values"][value] for value in rows["given_split"]} >= {"train", "test"}
    else:
        assert params["split"]["given_column"] is None


def test_what_is_written_is_right_in_every_section_and_keeps_the_comments(tmp_path: Path) -> None:
    name, write, _ = DIVIDED[-1]
    write(tmp_path / name)
    params = new(tmp_path / name)
    assert find_problems(Path("params.yaml")) == []
    assert list(params["fetch"]["assets"]) == ["wordnet", "minilm"]
    assert params["optional"]["instruct_data"] == params["optional"]["ppo"] == params["sft_approaches"] == []
    assert (params["split"]["group_column"], params["label_errors"]["evidence"]) == ("thread", None)
    comments = [line for line in FILE.read_text().splitlines() if line.startswith("# ")]
    assert set(comments) <= set(Path("params.yaml").read_text().splitlines())


def test_numbers_of_raters_have_an_order_and_little_agreement_takes_the_gate_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, write, _ = RATED[-1]
    write(tmp_path / name)
    params = new(tmp_path / name)
    assert params["annotation_qa"]["label_order"] == ["0", "1", "2"]
    assert params["annotation_qa"]["min_krippendorff_alpha"] is None
    assert "the raters agree little: Krippendorff's alpha is 0." in capsys.readouterr().out


def test_the_stages_to_the_split_run(tmp_path: Path, tiny_encoder: Path) -> None:
    name, write, _ = RATED[0]
    write(tmp_path / name)
    new(tmp_path / name)
    change("clean.max_tokens", tokenizer=f"{tiny_encoder}/tokenizer.json")
    change("embed", model=str(tiny_encoder), last_layers=2)
    change("semantic_duplicates", min_cosine=0.9999)
    Path("data/corrections.csv").write_text("id,field,old,new,reason,reviewer,date\n")
    for stage in (ingest, clean, embed, correct, semantic_duplicates, annotation_qa, split):
        stage.main()
    assert sum(pl.read_parquet(f"data/split/{part}.parquet").height for part in ("train", "validation", "test")) == 60


WARNED: list[tuple[list[Any], str]] = [
    (
        [(text if n % 5 > 1 else "", label) for n, (text, label) in enumerate(ROWS)],
        r"24 of 60 rows \(40%\) have no text",
    ),
    ([(text, label if n % 5 > 1 else "") for n, (text, label) in enumerate(ROWS)], r"24 rows \(40%\) have no label"),
    ([*ROWS, ("A lonely one, here", "rare")], r"labels with under 10 rows: 'rare' \(1\)"),
    ([*ROWS, ("A lonely one, here", "Good ")], r"look-alike labels: 'Good ' \(1 rows\) as 'good'"),
    ([(text, f"x{max(n, 19)}") for n, (text, _) in enumerate(ROWS)], "41 labels in 60 rows: ids, or free text"),
    ([*ROWS, *ROWS[:2], (ROWS[0][0], "bad")], "3 rows repeat a text.*\nwarning: 1 texts have several labels"),
    ([(f"Jag är {n} år och bor hemma hos min mamma", ROWS[n][1]) for n in range(60)], "texts are in 'sv'"),
    ([(text * 12, label) for text, label in ROWS], "60 texts are longer than some 128 tokens"),
]


@pytest.mark.parametrize(("rows", "says"), WARNED)
def test_what_will_not_go_well_is_said_and_ingest_runs(
    rows: list[Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new(write_csv(tmp_path / "a.csv", rows))
    assert re.search(f"warning: .*{says}", capsys.readouterr().out)
    ingest.main()


MISTAKES: list[tuple[str, str, list[str], str]] = [
    ("a.csv", "", [], r"a.csv: is empty \(0 bytes\): export or fetch it again"),
    ("a.csv", "%PDF-1.7", [], "a.csv: is a PDF: copy its table into a spreadsheet"),
    ("a.csv", "version https://git-lfs.github.com/spec/v1", [], "a.csv: is a pointer of Git LFS: run `git lfs pull`"),
    ("a.csv", "<!DOCTYPE html>", [], "a.csv: is a web page: give the address of the file itself"),
    ("a.xls", "\xd0\xcf\x11\xe0\xa1", [], "a.xls: is of old Excel or Word: save it as .xlsx or CSV"),
    ("a.csv", "text,label\na b,x\nc d,y\n" * 9, ["--label", "lable"], "no column 'lable'; .* did you mean 'label'"),
    (
        "a.csv",
        "text,label\na b,x\nc d,y\n",
        [],
        "each of 2 rows has a label of its own in 'label', such as 'x'; --label",
    ),
    (
        "a.csv",
        "text,label\na b,x\nc d,x\n",
        [],
        "all 2 rows have the label 'x' in 'label', and a classifier needs two",
    ),
    ("a.csv", "text,label\n ,x\n ,y\n", [], "column 'text' is empty in all rows; --text names another column"),
    ("a.csv", "note\na b c\nd e f\n", [], r"no column holds labels: note \(2 values in 2 rows\); name one by --label"),
    ("a.json", '{"rows": 3}', [], r"a.json: no key of \['rows'\] holds a list of rows: write a list of objects"),
]


@pytest.mark.parametrize(("name", "content", "arguments", "says"), MISTAKES)
def test_a_mistake_ends_in_one_sentence(
    name: str, content: str, arguments: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=says):
        new(tmp_path / name, *arguments)
    assert not git("status", "--porcelain")


def test_a_wrong_path_a_zip_of_tables_and_a_hub_repository_without_commit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.csv", "text,label\n")
        archive.writestr("two.csv", "text,label\n")
    for source, says in {
        tmp_path / "rows.csv": r"rows.csv: no such file or folder; .* holds \['a.zip', 'fork'\]: correct DATA",
        tmp_path / "a.zip": r"a.zip: is a zip: unpack it, .*; in it are \['one.csv', 'two.csv'\]",
        "hf:owner/name": "hf:owner/name: name the commit, hf:owner/name@ and its 40 hexadecimal digits",
    }.items():
        with pytest.raises(InputError, match=says):
            new(source)


def test_nothing_is_written_over_uncommitted_params_or_without_a_yes(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", ROWS)
    with pytest.raises(SystemExit, match="nothing is written"):
        run_main(project, str(source))
    assert not git("status", "--porcelain")
    Path("params.yaml").write_text(FILE.read_text().replace("seed:", "seed:  "))
    with pytest.raises(InputError, match=r"params.yaml: has uncommitted changes"):
        new(source)


def test_what_is_fetched_becomes_an_asset_and_own_data_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"file://{write_csv(tmp_path / 'a.csv', ROWS)}"
    params = new(address, "--name", "desk")
    asset = params["fetch"]["assets"]["desk"]
    assert (asset["source"], asset["path"], params["ingest"]["path"]) == (address, "data/own/desk", "data/own/desk")
    commit_all()
    monkeypatch.setattr(files, "download_snapshot", lambda _, folder, __: write_division(folder / "data"))
    params = new(f"hf:owner/bank@{'0' * 40}")
    assert params["fetch"]["assets"]["bank"]["source"] == f"hf:datasets/owner/bank@{'0' * 40}"
    assert [source["file"] for source in params["ingest"]["sources"]] == ["data/train.csv", "data/test.csv"]
    commit_all()
    assert new(write_csv(Path("data/own/a.csv"), ROWS))["ingest"]["path"] == "data/own"
    assert not Path("data/own/a").exists()


SWEDISH = [
    {"Fråga": f"Hur lång tid tar hus nummer {n}?", "Svar": f"Det tar {n} år, om allt går bra."} for n in range(40)
]
SAID = [{"from": "human", "value": "Say it."}, {"from": "gpt", "value": "It is said."}]
ANSWERS = {"text": ["one"], "answer_start": [6]}
CHATS: list[tuple[list[Any], str, dict[str, Any], str]] = [
    (SWEDISH, "search", {"kind": "columns", "question": "Fråga", "answer": "Svar"}, "answer"),
    (
        [{"instruction": f"Say {n}.", "input": "", "output": f"It is {n}."} for n in range(40)],
        "none",
        {"kind": "alpaca"},
        "answer",
    ),
    ([{"conversations": SAID}] * 40, "none", {"kind": "sharegpt", "chat": "conversations"}, "answer"),
    (
        [{"q": f"What is {n}?", "a": f"It is the number {n}.", "topic": "ab"[n % 2]} for n in range(40)],
        "search",
        {"category": "topic"},
        "b",
    ),
    (
        [{"question": f"{n}?", "context": f"It is {n}.", "answers": ANSWERS} for n in range(40)],
        "given",
        {"kind": "squad"},
        "answer",
    ),
]


@pytest.mark.parametrize(("rows", "passages", "layout", "label"), CHATS)
def test_chats_are_for_the_language_model_and_their_texts_for_baselines(
    rows: list[Any], passages: str, layout: dict[str, Any], label: str, tmp_path: Path
) -> None:
    write_lines(rows)(tmp_path / "a.jsonl")
    params = new(tmp_path / "a.jsonl")
    (source,) = params["instruct_data"]["sources"]
    assert {key: source["layout"][key] for key in layout} == layout
    assert source["passages"] == passages
    assert list(params["fetch"]["assets"]) == ["wordnet", "minilm", "smollm2"]
    assert find_problems(Path("params.yaml")) == []
    ingest.main()
    assert label in pl.read_parquet("data/ingested/records.parquet")["label"]


def test_swedish_questions_become_chats_and_the_encoder_is_warned_of(
    tmp_path: Path, tiny_encoder: Path, tiny_chat_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(SWEDISH)(tmp_path / "a.jsonl")
    new(tmp_path / "a.jsonl")
    assert "texts are in 'sv', and the encoder models/base/minilm speaks ['en']" in capsys.readouterr().out
    change("embed", model=str(tiny_encoder))
    change("", language_model=str(tiny_chat_model))
    change("instruct_data", min_question_cosine=None, max_length_tokens=1024)
    instruct_data.main()
    assert pl.read_parquet("data/instruct/test.parquet").height > 2
