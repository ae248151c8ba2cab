import json
from pathlib import Path
from typing import Any

import pytest

from assay.report.language_models import course, read_generation
from tests.generation_inputs import APPROACHES, MODELS, write_generation_inputs
from tests.own_results import stamp_run_ids

STAGES = ["reward", "dpo", "rloo", "ppo", "compare_generation"]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_generation_inputs(tmp_path)
    params = {"optional": {name: ["default"] for name in STAGES}, "sft_approaches": APPROACHES}
    (tmp_path / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    stamp_run_ids(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_all() -> dict[str, Any]:
    found = read_generation(MODELS, APPROACHES)
    assert found is not None
    return found


def test_models_stand_in_their_order_with_every_score(inputs: Path) -> None:
    found = read_all()
    assert [name for name, _ in found["models"]] == ["base", "sft-lora", "ppo"]
    columns = [name for name, _ in found["columns"]]
    by_column = dict(zip(columns, found["models"][1][1], strict=True))
    assert by_column["perplexity, open book"] == "2.60 [2.50, 2.70]"
    assert by_column["perplexity, closed book"] == "20 [19.9, 20.1]"
    assert by_column["chrF, closed book"] == "–"
    assert by_column["refuses rightly"] == "3 of 4"
    assert [name for name, _ in found["baselines"]] == ["copy nearest", "majority label"]
    assert found["rows"] == {"open book": 3, "retrieved": 3, "closed book": 3, "without an answer": 4, "labels": 3}
    assert found["held"] == 0
    assert found["left_out"] == {"sft-qlora": "no 4-bit arithmetic here"}
    assert found["people"] == 0


def test_what_a_pair_was_not_asked_is_none(inputs: Path) -> None:
    first, second = read_all()["pairs"]
    assert first[:2] == ("sft-lora", "base")
    assert [one and round(one.value, 2) for one in first[2]] == [0.66, None, -0.01, None, None, 0.7, 0.8, None]
    assert second == ("ppo", "sft-lora", [None] * 8)


def test_every_model_answers_the_same_questions(inputs: Path) -> None:
    first, second, third = read_all()["questions"]
    assert first["answers"] == {name: f"{name} says <so>" for name in ("base", "sft-lora", "ppo")}
    assert first["passages"] == ["The <owner> pays."]
    assert (second["mode"], second["reference"]) == ("unanswerable", "I do not know.")
    assert third["passages"] == []


def test_plots_show_every_approach_that_ran(inputs: Path) -> None:
    found = read_all()
    sft, _, sampled, _ = found["courses"].values()
    assert [sft.count(f">{name}</text>") for name in ("lora", "qlora")] == [1, 0]
    assert [sampled.count(f">{name}</text>") for name in ("ppo", "rloo")] == [1, 1]


def test_a_course_leaves_out_steps_without_a_value(inputs: Path) -> None:
    assert course(Path("metrics/plots/sft_loss/lora.csv"), "validation_loss", "x").points == [(0.0, 1.37), (2.0, 1.1)]
