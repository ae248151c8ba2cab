"""The commands of docs/tutorial.md, as they stand there, on a file of 700 rows and a tiny encoder."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.mini_wordnet import write_mini_wordnet
from tests.own_process import commit_all, git, read_blocks, run_shell
from tests.pipeline_copy import archive, rated_rows
from tools.params.preset import write_preset
from tools.run.quick import copy_path, copy_tree

CUT = {
    "approaches": ["tfidf", "linear_probe", "full"],
    "optional.robustness": [],
    "semantic_duplicates.min_cosine": 0.995,  # to random weights, all texts are alike
    "label_errors.folds": 2,
    "augment.workers": 1,
    "finetune.defaults.max_epochs": 1,
    "evaluate.simulations": 100,
}
TEMPLATE_WORDS = ("tweets", "amazon", "vader", "faq", "smollm2", "robustness")
MAKE = """#!/bin/sh
# No set-up; and few rows decide nothing.
[ "$1" = gate ] || exec /usr/bin/make -o .venv/.installed "$@"
/usr/bin/make -o .venv/.installed "$@" || [ $? = 2 ]
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_commands_lead_from_a_file_to_a_served_prediction(
    repository: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    copy_tree(tmp_path / "my-project")
    monkeypatch.chdir(tmp_path / "my-project")
    copy_path(tiny_encoder, Path("assets/minilm"))
    write_mini_wordnet(Path("assets/wordnet"))
    lines = dict(CUT)
    for name in ("minilm", "wordnet"):
        packed = f"assets/{name}.tar.gz"
        asset = {"source": packed, "sha256": archive(Path("assets", name), Path(packed)), "unpack": [name]}
        lines |= {f"fetch.assets.{name}.{key}": value for key, value in asset.items()}
    cut, params = tmp_path / "cut.yaml", Path("params.yaml")
    cut.write_text(yaml.safe_dump({"classifiers": lines, "language_models": {}}))
    params.write_text(write_preset(params.read_text(encoding="utf-8"), cut)[0], encoding="utf-8")
    Path(".venv").symlink_to(repository / ".venv")
    Path(".git/info").mkdir(parents=True)
    Path(".git/info/exclude").write_text(".venv\nassets\n")  # `make quick` takes what git does not have, too
    commit_all()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").write_text(MAKE)
    (tmp_path / "bin/make").chmod(0o755)
    kinds = {-1: "complaint", 0: "question", 1: "praise"}
    rows = pl.DataFrame({"text": text, "label": kinds[int(key) % 3 - 1]} for key, _, text, _ in rated_rows(700))
    rows.write_csv(tmp_path / "tickets.csv")
    rows.head(20).select("text").write_csv(tmp_path / "new_tickets.csv")

    said = []
    for block in read_blocks("tutorial.md", "tutorial"):
        said.append(run_shell(block, f"PATH={tmp_path}/bin:$PATH\n"))
        if "make quick" in block:
            assert "quick look: 600 of 700 rows; its scores are no results" in said[-1]
            assert git("status", "--porcelain") == ""
            report = Path("report/quick.html").read_text(encoding="utf-8").lower()
            assert "a quick look at a cut of the rows" in report
            assert not [word for word in TEMPLATE_WORDS if word in report]
    assert "max_word_ngram" in Path("report/pull_request.md").read_text(encoding="utf-8")
    answers = pl.read_csv(tmp_path / "answers.csv")
    assert (answers.height, set(answers["label"].drop_nulls()) <= set(kinds.values())) == (20, True)
    (served,) = [line for line in said[-1].splitlines() if '"predictions"' in line]  # beside what the server says
    (answer,) = json.loads(served)["predictions"]
    assert answer["label"] in kinds.values()
