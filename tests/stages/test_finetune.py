import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import polars as pl
import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from stages import evaluate, finetune
from stages.lib import adapters
from stages.lib.artifacts import read_json
from stages.lib.batches import tokenise
from stages.lib.classifier import new_classifier, predict_logits, save_classifier
from stages.lib.device import Compute, prepare_device
from stages.lib.errors import InputError
from stages.lib.training import learning_rate_factor

COMPUTE = {"device": "cpu", "precision": "float32", "threads": 1}
TRAINING = {
    "max_length_tokens": 32,
    "max_epochs": 12,
    "patience_epochs": 12,
    "batch_size": 16,
    "learning_rate": 0.005,
    "weight_decay": 0.01,
    "warmup_fraction": 0.1,
    "max_gradient_norm": 1.0,
}
BLOCKS: dict[str, dict[str, Any]] = {
    "majority": {"method": "majority"},
    "tfidf": {"method": "tfidf", "max_word_ngram": 2, "min_document_frequency": 1, "l2_strength": 3.0},
    "linear_probe": {"method": "linear_probe", **TRAINING, "learning_rate": 0.5},
    "lora": {
        "method": "lora",
        "rank": 4,
        "alpha": 8,
        "dropout": 0.1,
        "target_modules": "all-linear",
        **TRAINING,
        "learning_rate": 0.02,
    },
    "full": {"method": "full", **TRAINING},
}
FINE_TUNED = ["linear_probe", "lora", "full"]
TEXTS = {
    "negative": ["awful bank", "hate the slow app", "broken card again"],
    "positive": ["great card", "love my app"],
}


def table(count: int, prefix: str) -> pl.DataFrame:
    random = np.random.default_rng(1)
    rows = []
    for index in range(count):
        label = ("negative", "positive")[index % 2]
        text = f"{random.choice(TEXTS[label])} {random.choice(['today', 'now', 'account', 'money'])}"
        rows.append((f"{prefix}{index}", text, label, label if index % 3 else None))
    return pl.DataFrame(rows, schema=["id", "text", "label", "reference_label"], orient="row")


@pytest.fixture
def workspace(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data, params and the tiny encoder, laid out as the pipeline does; the current folder."""
    monkeypatch.chdir(tmp_path)
    blocks = {
        name: block | ({"model": str(tiny_encoder)} if "max_epochs" in block else {}) for name, block in BLOCKS.items()
    }
    scoring = {"batch_size": 8, "bootstrap_samples": 100, "calibration_bins": 10}
    params = {"seed": 3, "compute": COMPUTE, "finetune": blocks, "evaluate": scoring}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for folder in ("data/augmented", "data/split"):
        (tmp_path / folder).mkdir(parents=True)
    table(96, "a").drop("reference_label").write_parquet("data/augmented/train.parquet")
    table(24, "v").write_parquet("data/split/validation.parquet")
    table(30, "t").write_parquet("data/split/test.parquet")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, stage: Any, approach: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", approach])
    stage.main()


def tree_hash(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("approach", list(BLOCKS))
def test_an_approach_trains_and_is_scored(workspace: Path, monkeypatch: pytest.MonkeyPatch, approach: str) -> None:
    run(monkeypatch, finetune, approach)
    metrics = read_json(f"metrics/finetune/{approach}.json")
    assert metrics["rows_train"] == 96
    assert metrics["trainable_parameters"] > 0
    assert metrics["trainable_parameters"] <= metrics["total_parameters"]
    assert metrics["train_seconds"] > 0
    assert metrics["peak_memory_mib"] > 100
    losses = pl.read_csv(f"metrics/plots/loss/{approach}.csv")
    assert losses["step"].to_list() == list(range(1, metrics["steps"] + 1))
    epochs = pl.read_csv(f"metrics/plots/validation/{approach}.csv")
    assert epochs["macro_f1"].max() == pytest.approx(metrics["validation_macro_f1"], abs=1e-5)
    assert epochs["epoch"][int(epochs["macro_f1"].arg_max() or 0)] == metrics["best_epoch"]

    run(monkeypatch, evaluate, approach)
    scores = read_json(f"metrics/evaluate/{approach}.json")
    for name in ("accuracy", "macro_f1", "expected_calibration_error"):
        assert 0 <= scores[f"{name}_ci95_low"] <= scores[f"{name}_ci95_high"] <= 1
    assert scores["macro_f1_ci95_low"] <= scores["macro_f1"] <= scores["macro_f1_ci95_high"]
    assert (scores["accuracy"] > 0.8) == (approach != "majority")
    predictions = pl.read_parquet(f"data/predictions/{approach}/predictions.parquet")
    assert predictions["id"].to_list() == [f"t{index}" for index in range(30)]
    total = predictions.select(pl.sum_horizontal("probability_negative", "probability_positive")).to_series()
    np.testing.assert_allclose(total.to_numpy(), 1.0)
    assert scores["accuracy"] == pytest.approx((predictions["predicted_label"] == predictions["target_label"]).mean())


def reference_logits(folder: Path, texts: list[str]) -> torch.Tensor:
    """Logits by `transformers` and `peft` alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / "adapter_config.json").exists():
        base = peft.PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
        model = AutoModelForSequenceClassification.from_pretrained(base, config=AutoConfig.from_pretrained(folder))
        model = peft.PeftModel.from_pretrained(model, str(folder))
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    return logits


