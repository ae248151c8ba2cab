"""Every stage of both tracks on small data in one process, and the whole DAG by `dvc repro` on somebody else's data."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from assay.report.summary import ROW_STAGES
from assay.statistics.metrics_dict import leaves
from tests.own_process import run_python
from tests.pipeline_copy import run_in_forks, write_params, write_pipeline_copy
from tests.test_pipeline import resolved_stages
from tests.tiny_models import WORDS

TRACKS = ("results", "generation")
KEY = "planted-0123456789"
CLASSES = 77
ROWS_PER_CLASS = 14
DATA_STAGES = [*ROW_STAGES, "profile"]


def write_two_columns(path: Path) -> None:
    """Texts that name their class by a rare word among common ones."""
    random = np.random.default_rng(5)
    words = WORDS.split()
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "category"])
        for number in range(CLASSES * ROWS_PER_CLASS):
            category = number % CLASSES
            text = " ".join([*random.choice(words, 4), f"topic{category}", *random.choice(words, 4)])
            writer.writerow([f"{text}, please?", f"class_{category:02}"])


# The whole DAG runs in a fixture: two to five minutes, more on a busy machine.
pytestmark = pytest.mark.timeout(1800)

IMPORTS = """
import datasets, peft, trl
trl.SFTTrainer, trl.RewardTrainer, trl.DPOTrainer, trl.RLOOTrainer  # imported where they are first named
"""


@pytest.fixture(scope="module")
def run_folder(
    repository: Path, tiny_encoder: Path, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Where every stage of `dvc.yaml` has run once, in its order, without DVC."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    params = write_pipeline_copy(repository, folder, tiny_encoder, tiny_chat_model, feedback_rows=120)
    stages = resolved_stages(yaml.safe_load((folder / "dvc.yaml").read_text()), params)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "ASSAY_TOKEN", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, KEY)
        patch.setenv("PIP_INDEX_URL", f"https://me:{KEY}@127.0.0.1:9/simple")
        codes, said = run_in_forks([[str(folder), *stage.command[2:]] for stage in stages], folder, IMPORTS)
    (folder / "said.log").write_text(said)
    assert dict(zip((stage.name for stage in stages), codes, strict=True)) == {stage.name: 0 for stage in stages}, said
    return folder


def test_a_key_of_the_environment_is_in_no_file_and_in_nothing_that_was_said(run_folder: Path) -> None:
    files = [path for path in run_folder.rglob("*") if path.is_file()]
    assert {"said.log", "summary.json", "index.html"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_classification_from_raw_files_to_a_report(run_folder: Path) -> None:
    summary = json.loads((run_folder / "metrics/summary.json").read_text())
    assert set(summary["approaches"]) == {"lora", "full"}
    assert set(summary["baselines"]) == {"tfidf"}
    assert summary["baselines"]["tfidf"]["accuracy_ci95_low"] > 1 / 3  # chance
    assert "lora" in (run_folder / "report/index.html").read_text()


def test_no_interval_has_zero_width(run_folder: Path) -> None:
    # The language models' are not looked at here.
    files = [file for name in ("evaluate", "robustness") for file in (run_folder / "metrics" / name).glob("*.json")]
    ends = dict(
        leaves({file.name: json.loads(file.read_text()) for file in (*files, run_folder / "metrics/summary.json")})
    )
    lows = [path for path, end in ends.items() if path.endswith("_ci95_low") and end is not None]
    assert lows
    assert [path for path in lows if not ends[path] < ends[path.removesuffix("low") + "high"]] == []


def test_language_models_from_chats_to_policies_side_by_side(run_folder: Path) -> None:
    for model in ("base", "sft-full", "sft-lora", "dpo", "rloo", "ppo"):
        scores = json.loads((run_folder / f"metrics/evaluate_generation/{model}.json").read_text())
        assert [scores[mode]["rows"] for mode in ("retrieved", "closed")] == [4, 4], model
    assert "ppo" in (run_folder / "report/index.html").read_text()


@dataclass(frozen=True)
class Project:
    """A forked project after its first `dvc repro`."""

    folder: Path
    first_run: str

    def dvc(self, *arguments: str, hash_seed: str = "0") -> str:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONHASHSEED": hash_seed,
        }
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"dvc {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def metrics(self, name: str) -> Any:
        return json.loads((self.folder / f"metrics/{name}.json").read_text())

    def output_hashes(self) -> dict[str, str]:
        """MD5 of every output of the data stages, as DVC noted them."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        outs = [out for stage in DATA_STAGES for out in lock[stage]["outs"] if out["path"].startswith("data/")]
        return {out["path"]: out["md5"] for out in outs}


