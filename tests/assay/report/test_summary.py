"""What is said of the approaches follows from paired tests on their predictions, and the script of the docs agrees."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.core.errors import InputError
from assay.core.outputs import write_json
from assay.fine_tuning.params import BASELINES
from assay.report.comparison import compare_approaches, say_verdict, score_raters, score_sources
from assay.report.sections import comparison_rows
from assay.report.summary import ranked, seed_range
from assay.statistics.predictions import Predictions, format_predictions, predictions_file, read_predictions

ROWS = 300
NAMES = [f"r{number}" for number in range(ROWS)]
SOURCES = ["few"] * 10 + ["many"] * (ROWS - 10)
LABEL = np.arange(ROWS) % 3
QUALITY = {"full": 0.85, "lora": 0.845, "tfidf": 0.6}


def text_of(quality: float, seed: int, label: np.ndarray = LABEL) -> str:
    random = np.random.default_rng(seed)
    predicted = np.where(random.random(ROWS) < quality, label, (label + 1) % 3)
    return format_predictions(NAMES, NAMES, SOURCES, ["a", "b", "c"], label, predicted[None], {})


def read(**qualities: float) -> dict[str, Predictions]:
    found = {
        name: read_predictions(text_of(of_it, 10 + place)) for place, (name, of_it) in enumerate(qualities.items())
    }
    return {name: one for name, one in found.items() if one is not None}


def summary_of(**qualities: float) -> dict[str, Any]:
    verdicts = compare_approaches(read(**qualities), np.random.default_rng(1))
    scores = {
        name: {"rows": ROWS, "seeds": 1, "macro_f1": one, "accuracy": one, "last_epoch_gain": 0.0}
        for name, one in qualities.items()
    }
    return {
        "approaches": {name: value for name, value in scores.items() if name not in BASELINES},
        "baselines": {name: value for name, value in scores.items() if name in BASELINES},
        "verdicts": verdicts,
        "few_test_rows": {},
        "raters": {},
        "labels": 3,
    }


def test_the_tied_are_named_and_the_rest_are_worse() -> None:
    summary = summary_of(**QUALITY)
    found = summary["verdicts"]
    assert (found["decided_on"], found["pairs"]) == ("macro_f1", 3)
    assert set(found["best_group"]) == {"full", "lora"}
    assert found["to_best"]["tfidf"]["verdict"] == "worse"
    assert found["to_best"]["tfidf"]["difference_ci95_high"] < 0
    sentence = say_verdict(summary)
    assert "Not decided against it, and so as good as far as these rows tell: " in sentence
    assert "This test set finds a true difference of 0.0" in sentence
    assert sentence.endswith("Settings by hand, one seed: full, lora; another seed may change the order.")
    assert [row[-1] for row in comparison_rows(summary)] == ["best", "not decided", "worse"]


def test_verdict_says_what_was_trained_too_shortly() -> None:
    summary = summary_of(**QUALITY)
    summary["approaches"]["full"]["last_epoch_gain"], summary["approaches"]["lora"]["last_epoch_gain"] = 0.0412, 0.004
    said = "On validation macro-F1 still rose in the last epoch of full (by 0.041): more epochs may raise it"
    assert said in say_verdict(summary)


def test_verdict_says_when_a_baseline_wins_or_is_alone() -> None:
    won = say_verdict(summary_of(full=0.5, tfidf=0.8))
    assert won.startswith("No way of fine-tuning is above the baselines: tfidf has the highest macro-F1")
    assert "It is better than each of the others." in won
    assert "there is nothing to compare it with" in say_verdict(summary_of(full=0.5))


def test_equal_scores_are_ranked_by_name() -> None:
    same = read(lora=0.7) | {"full": read(lora=0.7)["lora"]}
    verdicts = compare_approaches(same, np.random.default_rng(1))
    assert [name for name, _ in ranked({"approaches": dict.fromkeys(same), "baselines": {}, "verdicts": verdicts})] == [
        "full", "lora",
    ]  # fmt: skip
    assert verdicts["to_best"]["lora"] == {"difference": 0.0, "p": 1.0, "p_holm": 1.0, "verdict": "not decided"}


def test_few_rows_of_a_label_are_said() -> None:
    summary = summary_of(full=0.5) | {"few_test_rows": {"c": 4}}
    assert "(c (4))." in say_verdict(summary)
    summary["verdicts"]["decided_on"] = "accuracy"
    sentence = say_verdict(summary)
    assert "1 of 3 labels have under 20 test rows (c (4)): macro-F1 has no interval, and accuracy decides." in sentence


def test_other_rows_are_refused() -> None:
    other = read_predictions(text_of(0.8, 1, np.roll(LABEL, 1)))
    assert other is not None
    with pytest.raises(InputError, match=r"lora\.json: other test rows or labels than .*full\.json"):
        compare_approaches(read(full=0.7) | {"lora": other}, np.random.default_rng(1))


def test_a_source_of_few_rows_has_no_interval() -> None:
    found = score_sources(read(**QUALITY))
    assert {name: one["rows"] for name, one in found.items()} == {"few": 10, "many": 290}
    assert "accuracy_ci95_low" not in found["few"]["approaches"]["full"]
    assert "accuracy_ci95_low" in found["many"]["approaches"]["full"]


def test_the_spread_of_seeds_is_of_several() -> None:
    scores = {"0": {"macro_f1": 0.7, "accuracy": 0.8}, "1": {"macro_f1": 0.6, "accuracy": 0.9}}
    assert seed_range(scores)["macro_f1_seed_min"] == 0.6
    assert seed_range(scores)["accuracy_seed_max"] == 0.9
    assert seed_range({"0": scores["0"]}) == {}


def test_raters_are_scored_on_rows_that_several_rated() -> None:
    test = pl.DataFrame({"id": NAMES, "target_label": np.array(["a", "b", "c"])[LABEL]})
    right = test.select("id", label="target_label")
    # Of four ratings one is wrong: a rater is right on three quarters, and every half says what the label is.
    wrong = right.with_columns(label=pl.col("label").replace({"a": "b", "b": "c", "c": "a"}))
    ratings = pl.concat([right, right, right, wrong])
    found = score_raters(test, ratings, np.arange(ROWS), np.random.default_rng(1))
    assert found["one_rater"]["accuracy"] == pytest.approx(0.75, abs=0.02)
    assert found["one_rater"]["accuracy_ci95_low"] < 0.75 < found["one_rater"]["accuracy_ci95_high"]
    # One half is right, the other tied: the first label wins, as all are as frequent. Of two of three rows it is right.
    assert found["half_of_raters"]["accuracy"] == pytest.approx(2 / 3)
    everybody = score_raters(test, pl.concat([right, right]), np.arange(ROWS), np.random.default_rng(1))
    assert everybody["half_of_raters"]["macro_f1"] == 1
    assert score_raters(test, right, np.arange(ROWS), np.random.default_rng(1)) == {}


def test_the_script_of_the_docs_reproduces_each_verdict(tmp_path: Path) -> None:
    for place, (name, quality) in enumerate(QUALITY.items()):
        file = tmp_path / predictions_file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text_of(quality, 10 + place))
    write_json(tmp_path / "metrics/summary.json", summary_of(**QUALITY))
    assert run_docs_script(tmp_path).splitlines()[-1] == "2 of 2 verdicts reproduced"


@pytest.mark.figures
def test_the_script_of_the_docs_reproduces_the_committed_verdicts() -> None:
    found = re.fullmatch(r"(\d+) of (\d+) verdicts reproduced", run_docs_script(ROOT).splitlines()[-1])
    assert found is not None
    assert found[1] == found[2] != "0"


ROOT = Path(__file__).parents[3]


def run_docs_script(folder: Path) -> str:
    """What the Python script of docs/statistics.md prints in a folder, which uses nothing of this repository."""
    script = (ROOT / "docs/statistics.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True).stdout
