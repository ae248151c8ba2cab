import sys
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from assay.classifiers.checkpoint import new_classifier, save_classifier
from assay.core.errors import InputError
from assay.fine_tuning import adapters
from assay.fine_tuning.params import LowRankAdapter
from tools.export import onnx

LOW_RANK = LowRankAdapter(rank=4, alpha=8, dropout=0.0, target_modules="all-linear", rank_stabilised=False, dora=False)

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")


@pytest.fixture
def models(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    compute = {
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "checkpoint_seconds": 600.0,
        "backend": "processes",
    }
    Path("params.yaml").write_text(yaml.safe_dump({"compute": compute}))
    Path("data/split").mkdir(parents=True)
    texts = ["good card", "the bank is awful today, and the app is slow", "x", "love my app"]
    pl.DataFrame({"text": texts}).write_parquet("data/split/test.parquet")
    torch.manual_seed(1)
    base, tokenizer = new_classifier(str(tiny_encoder), ["negative", "positive"], "mean")
    model = adapters.lora(base, "SEQ_CLS", LOW_RANK)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) if parameter.requires_grad else 0.0)
    save_classifier(model, tokenizer, 32, Path("models/finetuned/lora"))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, approach: str) -> None:
    monkeypatch.setattr(sys, "argv", ["export_onnx", approach])
    onnx.main()


@pytest.mark.slow
def test_an_exported_model_says_the_same(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "lora")
    assert (models / "models/onnx/lora/model.onnx").is_file()
    assert "at most on 4 test texts" in capsys.readouterr().out


def test_one_that_says_something_else_is_not_kept(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(InputError, match=r"logits differ by .* the export is not kept"):
        run(monkeypatch, "lora")
    assert not (models / "models/onnx/lora").exists()


def test_a_model_that_is_not_there_is_an_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such model of transformers; there are lora"):
        run(monkeypatch, "full")
