"""A reviewer sees the verdicts first and then what changed, whatever state the two revisions are in."""

import json
import math
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import write_text
from tests.own_process import commit_all, git, run_main
from tests.own_results import stamp_run_ids
from tools.changes import pull_request, sections
from tools.changes.revisions import commit_of
from tools.changes.sides import flatten
from tools.changes.staleness import dvc_hash

PARAMS: dict[str, Any] = {
    "seed": 1,
    "approaches": ["tfidf", "lora"],
    "finetune": {"lora": {"method": "lora", "rank": 8, "learning_rate": 0.001}},
    "ingest": {"sources": [{"name": "tweets", "format": "tsv"}]},
}
LORA = {"macro_f1": 0.70, "inference_ms_per_row": 2.0, "per_class": {"a|b": {"f1": 0.5, "support": 3}}}
LEFT_OUT = "Left out, as unreadable or not run on the data and params of its side:"
CLEAN: dict[str, Any] = {"rows_in": 7908, "rows_out": 7800, "removed": {"too_short": 0, "exact_duplicate": 108}}


def write_metrics(root: Path, **files: Any) -> None:
    for name, value in files.items():
        write_text(root / "metrics" / f"{name.replace('__', '/')}.json", json.dumps(value))


def write_params(root: Path, **changed: Any) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS | changed), encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit that has params, metrics and a lock."""
    write_params(tmp_path)
    write_metrics(tmp_path, evaluate__lora=LORA, clean=CLEAN, summary={"approaches": {}})
    write_text(tmp_path / "stages/clean.py", "# clean\n")
    deps = [{"path": "stages/clean.py", "md5": dvc_hash(tmp_path / "stages/clean.py")}]
    lock = {"stages": {"clean": {"deps": deps, "params": {"params.yaml": {"seed": 1}}}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    commit_all()
    return tmp_path


def written() -> str:
    run_main(pull_request, "main")
    return Path("report/pull_request.md").read_text(encoding="utf-8")


def row(text: str, start: str) -> list[str]:
    """Cells of the one table row that starts so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_nothing_changed_and_a_folder_of_a_larger_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, tables = written().partition("\n\n<details>")
    assert first.splitlines() == [
        "<!-- assay -->",
        "",
        "### No score can be compared with `main`",
        "",
        "- **No paired test**: no `metrics/predictions/` on the base or this branch; `make repro` writes it",
        "- **Cost** of training: not measured on both sides",
        "- **Rows**: no counts",
        "",
        f"Against `main` ({commit_of('main')[:10]}); docs/pull_requests.md says how to read this.",
    ]
    assert re.findall("<summary>(.*)</summary>", tables) == ["Rows by stage (1)"]
    folder = repository / "ml/assay"
    folder.mkdir(parents=True)
    for name in ("params.yaml", "metrics", "dvc.lock", "stages"):
        git("mv", name, f"ml/assay/{name}")
    git("commit", "--quiet", "-m", "moved")
    monkeypatch.chdir(folder)
    there, _, tables_there = written().partition("\n\n<details>")
    assert there.splitlines()[:-1] == first.splitlines()[:-1]
    assert tables_there == tables