@pytest.mark.parametrize("approach", FINE_TUNED)
def test_the_saved_folder_gives_identical_logits(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, approach: str
) -> None:
    kept: list[Any] = []
    save = save_classifier

    def keep(model: Any, *rest: Any) -> None:
        kept.append(model.eval())
        save(model, *rest)

    monkeypatch.setattr(finetune, "save_classifier", keep)
    run(monkeypatch, finetune, approach)
    folder = workspace / "models/finetuned" / approach
    texts = ["great card today", "awful bank", "x"]
    encoded = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        trained = kept[0](**encoded).logits
    assert torch.equal(reference_logits(folder, texts), trained)
    assert AutoConfig.from_pretrained(folder).id2label == {0: "negative", 1: "positive"}


def test_cached_features_are_what_the_frozen_encoder_gives_the_head(tiny_encoder: Path) -> None:
    model, tokenizer = new_classifier(str(tiny_encoder), ["a", "b", "c"])
    model = adapters.linear_probe(model)
    device = prepare_device(Compute(**COMPUTE))  # type: ignore[arg-type]
    rows = tokenise(tokenizer, ["good card", "the bank is awful today", "x"], 16)
    features = finetune.frozen_features(model, rows, 2, device)
    name, head = adapters.head_of(model)
    assert name == "classifier"
    with torch.inference_mode():
        logits = head(features).numpy()
    np.testing.assert_allclose(logits, predict_logits(model, rows, 3, 2, device, "test"), atol=1e-6)
    assert [key for key, value in model.named_parameters() if value.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]


@pytest.mark.slow
def test_the_same_bytes_for_any_hash_seed(workspace: Path, repository: Path) -> None:
    trees = []
    for hash_seed in ("0", "1"):
        subprocess.run(
            [sys.executable, "-m", "stages.finetune", "lora"],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(repository)},
        )
        trees.append(tree_hash(workspace / "models/finetuned/lora"))
    assert trees[0] == trees[1]


def test_the_same_bytes_again(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = []
    for _ in range(2):
        for approach in ("tfidf", "full"):
            run(monkeypatch, finetune, approach)
        trees.append([tree_hash(workspace / "models/finetuned" / name) for name in ("tfidf", "full")])
        torch.rand(7)
    assert trees[0] == trees[1]


def change(path: str, value: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    *parents, last = path.split(".")
    node = params
    for parent in parents:
        node = node[parent]
    node[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


def test_a_rank_on_a_linear_probe_is_an_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change("finetune.linear_probe.rank", 8)
    with pytest.raises(InputError, match="rank` = 8 is not a known key"):
        run(monkeypatch, finetune, "linear_probe")


def test_a_learning_rate_read_as_text_is_an_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change("finetune.full.learning_rate", "2e-5")
    with pytest.raises(InputError, match=r"write 2\.0e-5"):
        run(monkeypatch, finetune, "full")


def test_an_unknown_approach_lists_those_there(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"finetune\.qlora` is missing.*'full'"):
        run(monkeypatch, finetune, "qlora")


def test_a_base_model_that_is_not_there_is_an_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change("finetune.full.model", "models/base/absent")
    with pytest.raises(InputError, match="models/base/absent: no model there"):
        run(monkeypatch, finetune, "full")
    assert not list((workspace / "models").rglob("*.safetensors"))


def test_a_validation_label_without_train_rows_is_an_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(4, "v").with_columns(label=pl.lit("odd")).write_parquet("data/split/validation.parquet")
    with pytest.raises(InputError, match="row v0 has the label 'odd'"):
        run(monkeypatch, finetune, "majority")


def test_test_rows_without_a_known_label_are_an_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, finetune, "majority")
    table(4, "t").with_columns(label=pl.lit("odd"), reference_label=None).write_parquet("data/split/test.parquet")
    with pytest.raises(InputError, match="'odd', which the model does not know; it knows negative, positive"):
        run(monkeypatch, evaluate, "majority")


def test_a_diverging_loss_says_what_to_lower(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda logits, targets: logits.sum() * float("nan"))
    with pytest.raises(InputError, match=r"not finite in epoch 1; lower `learning_rate` = 0\.005"):
        run(monkeypatch, finetune, "full")


def test_the_schedule_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate_factor(step, 4, 10) for step in range(11)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("approach", FINE_TUNED)
def test_an_approach_trains_on_cuda(workspace: Path, monkeypatch: pytest.MonkeyPatch, approach: str) -> None:
    change("compute", {"device": "cuda", "precision": "auto", "threads": 1})
    run(monkeypatch, finetune, approach)
    run(monkeypatch, evaluate, approach)
    assert read_json(f"metrics/evaluate/{approach}.json")["accuracy"] > 0.9


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_and_not_there_is_an_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change("compute.device", "cuda")
    with pytest.raises(InputError, match="PyTorch sees no CUDA device"):
        run(monkeypatch, finetune, "full")
