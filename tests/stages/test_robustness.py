import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from pydantic import TypeAdapter

from assay.augmentation.recipes import AnyRecipe
from assay.augmentation.textattack_import import write_textattack_data
from assay.classifiers.predict import load_predictor, predict
from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError
from assay.core.outputs import read_json, write_text
from stages import evaluate, finetune, robustness
from tests.mini_wordnet import write_mini_wordnet
from tests.own_params import COMPUTE, change
from tests.own_process import run_main, run_python
from tests.stages.test_finetune import TRAINING
from tests.template_params import read_template_params, sections

# TextAttack's, of its own logging.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")

FULL = {"method": "full", **TRAINING, "seeds": [0, 5], "max_epochs": 3, "patience_epochs": 3}
FEW = {"attacked_rows": 8, "query_budget": 30, "batch_size": 8, "bootstrap_samples": 100}
ROBUSTNESS: dict[str, Any] = sections(robustness=FEW)["robustness"]
for _recipe in ROBUSTNESS["recipes"]:
    _recipe["share_of_words"] = 0.2
TEXTS = {
    "negative": ["an awful movie", "hate the slow phone", "a broken card"],
    "positive": ["a great movie", "love my cheap phone", "really happy, card works"],
}


def table(count: int, prefix: str) -> pl.DataFrame:
    """Rows of two labels in turn, every second with placeholders; each fifth given label is wrong."""
    random = np.random.default_rng(1)
    rows = []
    for index in range(count):
        label = ("negative", "positive")[index % 2]
        text = f"{random.choice(TEXTS[label])} {random.choice(['today', 'now', 'account', 'money'])}"
        text += (" <URL> ask <EMAIL>", "")[index // 2 % 2]
        given = ("positive", "negative")[index % 2] if index % 5 == 0 else label
        rows.append((f"{prefix}{index}", text, given if prefix == "t" else label, label if index % 5 == 0 else None))
    made = pl.DataFrame(rows, schema=["id", "text", "label", "reference_label"], orient="row")
    return made.with_columns(split_group="id", source=pl.lit("tweets"))


@pytest.fixture(autouse=True)
def workspace(tiny_encoder: Path) -> None:
    """Data, params, WordNet and the tiny encoder, laid out as the pipeline does; the current folder."""
    clean = read_template_params()["clean"]
    clean["max_tokens"]["tokenizer"] = str(tiny_encoder / "tokenizer.json")
    params = {
        "seed": 3,
        "clean": clean,
        "compute": COMPUTE,
        "template_arguments": {},
        "finetune": {
            "majority": {"method": "majority"},
            "tfidf": {"method": "tfidf", "max_word_ngram": 1, "min_document_frequency": 1, "C": 3.0},
            "full": FULL | {"model": str(tiny_encoder)},
        },
        "augment": {"wordnet": "wordnet", "own_tokens": []},
        "evaluate": {"batch_size": 8, "simulations": 100, "calibration_bins": 10},
        "robustness": ROBUSTNESS,
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_mini_wordnet(Path("wordnet"))
    table(96, "a").drop("reference_label").write_parquet("data/augmented/train.parquet", mkdir=True)
    table(24, "v").write_parquet("data/split/validation.parquet", mkdir=True)
    table(40, "t").write_parquet("data/split/test.parquet")


def written(approach: str) -> bytes:
    table = Path(f"data/robustness/{approach}/attacks.parquet").read_bytes()
    return table + Path(f"metrics/robustness/{approach}.json").read_bytes()


@pytest.mark.parametrize("approach", ["tfidf", "full"])
def test_a_model_is_perturbed_and_attacked(approach: str) -> None:
    run_main(finetune, approach)
    run_main(evaluate, approach)
    run_main(robustness, approach)
    metrics = read_json(f"metrics/robustness/{approach}.json")
    assert metrics["rows"] == 40

    # As `evaluate` has it, of the first seed's model.
    scores = next(iter(read_json(f"metrics/evaluate/{approach}.json")["per_seed"].values()))
    assert list(metrics["perturbations"]) == ["synonym", "character_noise"]
    for of_recipe in metrics["perturbations"].values():
        assert 0 < of_recipe["rows_changed_share"] <= 1
        for name in ("accuracy", "macro_f1"):
            before, after, difference = (of_recipe[f"{name}_{of}"] for of in ("before", "after", "difference"))
            assert before == pytest.approx(scores[name], abs=1e-5)
            assert difference == pytest.approx(after - before, abs=2e-6)
            if f"{name}_difference_ci95_low" in of_recipe:
                low, high = (of_recipe[f"{name}_difference_ci95_{end}"] for end in ("low", "high"))
                assert low <= difference <= high

    ended = pl.read_parquet(f"data/robustness/{approach}/attacks.parquet")
    assert ended.schema == robustness.ATTACKS_SCHEMA
    test = pl.read_parquet("data/split/test.parquet").with_columns(truth=pl.coalesce("reference_label", "label"))
    predictions = pl.read_parquet(f"data/predictions/{approach}/predictions.parquet").select("id", "predicted_label")
    rows = ended.join(test, on="id", how="left", maintain_order="left").join(predictions, on="id", how="left")
    assert rows["before"].equals(rows["text"])
    assert rows["label"].equals(rows["truth"])
    assert ((rows["predicted_label"] != rows["label"]) == (rows["result"] == "skipped")).all()
    assert (ended["queries"] <= 30).all()
    skipped = ended.filter(pl.col("result") == "skipped")
    assert skipped["after"].null_count() == skipped.height
    for before, after in ended.filter(pl.col("result") != "skipped").select("before", "after").iter_rows():
        assert re.findall(r"<\w+>", after) == re.findall(r"<\w+>", before)

    assert list(metrics["attacks"]) == ["deep_word_bug", "wordnet"]
    for name, figures in metrics["attacks"].items():
        of_one = ended.filter(pl.col("attack") == name)
        counts = of_one["result"].value_counts().rows()
        count = {"succeeded": 0, "failed": 0, "skipped": 0} | dict(counts)
        assert figures["rows"] == of_one.height == of_one["id"].n_unique() == 8
        assert figures["attacked"] == count["succeeded"] + count["failed"] > 0
        assert figures["succeeded"] == count["succeeded"] <= figures["alterable"] <= figures["attacked"]
        assert figures["success_rate"] == pytest.approx(count["succeeded"] / figures["attacked"], abs=1e-6)
        low, high = (figures[f"success_rate_ci95_{end}"] for end in ("low", "high"))
        assert 0 <= low <= figures["success_rate"] <= high <= 1
        assert figures["accuracy_under_attack"] == pytest.approx(count["failed"] / 8)
        assert (figures["changed_words_share"] is None) == (count["succeeded"] == 0)
        assert 1 <= figures["queries_per_attack"] <= 30
    # Asked again, the model is misled as the attack says.
    misled = ended.filter(pl.col("result") == "succeeded")
    assert misled.height
    device = prepare_device(Compute.model_validate(COMPUTE))
    said = predict(Path("models/finetuned") / approach, misled["after"].to_list(), 8, device, "test")
    assert all(answer != label for answer, label in zip(said.predicted_labels(), misled["label"], strict=True))


def test_own_tokens_are_altered_by_no_recipe_and_no_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    change("augment", own_tokens=["[movie]", "awful great"])
    test = pl.read_parquet("data/split/test.parquet")
    test.with_columns(text=pl.format("[movie] awful great {}", "text")).write_parquet("data/split/test.parquet")
    seen = list[str]()
    run_main(finetune, "tfidf")

    def load(folder: Path, device: Any) -> Any:
        inner, labels = load_predictor(folder, device)

        def predictor(texts: list[str], *more: Any) -> Any:
            seen.extend(texts)
            return inner(texts, *more)

        return predictor, labels

    monkeypatch.setattr(robustness, "load_predictor", load)
    run_main(robustness, "tfidf")
    assert len(set(seen)) > 40
    assert all(text.startswith("[movie] awful great ") for text in seen)
    ended = pl.read_parquet("data/robustness/tfidf/attacks.parquet")
    assert ended.select(pl.col("before", "after").str.starts_with("[movie] awful great ").all()).row(0) == (True, True)


def test_a_predictor_predicts_what_predict_does() -> None:
    run_main(finetune, "full")
    texts = table(20, "t")["text"].to_list()
    device = prepare_device(Compute.model_validate(COMPUTE))
    predictor, labels = load_predictor(Path("models/finetuned/full"), device)
    said = predict(Path("models/finetuned/full"), texts, 8, device, "test")
    assert labels == said.labels
    np.testing.assert_array_equal(predictor(texts, 8, None), said.probabilities)
    one_by_one = np.concatenate([predictor([text], 8, None) for text in texts])
    np.testing.assert_allclose(one_by_one, said.probabilities, atol=1e-6)


def test_the_majority_class_cannot_be_misled() -> None:
    run_main(finetune, "majority")
    run_main(robustness, "majority")
    metrics = read_json("metrics/robustness/majority.json")
    for of_recipe in metrics["perturbations"].values():
        assert [value for name, value in of_recipe.items() if "difference" in name] == [0.0] * 2
    assert {figures["succeeded"] for figures in metrics["attacks"].values()} == {0}
    assert {figures["changed_words_share"] for figures in metrics["attacks"].values()} == {None}


def test_rows_that_are_all_wrong_leave_nothing_to_attack() -> None:
    run_main(finetune, "tfidf")
    turned = {"negative": "positive", "positive": "negative"}
    test = table(40, "t").with_columns(
        label=pl.coalesce("reference_label", "label").replace(turned), reference_label=pl.lit(None, pl.String)
    )
    test.write_parquet("data/split/test.parquet")
    change("robustness", recipes=[])
    run_main(robustness, "tfidf")
    metrics = read_json("metrics/robustness/tfidf.json")
    assert metrics["perturbations"] == {}
    for figures in metrics["attacks"].values():
        assert (figures["rows"], figures["attacked"], figures["accuracy_under_attack"]) == (8, 0, 0.0)
        assert figures["success_rate"] is None is figures["success_rate_ci95_low"] is figures["queries_per_attack"]


def test_rows_are_sampled_by_their_ids() -> None:
    rows = table(60, "t")
    drawn = robustness.sample_rows(rows, 20, 3)
    assert drawn.height == 20
    assert set(robustness.sample_rows(rows.reverse(), 20, 3)["id"]) == set(drawn["id"])
    assert set(robustness.sample_rows(rows, 10, 3)["id"]) < set(drawn["id"])
    assert set(robustness.sample_rows(rows, 20, 4)["id"]) != set(drawn["id"])
    assert robustness.sample_rows(rows, 100, 3).equals(rows)


def test_a_row_is_altered_whatever_the_others_are(tmp_path: Path) -> None:
    write_textattack_data(Path("wordnet"), tmp_path / "scratch")
    rows = table(60, "t")
    for block in ROBUSTNESS["recipes"]:
        recipe = TypeAdapter(AnyRecipe).validate_python(block)
        altered = robustness.alter_texts(rows, recipe, 3, tmp_path / "scratch")
        assert robustness.alter_texts(rows.reverse(), recipe, 3, tmp_path / "scratch") == altered[::-1]
        assert robustness.alter_texts(rows, recipe, 4, tmp_path / "scratch") != altered
        for before, after in zip(rows["text"], altered, strict=True):
            assert re.findall(r"<\w+>", after) == re.findall(r"<\w+>", before)


@pytest.mark.slow
def test_same_bytes_for_any_hash_seed() -> None:
    run_main(finetune, "tfidf")
    # This process has a hash seed of its own, and has drawn before.
    run_main(robustness, "tfidf")
    first = written("tfidf")
    done = run_python("-m", "stages.robustness", "tfidf", PYTHONHASHSEED="1")
    assert written("tfidf") == first
    # Nothing of TextAttack's on the terminal.
    assert re.sub(r"(augment|attack) \w+: .+\n", "", done.stderr) == ""


def test_what_was_skipped_is_not_attacked(capsys: pytest.CaptureFixture[str]) -> None:
    write_text("models/finetuned/qlora/left_out.txt", "no 4-bit arithmetic here\n")
    run_main(robustness, "qlora")
    assert read_json("metrics/robustness/qlora.json")["left_out"] == "no 4-bit arithmetic here"
    assert Path("data/robustness/qlora/left_out.txt").read_text() == "no 4-bit arithmetic here\n"
    assert capsys.readouterr().err == "robustness@qlora: left out of the comparison: no 4-bit arithmetic here\n"


def test_an_unknown_approach_lists_those_there() -> None:
    with pytest.raises(InputError, match="models/finetuned/adapter: no model there; there are none"):
        run_main(robustness, "adapter")
    run_main(finetune, "tfidf")
    with pytest.raises(InputError, match=r"there are tfidf\. Name one .*dvc repro finetune@adapter"):
        run_main(robustness, "adapter")
    assert not Path("data/robustness").exists()
