import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.own_process import commit_all, git, run_python
from tests.pipeline_copy import write_params, write_pipeline_copy
from tests.template_params import FILE, read_template_params
from tools.run.quick import unused_assets, write_quick_params

TEMPLATE_WORDS = ("tweets", "amazon", "vader", "faq", "smollm2", "injected", "robustness")


def test_assets_of_the_language_models_alone_are_not_fetched() -> None:
    paths = {"texts": "data/raw/texts", "chats": "data/raw/chats", "encoder": "models/base/e", "model": "models/base/m"}
    params: dict[str, Any] = {
        "fetch": {"assets": {name: {"path": path} for name, path in paths.items()}},
        "ingest": {"path": "data/raw/texts"},
        "embed": {"model": "models/base/e"},
        "finetune": {"defaults": {"model": "models/base/e"}},
        "language_model": "models/base/m",
        "instruct_data": {"path": "data/raw/chats"},
    }
    assert unused_assets(params) == ["chats", "model"]
    params["finetune"]["defaults"]["model"] = "models/base/m"
    params["instruct_data"]["path"] = "data/raw/texts"
    assert unused_assets(params) == []


def test_quick_params_keep_the_data_of_a_fork_and_what_is_not_about_budgets(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    before = read_template_params()
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text())
    write_quick_params(path)
    params = yaml.safe_load(path.read_text())
    assert params["max_rows"] == 600
    assert not any(params["optional"].values())
    for section in ("ingest", "correct", "clean", "embed", "semantic_duplicates"):
        assert params[section] == before[section]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_two_column_file_becomes_a_report_and_nothing_of_the_tree_changes(
    repository: Path, tiny_encoder: Path, tiny_chat_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fork"
    params = write_pipeline_copy(repository, folder, tiny_encoder, tiny_chat_model, feedback_rows=3)
    for name in (".gitignore", ".dvc/config", ".dvc/.gitignore", "tools/run/quick.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((repository / name).read_text())
    # Data that git does not have, assets too.
    with (folder / ".gitignore").open("a") as file:
        file.write("/assets/\n")
    (folder / "data/own").mkdir(parents=True)
    with (folder / "data/own/rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["said", "kind"])
        writer.writerows(
            (f"the card number {row} is {('good', 'late')[row % 2]}", f"kind{row % 2}") for row in range(700)
        )
    source = params["ingest"]["sources"][0] | {"name": "mine", "file": "rows.csv", "format": "csv", "header": True}
    source |= {"columns": {"text": "said", "label": "kind"}, "ratings": None, "url": "https://example.org/mine"}
    params["ingest"] |= {"path": "data/own", "sources": [source], "rating_bins": None}
    del params["fetch"]["assets"]["feedback"]
    write_params(folder, params)
    commit_all(folder)

    done = run_python("-m", "tools.run.quick", cwd=folder)
    assert "quick look: 600 of 700 rows; its scores are no results" in done.stdout
    assert all(f"  {name} " in done.stdout for name in ("lora", "linear_probe", "tfidf"))
    assert git("status", "--porcelain", cwd=folder) == ""
    assert not (folder / "dvc.lock").exists()
    report = (folder / "report/quick.html").read_text().lower()
    assert "a quick look at a cut of the rows" in report
    assert not [word for word in TEMPLATE_WORDS if word in report]
