"""`make new`: from files as people have them to params that the stages run with."""

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from stages import ingest, instruct_data
from tests.own_cases import read_cases
from tests.own_params import change
from tests.own_process import commit_all, git, run_main
from tests.template_params import FILE
from tools.new import files, project
from tools.new.plan import lengthen_training
from tools.params.check import find_problems

CASES = read_cases(__file__)

WORDS = {"good": "great happy fast cheap fine", "bad": "awful sad slow broken late", "so-so": "card bank app phone fee"}
PLACES = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris", "Quito", "Tokyo", "Accra", "Dover")


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
    path.parent.mkdir(exist_ok=True)
    pl.DataFrame(rows, list(header or ("text", "label")), orient="row").write_csv(path)
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def task(number: int, text: str, label: str) -> dict[str, Any]:
    """A task of Label Studio's with two annotations."""
    result = [{"from_name": "tone", "type": "choices", "value": {"choices": [label]}}]
    given = [{"completed_by": person, "result": result} for person in (1, 2)]
    return {"id": number, "data": {"body": text}, "annotations": given, "predictions": [], "meta": {}}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows in each of `FORMS`."""
    top = tmp_path_factory.mktemp("forms")
    TABLE.write_csv(top / "a.csv")
    (top / "a.csv.gz").write_bytes(gzip.compress(TABLE.write_csv().encode()))
    german = TABLE.select("label", "Grüße: " + pl.col("text").str.replace_all(",", ""))
    (top / "a.txt").write_bytes(german.write_csv(separator=";", include_header=False).encode("cp1252"))
    quoted = TABLE.select(ticket_id=IDS, Message=pl.col("text") + '\n"Bye"', Department="label")
    quoted.write_csv(top / "a.tsv", separator="\t")
    TABLE.select(utterance="text", intent="label").write_json(top / "a.json")
    TABLE.select(review="text", stars=pl.col("label").str.len_chars()).write_parquet(top / "a.parquet")
    for number, (text, label) in enumerate(ROWS):
        (top / "folders" / label).mkdir(parents=True, exist_ok=True)
        content = f"{text}: déjà".encode("cp1252" if number == 7 else "utf-8")
        (top / "folders" / label / f"{number}.txt").write_bytes(content)
    write_lines(top / "doccano.jsonl", [{"id": n, "data": t, "label": [lab]} for n, (t, lab) in enumerate(ROWS)])
    votes = [(t, lab, lab if n % 4 else None, lab if n % 6 else "bad") for n, (t, lab) in enumerate(ROWS)]
    book = openpyxl.Workbook()
    for cells in [("Comment", "Ann", "Bo", "Cy"), *votes]:
        book.worksheets[0].append(cells)
    book.save(top / "raters.xlsx")
    (top / "studio.json").write_text(json.dumps([task(number, *cells) for number, cells in enumerate(ROWS)]))
    judged = [{"sentence": text, "worker": who, "category": label} for text, label in ROWS for who in "abc"]
    write_lines(top / "judged.jsonl", judged)
    lists = [{"id": f"t{n}", "text": text, "votes": [n % 3, n % 3, n % 2]} for n, (text, _) in enumerate(ROWS)]
    write_lines(top / "lists.jsonl", lists)
    splits = {"version": 2, "train": ROWS[:40], "val": ROWS[40:50], "test": ROWS[50:]}
    (top / "splits.json").write_text(json.dumps(splits))
    write_csv(top / "files/train.csv", ROWS[:40], "text", "category")
    write_csv(top / "files/test.csv", ROWS[40:], "text", "category")
    threads = [(t, lab, f"t{n // 4}", ("train", "dev", "test")[n % 3]) for n, (t, lab) in enumerate(ROWS)]
    write_csv(top / "threads.csv", threads, "text", "label", "thread", "part")
    return top


RATED, DIVIDED = ("raters.xlsx", "studio.json", "judged.jsonl", "lists.jsonl"), ("splits", "files", "threads")
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = CASES["forms"]


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_data_is_found_and_ingested(name: str, forms: Path) -> None:
    columns, expected = FORMS[name]
    params = new(forms / name)
    source = params["ingest"]["source_defaults"] | params["ingest"]["sources"][0]
    assert {key: source[key] for key in ("columns", *expected)} == {"columns": columns, **expected}
    ingest.main()
    rows, ratings = (pl.read_parquet(f"data/ingested/{table}.parquet") for table in ("records", "ratings"))
    assert (rows.height, rows["label"].n_unique()) == (60, 3)
    assert (ratings.height > 60) == (name in RATED)
    if name.startswith(DIVIDED):
        assert {params["split"]["given_values"][value] for value in rows["given_split"]} >= {"train", "test"}
    else:
        assert params["split"]["given_column"] is None


def test_what_is_written_is_right_in_every_section_and_keeps_the_comments(forms: Path) -> None:
    params = new(forms / "threads.csv")
    assert find_problems(Path("params.yaml")) == []
    assert list(params["fetch"]["assets"]) == ["wordnet", "minilm"]
    assert params["optional"]["instruct_data"] == params["optional"]["ppo"] == params["sft_approaches"] == []
    assert (params["split"]["group_column"], params["label_errors"]["evidence"]) == ("thread", None)
    comments = [line for line in FILE.read_text().splitlines() if line.startswith("# ")]
    assert set(comments) <= set(Path("params.yaml").read_text().splitlines())


def test_few_rows_are_trained_on_for_more_epochs(forms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = new(forms / "raters.xlsx")["finetune"]
    said = capsys.readouterr().out
    assert "not sure: 60 labelled rows are few steps of training, so finetune.defaults.max_epochs: 20" in said
    assert "not sure: label: of one rater, drawn by `seed`; reference_label, which scores test rows" in said
    epochs = {name: block["max_epochs"] for name, block in blocks.items() if "max_epochs" in block}
    assert (epochs, blocks["defaults"]["patience_epochs"]) == ({"defaults": 20, "linear_probe": 40, "qlora": 20}, 5)
    params = yaml.safe_load(FILE.read_text())
    # 750 rows: 525 to train on are 17 steps an epoch of 32.
    assert set(lengthen_training(params, 750).values()) == {10, 5}
    assert lengthen_training(params, 4000) == {}


def test_numbers_of_raters_have_an_order(forms: Path) -> None:
    assert new(forms / "lists.jsonl")["annotation_qa"]["label_order"] == ["0", "1", "2"]


WARNED: dict[str, list[Any]] = {
    r"24 of 60 rows \(40%\) have no text": [(t if n % 5 > 1 else "", label) for n, (t, label) in enumerate(ROWS)],
    r"24 rows \(40%\) have no label": [(text, label if n % 5 > 1 else "") for n, (text, label) in enumerate(ROWS)],
    r"labels with under 10 rows: 'rare' \(1\)": [*ROWS, ("A lonely one, here", "rare")],
    r"look-alike labels: 'Good ' \(1 rows\) as 'good'": [*ROWS, ("A lonely one, here", "Good ")],
    "41 labels in 60 rows: ids, or free text": [(text, f"x{max(n, 19)}") for n, (text, _) in enumerate(ROWS)],
    "texts are in 'sv'": [(f"Jag är {n} år och bor hemma hos min mamma", ROWS[n][1]) for n in range(60)],
}


@pytest.mark.parametrize("says", WARNED)
def test_what_will_not_go_well_is_said_and_ingest_runs(
    says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = new(write_csv(tmp_path / "a.csv", WARNED[says]))
    assert params["clean"]["missing"]["label"] == ("pool" if "no label" in says else "drop")
    assert re.search(f"warning: .*{says}", capsys.readouterr().out)
    ingest.main()


MISTAKES = CASES["mistakes"]


@pytest.mark.parametrize("says", MISTAKES)
def test_a_mistake_ends_in_one_sentence(says: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.json" if "rows" in MISTAKES[says] else "a.csv")
    path.write_text(MISTAKES[says], encoding="latin-1")
    with pytest.raises(InputError, match=says):
        new(path, *(["--label", "lable"] if "lable" in says else []))
    assert not git("status", "--porcelain")


def test_a_wrong_path_several_sheets_and_a_hub_repository_without_commit(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.create_sheet("Votes")
    book.save(tmp_path / "a.xlsx")
    sources: dict[str | Path, str] = {
        tmp_path / "rows.csv": r"rows.csv: no such file or folder; there is \['a.xlsx', 'fork'\]: correct DATA",
        tmp_path / "a.xlsx": r"a.xlsx: has the sheets \['Sheet', 'Votes'\]; set its `sheet` to one of them",
        "https://me:planted@a.example/x.csv": r"^https://\*\*\*@a.example/x.csv holds a secret",
        "hf:owner/name": "hf:owner/name: name the commit, hf:owner/name@ and its 40 hexadecimal digits",
    }
    for source, says in sources.items():
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


def test_what_is_fetched_is_copied_and_own_data_stay_where_they_are(
    forms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = new(f"file://{forms}/a.csv", "--name", "desk")
    assert (params["ingest"]["path"], Path("data/own/desk/a.csv").is_file()) == ("data/own/desk", True)
    commit_all()
    asked = []

    def copy(source: str, folder: Path, _: int) -> None:
        asked.append(source)
        shutil.copytree(forms / "files", folder / "data")

    monkeypatch.setattr(files, "download_snapshot", copy)
    params = new(f"hf:owner/bank@{'0' * 40}")
    assert asked == [f"hf:datasets/owner/bank@{'0' * 40}"]
    assert [source["file"] for source in params["ingest"]["sources"]] == ["bank.jsonl"]
    commit_all()
    assert new(write_csv(tmp_path / "Frågor 1.csv", ROWS))["ingest"]["path"] == "data/own/Fragor_1"
    commit_all()
    assert new(write_csv(tmp_path / "工 单.csv", ROWS))["ingest"]["path"] == "data/own/data"
    commit_all()
    assert new(write_csv(Path("data/own/a.csv"), ROWS))["ingest"]["path"] == "data/own"
    assert not Path("data/own/a").exists()


CHATS: dict[str, tuple[dict[str, Any], str, str]] = {
    "columns": ({"q": "What is {}?", "a": "It is the number {}.", "topic": "%"}, "search", "1"),
    "alpaca": ({"instruction": "Say {}.", "input": "", "output": "It is {}."}, "none", "answer"),
    "squad": ({"question": "{}?", "context": "It is {}.", "answers": {"text": ["{}"]}}, "given", "answer"),
}


@pytest.mark.parametrize("kind", CHATS)
def test_chats_are_for_the_language_model_and_their_texts_for_baselines(kind: str, tmp_path: Path) -> None:
    row, passages, label = CHATS[kind]
    rows = [json.loads(json.dumps(row).replace("{}", str(n)).replace("%", str(n % 2))) for n in range(40)]
    params = new(write_lines(tmp_path / "a.jsonl", rows))
    (source,) = params["instruct_data"]["sources"]
    assert (source["layout"]["kind"], source["passages"]) == (kind, passages)
    assert list(params["fetch"]["assets"]) == ["wordnet", "minilm", "smollm2"]
    assert find_problems(Path("params.yaml")) == []
    ingest.main()
    assert label in pl.read_parquet("data/ingested/records.parquet")["label"]


def test_swedish_questions_become_chats_and_the_encoder_is_warned_of(
    tmp_path: Path, tiny_encoder: Path, tiny_chat_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"Fråga": f"Hur lång tid tar hus nummer {n}?", "Svar": f"Det tar {n} år, om det går bra."} for n in range(40)
    ]
    new(write_lines(tmp_path / "a.jsonl", rows))
    assert "texts are in 'sv', and the encoder models/base/minilm speaks ['en']" in capsys.readouterr().out
    change("embed", model=str(tiny_encoder))
    change("", language_model=str(tiny_chat_model))
    change("instruct_data", min_question_cosine=None, max_length_tokens=1024)
    instruct_data.main()
    assert pl.read_parquet("data/instruct/test.parquet").height > 2
