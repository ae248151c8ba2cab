"""A saved model in use: the labels and scores of `evaluate`, from texts as they come."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assay.classifiers.inference_file import INFERENCE_FILE
from assay.cleaning.rules import TextCleaning
from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.inference import load
from assay.probes import apply_temperature
from stages import evaluate, finetune
from tests.own_params import change
from tests.own_process import run_main, run_python
from tests.stages.test_finetune import workspace as workspace

FOLDER = Path("models/finetuned/tfidf")


def test_what_travels_with_a_model_is_what_is_about_one_text() -> None:
    assert set(finetune.CLEANING) == set(TextCleaning.model_fields)


@pytest.mark.parametrize(
    "approach", ["majority", "tfidf", "knn", "prompted", "linear_probe", "lora", "full_cls", "full_decoder"]
)
def test_labels_and_scores_are_those_of_evaluate(workspace: Path, approach: str) -> None:
    run_main(finetune, approach)
    run_main(evaluate, approach)
    expected = pl.read_parquet(f"data/predictions/{approach}/predictions.parquet")
    classifier = load(f"models/finetuned/{approach}", wanted_precision=0.6)
    # As a raw file has them: cleaning takes out what the model has not seen in training.
    found = classifier.predict([f"  {text}\u200b " for text in expected["text"]], 7)
    assert found["label"].to_list() == expected["predicted_label"].to_list()
    of_label = expected.select(f"probability_{name}" for name in classifier.labels).to_numpy()
    calibrated = apply_temperature(of_label, classifier.temperature).max(axis=1)
    np.testing.assert_allclose(found["probability"].to_numpy(), calibrated, atol=1e-5)
    least = classifier.threshold.probability
    assert found["is_sure"].to_list() == [least is not None and value >= least for value in found["probability"]]
    validation = read_json(f"models/finetuned/{approach}/{INFERENCE_FILE}")["validation"]
    right = read_json(f"metrics/finetune/{approach}.json")["validation_accuracy"]
    assert np.mean(validation["is_right"]) == pytest.approx(right, abs=1e-6)


@pytest.fixture
def words(workspace: Path) -> Path:
    """TF-IDF, saved."""
    run_main(finetune, "tfidf")
    return workspace


def test_a_row_for_each_text_and_a_reason_where_there_is_no_label(words: Path) -> None:
    texts = ["great card", None, "", " \u200b", "x", "<b></b>", "ab" * 6000, "great card", "awful bank"]
    found = load(FOLDER, wanted_precision=0.6).predict(texts)
    assert found.schema == {"label": pl.String, "probability": pl.Float64, "is_sure": pl.Boolean, "reason": pl.String}
    assert found["reason"].to_list() == [
        *(None, "missing_text", "missing_text", "missing_text", "min_characters", "empty_text", "max_characters"),
        *(None, None),
    ]
    assert found["label"].is_null().to_list() == found["reason"].is_not_null().to_list()
    assert found["is_sure"].null_count() == 0
    assert found[0].equals(found[7])
    assert load(FOLDER, wanted_precision=0.6).predict([]).height == 0


def test_a_rule_for_some_sources_is_not_applied_and_one_for_all_of_them_is(words: Path) -> None:
    change("clean.rules", redact_email=["tweets"], redact_url=["tweets", "other"])
    run_main(finetune, "tfidf")
    assert load(FOLDER, wanted_precision=0.6).rules_not_applied == []
    write_json(FOLDER / INFERENCE_FILE, read_json(FOLDER / INFERENCE_FILE) | {"sources": ["mails", "other", "tweets"]})
    assert load(FOLDER, wanted_precision=0.6).rules_not_applied == ["redact_email", "redact_url"]


def test_the_folder_and_the_package_are_all_that_is_needed(
    words: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    FOLDER.rename(elsewhere / "tfidf")
    code = "import sys; from assay.inference import load; found = load('tfidf', wanted_precision=0.6)"
    code += ".predict(['great card']); print(found['label'][0]); assert 'torch' not in sys.modules"
    assert run_python("-c", code, cwd=elsewhere).stdout.strip() == "positive"


@pytest.mark.parametrize(
    ("folder", "precision", "message"),
    [
        (
            "models/finetuned/absent",
            0.9,
            r"absent/inference.json: no such file; there are models in \['models/finetuned/tfidf'",
        ),
        (FOLDER, 1.0, "the wanted precision is 1.0; it must be between 0 and 1"),
        (FOLDER, None, "section `inference` is missing"),
    ],
)
def test_what_cannot_be_loaded_says_why(words: Path, folder: Path | str, precision: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(folder, wanted_precision=precision)