def test_params_and_rows(repository: Path) -> None:
    changed = json.loads(json.dumps(PARAMS))
    changed["finetune"]["lora"]["rank"] = 16
    changed["finetune"]["lora"]["alpha"] = 32
    changed["approaches"] = ["lora"]
    changed["ingest"]["sources"][0]["format"] = "csv"
    write_params(repository, **changed)
    removed = {"exact_duplicate": 108, "near_duplicate": 100}
    write_metrics(repository, clean={"rows_in": 7908, "rows_out": 7700, "removed": removed})
    rules = ["near_duplicate", "exact_duplicate", "near_duplicate"]
    table = {"id": ["m:1", "m:2", "m:3"], "rule": rules, "before": ["a | b", "same", "another"]}
    pl.DataFrame(table).write_parquet(repository / "data/clean/removed.parquet", mkdir=True)
    text = written()
    assert row(text, "`finetune.lora.rank`") == ["`finetune.lora.rank`", "8", "16"]
    assert row(text, "`finetune.lora.alpha`") == ["`finetune.lora.alpha`", "–", "32"]
    assert row(text, "`approaches`") == ["`approaches`", '`["tfidf", "lora"]`', '`["lora"]`']
    assert row(text, "`ingest.sources.tweets.format`") == ["`ingest.sources.tweets.format`", "`tsv`", "`csv`"]
    cells = ["`clean`", "7,908", "7,800 → 7,700", "`exact_duplicate` 108, `near_duplicate` – → 100"]
    assert row(text, "`clean` | 7,908") == cells
    assert row(text, "`clean` `rows_out`")[1:] == ["7,800", "7,700", "−100"]
    # Where the data lies, with an example of the rule whose count is another.
    assert "- `near_duplicate` `m:1` <code>a &#124; b</code>\n" in text
    assert not re.search("m:[23]", text)


def test_metrics_of_an_approach_that_is_new_of_one_that_is_off_and_of_unknown_test_rows(repository: Path) -> None:
    write_metrics(repository, evaluate__lora=LORA | {"macro_f1": 0.75, "macro_f1_ci95_low": 0.73})
    assert row(written(), "`evaluate/lora` `macro_f1`")[1:] == ["0.7000", "0.7500", "not comparable"]
    write_params(repository, approaches=["tfidf", "full"])
    write_metrics(repository, evaluate__full=LORA)
    assert (repository / "metrics/evaluate/lora.json").is_file()
    text = written()
    assert row(text, "`evaluate/full` `macro_f1`")[1:] == ["–", "0.7000", "new"]
    assert row(text, "`evaluate/lora` `macro_f1`")[1:] == ["0.7000", "–", "gone"]
    assert "ci95" not in text


def test_wall_clock_is_apart(repository: Path) -> None:
    write_metrics(repository, evaluate__lora=LORA | {"inference_ms_per_row": 2.6})
    text = written()
    assert "<summary>Time and memory (1)</summary>" in text
    assert "Scores of models" not in text
    measured = ["train_seconds", "peak_memory_mib", "samples_per_second", "inference_ms_per_row"]
    keys = [*measured, "artefact_mib", "macro_f1", "rows_out", "epochs", "unpacked_mib"]
    assert [key for key in keys if sections.WALL_CLOCK.search(key)] == measured


def test_labels_and_values_that_are_no_numbers_do_not_break_the_tables(repository: Path) -> None:
    worse = LORA | {"per_class": {"a|b": {"f1": 0.4, "support": 3}, "`<img>`": {"f1": 1.0}}}
    odd = {"note": "text", "nothing": None, "odd": math.nan, "many": [1, 2]}
    write_metrics(repository, evaluate__lora=worse, clean=CLEAN | odd)
    text = written()
    assert "<code>per_class.a&#124;b.f1</code> | 0.5000 | 0.4000 | not comparable" in text
    assert "<img>" not in text
    assert row(text, "`clean` `note`") == ["`clean` `note`", "–", "`text`", "new"]
    assert row(text, "`clean` `odd`") == ["`clean` `odd`", "–", "`NaN`", "new"]
    assert row(text, "`clean` `many`") == ["`clean` `many`", "–", "`[1, 2]`", "new"]


def test_base_without_metrics_params_or_lock_and_then_neither_side(repository: Path) -> None:
    git("rm", "--quiet", "--cached", "-r", "metrics", "dvc.lock", "params.yaml")
    git("commit", "--quiet", "-m", "nothing yet")
    text = written()
    assert "- `main` has no metrics: every figure counts as new\n" in text
    assert row(text, "`evaluate/lora` `macro_f1`")[3] == "new"
    for path in (repository / "dvc.lock", *(repository / "metrics").rglob("*.json")):
        path.unlink()
    assert "There is no `dvc.lock` here: run `make repro` and commit it" in written()