def start_project(folder: Path, repository: Path, params: dict[str, Any]) -> Project:
    """A copy of the pipeline with these params under DVC, without git; nothing has run."""
    write_params(folder, params)
    project = Project(folder, "")
    project.dvc("init", "--no-scm", "-q")
    (folder / ".dvc/config").write_text((repository / ".dvc/config").read_text())
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    return project


def set_up(folder: Path, repository: Path, params: dict[str, Any]) -> Project:
    """Somebody's two-column file in a copy of the pipeline, by the params that README tells a forker to change."""
    write_two_columns(folder / "data/mine/questions.csv")
    source: dict[str, Any] = {"name": "questions", "file": "questions.csv", "format": "csv", "header": True}
    source |= {"url": "https://example.org/questions", "licence": None, "retrieved": None, "authenticity": "real"}
    source["columns"] = {"text": "text", "label": "category"}
    params["ingest"] |= {"path": "data/mine", "sources": [source], "rating_bins": None}
    return start_project(folder, repository, params)


@pytest.fixture(scope="module")
def project(
    repository: Path, tiny_encoder: Path, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    folder = tmp_path_factory.mktemp("smoke") / "fork"
    params = write_pipeline_copy(repository, folder, tiny_encoder, tiny_chat_model, feedback_rows=3)
    project = set_up(folder, repository, params)
    return Project(folder, project.dvc("repro"))


@pytest.mark.slow
def test_every_stage_ran_and_what_needs_ratings_says_that_there_are_none(project: Project) -> None:
    summary = project.metrics("summary")
    assert set(summary["approaches"]) == {"lora", "full"}
    assert set(summary["baselines"]) == {"tfidf"}
    for name, scores in (summary["approaches"] | summary["baselines"]).items():
        assert scores["accuracy_ci95_low"] <= scores["accuracy"] <= scores["accuracy_ci95_high"]
        assert scores["trainable_parameters"] > 0
        costs = project.metrics(f"cost/finetune/{name}")
        assert min(costs["train_seconds"], costs["peak_memory_mib"]) > 0
    # Something was learnt from ten rows a class: chance is one in 77.
    assert summary["baselines"]["tfidf"]["accuracy_ci95_low"] > 20 / CLASSES
    agreement = project.metrics("annotation_qa")
    assert agreement["ratings"] == 0
    assert "krippendorff_alpha_nominal" not in agreement
    assert project.metrics("clean")["rows_out"] == CLASSES * ROWS_PER_CLASS
    assert "average_precision" not in json.dumps(project.metrics("label_errors"))
    assert (project.folder / "report/index.html").stat().st_size > 10_000


@pytest.mark.slow
def test_of_two_test_rows_a_label_macro_f1_has_no_interval_and_accuracy_decides(project: Project) -> None:
    summary = project.metrics("summary")
    assert summary["verdicts"]["decided_on"] == "accuracy"
    assert len(summary["few_test_rows"]) == CLASSES
    for scores in (summary["approaches"] | summary["baselines"]).values():
        assert scores["macro_f1_without_ci95"] == f"labels with under 20 test rows: {CLASSES}"
        assert "macro_f1_ci95_low" not in scores
        assert scores["accuracy_ci95_low"] < scores["accuracy"] < scores["accuracy_ci95_high"]


def test_report_and_tables_name_nothing_of_the_templates_data(project: Project) -> None:
    (project.folder / "README.md").write_text(
        "".join(f"<!-- {name}: `make readme` writes them from metrics/ -->\n<!-- /{name} -->\n" for name in TRACKS)
    )
    said = [(project.folder / "report/index.html").read_text(encoding="utf-8")]
    said += [
        run_python("-m", "tools.changes.readme_results", *arguments, cwd=project.folder).stdout
        for arguments in ([], ["--write", "README.md"])
    ]
    said.append((project.folder / "README.md").read_text(encoding="utf-8"))
    words = ("vader", "tweets", "amazon", "hutto", "feedback")
    assert [word for text in said for word in words if word in text.lower()] == []
    assert all("questions" in text for text in (said[0], said[1], said[3]))
    assert "left out" not in said[1]


@pytest.mark.slow
def test_again_at_once_nothing_runs(project: Project) -> None:
    assert "Running stage" not in project.dvc("repro")
    assert "up to date" in project.dvc("status", "dvc.yaml")


@pytest.mark.slow
def test_data_stages_give_the_same_bytes_for_another_hash_seed_and_other_workers(project: Project) -> None:
    before = project.output_hashes()
    assert len(before) == len(DATA_STAGES)
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    params["augment"]["workers"] = 2
    write_params(project.folder, params)
    # label_errors brings in whatever comes before it; -s runs the named stages alone.
    project.dvc("repro", "--force", "--single-item", *DATA_STAGES, hash_seed="123")
    assert project.output_hashes() == before


@pytest.mark.slow
def test_one_changed_param_runs_one_approach_again(project: Project) -> None:
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    params["finetune"]["lora"]["rank"] += 1
    write_params(project.folder, params)
    lines = project.dvc("repro").splitlines()
    ran = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    assert sorted(ran) == ["evaluate@lora", "finetune@lora", "report", "review_queue@full", "robustness@lora"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("assay/reinforcement/ppo_equations.py", {"rloo@default", "ppo@default"}),
        ("assay/cleaning/html_text.py", {"clean", "instruct_data@default"}),
        ("assay/report/plots.py", {"report"}),
    ],
)
def test_a_change_in_a_room_makes_no_stage_stale_but_those_that_use_it(
    project: Project, file: str, stale: set[str]
) -> None:
    path = project.folder / file
    before = path.read_text()
    try:
        path.write_text(f"{before}# changed\n")
        assert set(json.loads(project.dvc("status", "--json", "dvc.yaml"))) == stale
    finally:
        path.write_text(before)


