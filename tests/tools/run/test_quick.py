"""What `make quick` changes in params; tests/test_tutorial.py runs it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template_params import FILE, read_template_params
from tools.run.quick import unused_assets, write_quick_params


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