def test_files_that_cannot_be_parsed(repository: Path) -> None:
    (repository / "metrics/clean.json").write_text("{", encoding="utf-8")
    (repository / "params.yaml").write_text("a: [", encoding="utf-8")
    assert f"{LEFT_OUT} `params.yaml`, `metrics/clean.json`\n" in written()


@pytest.mark.parametrize(
    ("file", "text"), [("stages/clean.py", "# changed\n"), ("params.yaml", yaml.safe_dump(PARAMS | {"seed": 2}))]
)
def test_metrics_of_older_code_or_params_are_called_out(repository: Path, file: str, text: str) -> None:
    (repository / file).write_text(text, encoding="utf-8")
    expected = "- **The metrics are not of this code and data**: `clean` did not run after an input changed. Run"
    assert expected in written()
    assert row(written(), "`clean` | `")[1] == f"`{file}`"


@pytest.mark.parametrize("base", ["no-such-branch", "--help", "main:params.yaml"])
def test_unknown_base_is_an_error(repository: Path, base: str) -> None:
    expected = rf"'{re.escape(base)}' is no revision .* branches here: main\. Fetch it"
    with pytest.raises(InputError, match=expected):
        commit_of(base)


def test_folder_without_git_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="no git repository"):
        commit_of("main")


def test_many_rows_are_cut_and_a_comment_is_never_longer_than_github_takes(repository: Path) -> None:
    write_metrics(repository, clean=CLEAN | {f"m{index}": 1 for index in range(250)})
    text = written()
    assert "| `clean` `m99` |" in text
    assert "| `clean` `m100` |" not in text
    assert "\n\n… and 150 more.\n\n</details>" in text
    tables = ["y" * 31_000] * 5
    text = pull_request.fit("first", tables, "main")
    assert 60_000 < len(text) <= 65_536
    assert text.endswith("3 longer tables do not fit in a comment: `git diff main -- metrics params.yaml dvc.lock`\n")
    assert pull_request.fit("first", tables[:1], "main") == f"first\n\n{tables[0]}\n"


def test_not_a_number_equals_itself_and_a_list_of_dicts_with_one_name_twice_keeps_both() -> None:
    assert sections.changes({("a",): math.nan}, {("a",): float("nan")}) == []
    assert len(sections.changes({("a",): math.nan}, {("a",): 1.0, ("b",): None})) == 2
    flat = flatten({"a": [{"name": "x", "v": 1}, {"name": "x", "v": 2}]})
    assert flat == {("a", "0", "name"): "x", ("a", "0", "v"): 1, ("a", "1", "name"): "x", ("a", "1", "v"): 2}


def test_metrics_of_other_data_or_params_are_left_out_and_named(repository: Path) -> None:
    stamp_run_ids(repository)
    commit_all()
    assert "Left out" not in written()
    assert "run_id" not in written()
    write_metrics(repository, evaluate__lora=LORA | {"run_id": "0" * 12}, cost__evaluate__lora={"ms": 2.0})
    write_metrics(repository, optional__dpo={"margin": 0.5, "run_id": "0" * 12})
    text = written()
    assert f"{LEFT_OUT} `evaluate@lora`\n" in text
    assert row(text, "`evaluate/lora` `macro_f1`")[3] == "gone"
    assert "margin" not in text  # switched off: no result, and no news
    assert "`ms`" not in text


def test_of_a_base_with_other_data_nothing_is_shown(repository: Path) -> None:
    write_params(repository, ingest={"sources": [{"name": "mails", "format": "csv"}]}, seed=2)
    text = written()
    assert "`main` is of other data: without a source in common, none of its results is compared" in text
    assert "tweets" not in text
    assert "<summary>Params" not in text
    assert row(text, "`evaluate/lora` `macro_f1`")[3] == "new"