@pytest.mark.slow
def test_plots_render(project: Project) -> None:
    project.dvc("plots", "show", "--out", "plots")
    assert "full.csv" in (project.folder / "plots/index.html").read_text()


@pytest.mark.slow
def test_two_approaches_alone_from_raw_data_to_a_report_of_them(
    repository: Path, tiny_encoder: Path, tiny_chat_model: Path, tmp_path: Path
) -> None:
    params = write_pipeline_copy(repository, tmp_path / "fork", tiny_encoder, tiny_chat_model, feedback_rows=3)
    params |= {"approaches": ["tfidf", "linear_probe"], "sft_approaches": [], "generation_models": {}}
    params["optional"] = {name: [] for name in params["optional"]}
    params["label_errors"]["models"]["finetuned"] = None
    for name in ("faq", "smollm2"):
        del params["fetch"]["assets"][name]
    project = set_up(tmp_path / "fork", repository, params)
    project.dvc("repro")
    assert "up to date" in project.dvc("status", "dvc.yaml")
    summary = project.metrics("summary")
    assert set(summary["approaches"]) == {"linear_probe"}
    assert set(summary["baselines"]) == {"tfidf"}
    report = (project.folder / "report/index.html").read_text().lower()
    assert "linear_probe" in report
    for other in ("lora", "prompt_tuning", "prefix_tuning", "ia3", "finetune@full", "majority"):
        assert other not in report
    for absent in ("language model", "robustness", "review_queue", "smollm2", "faq", "tweets"):
        assert absent not in report
