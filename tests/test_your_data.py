"""Somebody's file by `make new`, and every stage after it to the report, with nothing edited between: five forms."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import openpyxl
import polars as pl
import pytest
import yaml

from assay.core.outputs import read_json
from tests.own_process import commit_all, run_main, run_python
from tests.pipeline_copy import run_in_forks, write_params, write_pipeline_copy
from tests.test_pipeline import resolved_stages
from tests.tools.new.test_project import row, task
from tools.new import project

ROWS = [row(number) for number in range(120)]
SWEDISH = {
    "öppettider": "När öppnar {} på {}?|Hur länge har {} öppet på {}?|Stänger {} tidigare på {} i år?",
    "avgift": "Vad kostar det att lämna saker på {} en {}?|Tar {} betalt för sopor på {}?|Är {} dyrare på {}?",
}
PLACES = ["återvinningscentralen", "återbruket", "returhuset", "miljöstationen", "kretsloppsparken"]
DAYS = ["måndag", "tisdag", "onsdag", "torsdag", "fredag", "lördag", "söndag", "julafton", "nyårsafton", "påskdagen"]


def write_folders(path: Path) -> None:
    for number, (text, label) in enumerate(ROWS):
        (path / label).mkdir(parents=True, exist_ok=True)
        (path / label / f"{number}.txt").write_text(text)


def write_raters(path: Path) -> None:
    book = openpyxl.Workbook()
    votes = [(text, lab, lab if n % 8 else "bad", lab if n % 5 else None) for n, (text, lab) in enumerate(ROWS)]
    for cells in [("Comment", "Ann", "Bo", "Cy"), *votes]:
        book.worksheets[0].append(cells)
    book.save(path)


def write_studio(path: Path) -> None:
    tasks = [task(number, *cells) for number, cells in enumerate(ROWS)]
    for number, (text, _) in list(enumerate(ROWS))[::7]:
        tasks[number]["annotations"][1] = task(number, text, "good")["annotations"][1]
    path.write_text(json.dumps(tasks))


def write_swedish(path: Path) -> None:
    rows = [
        (form.format(place, day), label)
        for label, forms in SWEDISH.items()
        for number, form in enumerate(forms.split("|"))
        for place in PLACES
        for day in DAYS[number::2]
    ]
    pl.DataFrame(rows, ["Fråga", "Ärende"], orient="row").write_csv(path)


SPLITS = {"train": ROWS[:80], "val": ROWS[80:100], "test": ROWS[100:]}
FORMS: dict[str, Callable[[Path], object]] = {
    "splits.json": lambda path: path.write_text(json.dumps(SPLITS)),
    "folders": write_folders,
    "raters.xlsx": write_raters,
    "studio.json": write_studio,
    "frågor.csv": write_swedish,  # DVC runs it: a name of a file is not of ASCII alone
}


@pytest.fixture(scope="module")
def forks(
    repository: Path, tiny_encoder: Path, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A fork for each form, of which all stages ran; before `make new`, its params were cut to take less time."""
    top, jobs, made = tmp_path_factory.mktemp("forms"), list[list[str]](), dict[str, Path]()
    cut = write_pipeline_copy(repository, top / "fork", tiny_encoder, tiny_chat_model, feedback_rows=3)
    cut["approaches"] = ["tfidf", "linear_probe"]
    cut["semantic_duplicates"]["min_cosine"] = 0.9999  # to random weights, all texts are alike
    cut["optional"] |= {"robustness": [], "review_queue": ["linear_probe"]}
    write_params(top / "fork", cut)
    for name, write in FORMS.items():
        write(top / name)
        fork = made[name] = top / f"fork-{len(made)}"
        shutil.copytree(top / "fork", fork)
        commit_all(fork)
        with contextlib.chdir(fork):
            run_main(project, str(top / name), "--yes")
        params, dag = (yaml.safe_load((fork / f"{file}.yaml").read_text("utf-8")) for file in ("params", "dvc"))
        jobs += [[str(fork), *stage.command[2:]] for stage in resolved_stages(dag, params) if name.isascii()]
    codes, said = run_in_forks(jobs, repository)
    assert not any(codes), said
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for arguments in (["init", "--quiet"], ["repro"]):
        run_python("-m", "dvc", *arguments, cwd=fork, PATH=binaries, PYTHONPATH="")
    return made


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FORMS)
def test_a_file_becomes_a_report_with_nothing_edited_by_hand(name: str, forks: dict[str, Path]) -> None:
    fork = forks[name]
    rows = pl.read_parquet(fork / "data/ingested/records.parquet")
    assert (rows.height, rows["label"].n_unique()) == ((140, 2) if name == "frågor.csv" else (120, 3))
    metrics = {path.stem: read_json(path) for path in (fork / "metrics").glob("*.json")}
    splits = [metrics["split"]["rows"][split] for split in ("train", "validation", "test")]
    assert (splits == [80, 20, 20]) == (name == "splits.json")
    assert min(splits) > 4
    # Who most raters are, where they tie, `ingest` and `annotation_qa` agree on.
    agreed = metrics["annotation_qa"].get("consensus_agrees_with_reference")
    assert agreed == (1.0 if name in ("raters.xlsx", "studio.json") else None)
    summary = metrics["summary"]
    assert (list(summary["baselines"]), list(summary["approaches"])) == (["tfidf"], ["linear_probe"])
    assert summary["baselines"]["tfidf"]["accuracy_ci95_low"] > 1 / rows["label"].n_unique()  # more than by chance
    report = (fork / "report/index.html").read_text(encoding="utf-8").lower()
    assert not [word for word in ("tweets", "vader", "amazon", "faq", "smollm2") if word in report]
